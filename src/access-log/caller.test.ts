import { describe, expect, it } from "vitest";
import { callerOf, policyRuleOf } from "./caller.js";

const caller = (callerSubject: string, connectionDomain = "*.apps.identity") =>
  callerOf({ callerSubject, connectionDomain });
const UNITS = "OU=organization:o+OU=space:s+OU=app:a";

describe("the caller of a request", () => {
  it("is whom the certificate names, where one was asked for", () => {
    expect(caller(`CN=instance,${UNITS}`)).toEqual({ app: "a", space: "s", org: "o" });
    expect(caller("OU=app:a,CN=x,OU=other,O=y")).toEqual({ app: "a", space: "", org: "" });
    expect(caller(`CN=instance,${UNITS}`, "")).toBeUndefined();
    expect(caller("")).toBeUndefined();
  });

  it("is nobody where the certificate names no app, or several, or only seems to", () => {
    expect(caller("CN=x,OU=space:s")).toBeUndefined();
    expect(caller("OU=app:a,OU=app:b")).toBeUndefined();
    expect(caller("OU=app:a,OU=space:s,OU=space:t")).toBeUndefined();
    expect(caller("CN=x\\,OU=app:a")).toBeUndefined();
    expect(caller("CN=x\\+OU=app:a,OU=app")).toBeUndefined();
    expect(caller("OU=app:")).toBeUndefined();
    expect(caller("CN=x\\\\,OU=app:a")).toMatchObject({ app: "a" });
  });

  it("is let in or kept out by a rule in Gorouter's words", () => {
    const rule = (more: object) =>
      policyRuleOf({
        ...{ callerSubject: UNITS, connectionDomain: "*.x.test", policySource: "", routerError: "" },
        ...more,
      });
    expect(rule({ policySource: "app" })).toBe("route:cf:app:a");
    expect(rule({ policySource: "space" })).toBe("route:cf:space:s");
    expect(rule({ policySource: "org" })).toBe("route:cf:org:o");
    expect(rule({ policySource: "any" })).toBe("route:cf:any");
    expect(rule({ policySource: "app", routerError: "endpoint_failure (x)" })).toBe("route:cf:app:a");
    expect(rule({ routerError: "route_policy (route:route_policies)" })).toBe("route:route_policies");
    expect(rule({ routerError: "route_policy (domain:scope=org)" })).toBe("domain:scope=org:post-selection");
    expect(rule({ routerError: "route_policy (identity_extraction)" })).toBe("identity_extraction");
    expect(rule({ routerError: "route_policy (route:no_route_policies)" })).toBe("");
    expect(rule({ routerError: "unknown_route" })).toBe("");
    expect(rule({})).toBe("");
  });
});
