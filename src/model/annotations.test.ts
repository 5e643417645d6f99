import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { create } from "@bufbuild/protobuf";
import { TagSchema } from "../gen/mesh/v1/entries_pb.js";
import { NO_WISHES, readAnnotations } from "./annotations.js";

const APPS = [
  { guid: "guid-1", name: "shop-v1" },
  { guid: "guid-2", name: "shop-v2" },
  { guid: "guid-3", name: "my app" },
  { guid: "guid-4", name: "twin" },
  { guid: "guid-5", name: "twin" },
];
const tag = (name: string, value: string) => create(TagSchema, { name, value });
const read = (annotations: Readonly<Record<string, string>>) =>
  readAnnotations(
    Object.entries(annotations).map(([name, value]) => tag(name, value)),
    APPS,
  );
const wishes = (name: string, value: string) => {
  const { wishes: said, problems } = read({ [`cf-mesh/${name}`]: value });
  expect(problems).toEqual([]);
  return said;
};
const reason = (name: string, value: string) => {
  const { wishes: said, problems } = read({ [`cf-mesh/${name}`]: value });
  expect(said).toEqual(NO_WISHES);
  expect(problems).toMatchObject([{ name: `cf-mesh/${name}`, value }]);
  return problems[0]?.reason;
};

describe("annotations", () => {
  it("set a timeout, attempts and what is retried", () => {
    expect(wishes("timeout", "500ms").timeoutMs).toBe(500);
    expect(read({ "cf-mesh.local/timeout": "1s" }).wishes.timeoutMs).toBe(1_000);
    expect(wishes("timeout", " 2m ").timeoutMs).toBe(120_000);
    expect(wishes("attempts", "5").attempts).toBe(5);
    expect(wishes("retry-on", "reset, 503,5xx").retryOn).toEqual(["reset", 503, "5xx"]);
  });

  it("send requests with a header or a cookie to an app", () => {
    expect(wishes("match", "header X-Canary=yes -> shop-v2; cookie beta -> my app").matches).toEqual([
      { kind: "header", name: "X-Canary", value: "yes", app: "guid-2" },
      { kind: "cookie", name: "beta", value: undefined, app: "guid-3" },
    ]);
    expect(wishes("match-only", "shop-v2, guid-3").matchOnly).toEqual(["guid-2", "guid-3"]);
  });

  it("keep clients with their version, and copy requests", () => {
    expect(wishes("cohort-cookie", "shop-cohort").cohort).toEqual({ name: "shop-cohort", ttlSeconds: 0 });
    expect(wishes("cohort-cookie", "shop-cohort 2h").cohort).toEqual({ name: "shop-cohort", ttlSeconds: 7_200 });
    expect(wishes("mirror", "my app 0.5%").mirror).toEqual({ app: "guid-3", percent: 0.5 });
  });

  it("are refused alone, with the reason", () => {
    const { wishes: said, problems } = read({
      "cf-mesh/timeout": "5 parsecs",
      "cf-mesh/attempts": "4",
      "cf-mesh/speed": "11",
      "cf-mesh.team/attempts": "5",
    });
    expect(said).toEqual({ ...NO_WISHES, attempts: 4 });
    expect(problems.map(({ name }) => name)).toEqual(["cf-mesh/timeout", "cf-mesh/speed", "cf-mesh.team/attempts"]);
    expect(problems[1]?.reason).toContain("cf-mesh.local/timeout, cf-mesh.local/attempts");
  });

  it("are refused when Envoy could not follow them", () => {
    expect(reason("timeout", "0s")).toContain("above 0");
    expect(reason("timeout", "25h")).toContain("24h at most");
    expect(reason("attempts", "11")).toContain("1 to 10");
    expect(reason("retry-on", "200")).toContain("400 to 599");
    expect(reason("retry-on", "reset,")).toContain("empty part");
    expect(reason("match", "header Host=a -> shop-v2")).toContain("can't be matched");
    expect(reason("match", "header X(=a -> shop-v2")).toContain("name of a header");
    expect(reason("match", "cookie beta= -> shop-v2")).toContain("printable");
    expect(reason("match", "shop-v2 header X")).toContain('like "header');
    expect(reason("match", "header X -> shop-v9")).toContain('"shop-v9"');
    expect(reason("mirror", "twin 5%")).toContain("give the guid");
    expect(reason("match-only", "shop-v1,shop-v2,my app,guid-4,guid-5")).toContain("no app");
    expect(reason("mirror", "shop-v2 101%")).toContain("at most 100%");
    expect(reason("mirror", "shop-v2 0%")).toContain("above 0%");
    expect(reason("cohort-cookie", "a b c")).toContain("name of a cookie");
  });

  it("are read or refused, whatever they hold", () => {
    const names = fc.constantFrom("timeout", "attempts", "retry-on", "match", "match-only", "cohort-cookie", "mirror");
    fc.assert(
      fc.property(names, fc.string({ unit: "binary", maxLength: 60 }), (name, value) => {
        const { wishes: said, problems } = read({ [`cf-mesh/${name}`]: value });
        expect(problems.length === 0).toBe(said !== NO_WISHES);
      }),
    );
  });
});
