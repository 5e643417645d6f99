import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { placeOfUri } from "./uri.js";

const shown = (uri: string) => {
  const place = placeOfUri(uri);
  return place && `${place.host}|${place.path}`;
};

describe("the place of a URI", () => {
  it.each([
    ["shop.example.com", "shop.example.com|"],
    ["Shop.EXAMPLE.com/Cart", "shop.example.com|/Cart"],
    ["shop.example.com/", "shop.example.com|"],
    ["shop.example.com/cart///?x=/y", "shop.example.com|/cart"],
    ["shop.example.com?x", "shop.example.com|"],
    ["*.example.com/a/b", "*.example.com|/a/b"],
    ["under_score.example.com", "under_score.example.com|"],
    ["localhost", "localhost|"],
    ["10.0.0.1", "10.0.0.1|"],
    ["shop.example.com/caf%C3%A9", "shop.example.com|/caf%C3%A9"],
  ])("of %s is %s", (uri, expected) => {
    expect(shown(uri)).toBe(expected);
  });

  it.each([
    "",
    "/",
    "/path",
    "*",
    "a.*.example.com",
    "a b",
    "host:80",
    "http://shop.example.com",
    "shop..example.com",
    ".example.com",
    "shop.example.com.",
    "shop.example.com/a b",
    "shop.example.com/#x",
    "shop.example.com/\u0000",
    "café.example.com",
    "x".repeat(254),
    `a/${"x".repeat(2_048)}`,
  ])("of %j is none", (uri) => {
    expect(placeOfUri(uri)).toBeUndefined();
  });

  it("is its own place when it is written as a URI again", () => {
    fc.assert(
      fc.property(fc.stringMatching(/^(\*\.)?[A-Za-z0-9_.-]{1,12}(\/[A-Za-z0-9/%?]{0,12})?$/), (uri) => {
        const place = placeOfUri(uri);
        if (place) expect(placeOfUri(place.host + place.path)).toEqual(place);
      }),
    );
  });
});
