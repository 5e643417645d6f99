import { describe, expect, it } from "vitest";
import { deriveKey, readSignature, sign, type SignatureKeys } from "./signature.js";

/** Made by a program in Go, with its own crypto, for the secret "a shared secret". */
const FROM_GO = {
  signature:
    "hrsosn7tm14VdQg1Ct5ZhPu7B-Y2rR2hZhOYynKfHbLI_d4cloNDzFBsM6QS4ZMNqNT15z4CR0q9BiNPZG5cIkTjmTZEC6qVgrNVxxjuT2Poi2jXGhFgFGe_AdWkevUxuR7ccMH2kkscCBNKQ_8l6Sg8TaOLM0HNM5ZaLpznECyDhYXo0w==",
  metadata: "eyJub25jZSI6ImRIZGxiSFpsSUdKNWRHVnoifQ==",
};
const SIGNED = {
  forwardedUrl: "https://shop.example.com/cart?a=1&b=2",
  requestedMs: Date.UTC(2026, 0, 31, 11, 0, 0, 123),
};

const keys: SignatureKeys = { current: deriveKey("a shared secret"), former: undefined };

describe("a route service's signature", () => {
  it("is read as routers in Go write it", () => {
    expect(readSignature(FROM_GO, keys)).toEqual(SIGNED);
  });

  it("is read as it was written, and differs each time", () => {
    const [one, other] = [sign(SIGNED, keys.current), sign(SIGNED, keys.current)];
    expect(one).not.toEqual(other);
    expect([one, other].map((headers) => readSignature(headers, keys))).toEqual([SIGNED, SIGNED]);
  });

  it("is read with the former secret, while routers have it still", () => {
    const next = deriveKey("the next secret");
    expect(readSignature(FROM_GO, { current: next, former: keys.current })).toEqual(SIGNED);
    expect(readSignature(FROM_GO, { current: next, former: undefined })).toBeUndefined();
  });

  it("does not hold when any of its characters was changed, nor when it is none", () => {
    for (const part of ["signature", "metadata"] as const) {
      const text = FROM_GO[part];
      for (let place = 0; place < text.length; place += 1) {
        const changed = text.slice(0, place) + (text[place] === "A" ? "B" : "A") + text.slice(place + 1);
        const read = readSignature({ ...FROM_GO, [part]: changed }, keys);
        // The last character before the padding may carry bits that mean nothing.
        if (Buffer.from(changed, "base64url").equals(Buffer.from(text, "base64url"))) continue;
        expect(read, changed).toBeUndefined();
      }
      expect(readSignature({ ...FROM_GO, [part]: "" }, keys)).toBeUndefined();
      expect(readSignature({ ...FROM_GO, [part]: "{}" }, keys)).toBeUndefined();
    }
  });
});
