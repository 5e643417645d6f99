import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  policyScope,
  policySource,
  readPolicyOptions,
  readPolicySources,
  strictestPolicies,
} from "./route-policies.js";

describe("route policies", () => {
  it("have sources that are understood as a whole, or not at all", () => {
    expect(policySource("cf:any")).toEqual({ kind: "any" });
    expect(policySource("cf:app:2b26e210-1b48-4e60")).toEqual({ kind: "app", guid: "2b26e210-1b48-4e60" });
    expect(policySource("cf:space:s")).toEqual({ kind: "space", guid: "s" });
    expect(policySource("cf:org:o")).toEqual({ kind: "org", guid: "o" });
    for (const text of [
      "",
      "any",
      "cf:any:x",
      "cf:anyone",
      "cf:app:",
      "cf:app:a b",
      "cf:app:a,b",
      "cf:app:.*",
      "CF:ANY",
    ]) {
      expect(policySource(text), text).toBeUndefined();
    }
    for (const text of ["spiffe://x", "cf:organization:o", "cf:any\n", " cf:any", "cf:app:a\u0000", "cf:app:é"]) {
      expect(policySource(text), text).toBeUndefined();
    }
  });

  it("are told in order, each once, beside what is not understood", () => {
    expect(readPolicySources([" cf:space:s ", "cf:app:a", "", "cf:app:a", "x", "cf:org:"])).toEqual({
      sources: ["cf:app:a", "cf:space:s"],
      problems: ['"cf:org:" is no source: it lets nobody in', '"x" is no source: it lets nobody in'],
    });
  });

  it("have as many sources as fit, and say how many do not", () => {
    const all = Array.from({ length: 1_500 }, (_, index) => `cf:app:${`${index}`.padStart(36, "0")}`);
    const { sources, problems } = readPolicySources(["cf:any", ...all]);
    expect(sources).toEqual(["cf:any", ...all.slice(0, 1_489)]);
    expect(problems).toEqual(["11 of 1501 are over 65536 characters: they let nobody in"]);
    expect(readPolicyOptions({ route_policy_scope: "any", route_policy_sources: all.join(",") })).toMatchObject({
      routePolicySources: all.slice(0, 1_489),
      problems: ["route_policy_sources: 11 of 1500 are over 65536 characters: they let nobody in"],
    });
  });

  it("say what is wrong with options, and open nothing by it", () => {
    expect(readPolicyOptions({ route_policy_scope: "galaxy", route_policy_sources: "cf:any,everybody" })).toEqual({
      routePolicyScope: "galaxy",
      routePolicySources: ["cf:any"],
      problems: [
        'route_policy_sources: "everybody" is no source: it lets nobody in',
        'route_policy_scope: "galaxy" is not known: the route lets nobody in',
      ],
    });
    expect(policyScope("galaxy")).toBeUndefined();
    expect(readPolicyOptions(null)).toEqual({ routePolicyScope: "", routePolicySources: [], problems: [] });
    expect(readPolicyOptions({ route_policy_sources: "cf:any" }).routePolicySources).toEqual([]);
  });

  it("are those that all let in who tell of one route, the narrowest scope first", () => {
    const said = (routePolicyScope: string, ...routePolicySources: string[]) => ({
      routePolicyScope,
      routePolicySources,
    });
    expect(strictestPolicies([undefined, said("")])).toBeUndefined();
    expect(strictestPolicies([undefined, said("any", "cf:app:a")])).toEqual(said("any", "cf:app:a"));
    expect(strictestPolicies([said("any", "cf:app:a", "cf:app:b"), said("space", "cf:app:b")])).toEqual(
      said("space", "cf:app:b"),
    );
    expect(strictestPolicies([said("org", "cf:any"), said("any", "cf:app:b")])).toEqual(said("org", "cf:app:b"));
    expect(strictestPolicies([said("org", "cf:any"), said("org", "cf:any")])).toEqual(said("org", "cf:any"));
    expect(strictestPolicies([said("org", "cf:app:a"), said("org")])).toEqual(said("org"));
    expect(strictestPolicies([said("space", "cf:any"), said("galaxy", "cf:any")])).toEqual(said("galaxy", "cf:any"));
  });

  it("have no source but the four kinds, whatever text comes", () => {
    fc.assert(
      fc.property(
        fc.array(fc.oneof(fc.string(), fc.stringMatching(/^cf:(any|app:|space:|org:)/)), { maxLength: 5 }),
        (texts) => {
          const { sources } = readPolicySources(texts);
          expect(sources.filter((source) => !/^cf:(any|(app|org|space):[\w-]+)$/.test(source))).toEqual([]);
        },
      ),
    );
  });
});
