import { describe, expect, it } from "vitest";
import { authorityOf, guardsOf } from "./client-domains.js";

const DOMAINS = ["*.apps.identity", "vip.apps.identity", "*.deep.apps.identity", "partner.example.com"];
/** Of RE2's flags before it, which JavaScript has after it. */
const matches = (pattern: string, text: string) => new RegExp(`^(?:${pattern.replace("(?i)", "")})$`, "i").test(text);

describe("the domain that a request is for", () => {
  it("is the narrowest that its host is in", () => {
    const domainOf = (host: string) => guardsOf(host, DOMAINS).map(({ domain }) => domain);
    expect(domainOf("a.apps.identity")).toEqual(["*.apps.identity"]);
    expect(domainOf("vip.apps.identity")).toEqual(["vip.apps.identity"]);
    expect(domainOf("a.b.deep.apps.identity")).toEqual(["*.deep.apps.identity"]);
    expect(domainOf("partner.example.com")).toEqual(["partner.example.com"]);
    for (const host of ["apps.identity", "xapps.identity", "a.partner.example.com", "example.com"]) {
      expect(domainOf(host), host).toEqual([undefined]);
    }
    expect(guardsOf("a.apps.identity", [])).toEqual([{ domain: undefined, authority: undefined }]);
  });

  it("is told by the authority where a wildcard host stands for those of several, the narrowest first", () => {
    expect(
      guardsOf("*.apps.identity", DOMAINS).map(({ domain, authority }) => [domain, authority !== undefined]),
    ).toEqual([
      ["vip.apps.identity", true],
      ["*.deep.apps.identity", true],
      ["*.apps.identity", false],
    ]);
    expect(guardsOf("*.identity", DOMAINS).map(({ domain }) => domain)).toEqual([
      "vip.apps.identity",
      "*.deep.apps.identity",
      "*.apps.identity",
      undefined,
    ]);
    expect(guardsOf("*.x.deep.apps.identity", DOMAINS).map(({ domain }) => domain)).toEqual(["*.deep.apps.identity"]);
    expect(guardsOf("*.example.org", DOMAINS).map(({ domain }) => domain)).toEqual([undefined]);
  });

  it("has authorities in any case, with whatever follows a colon, and no others", () => {
    const { pattern, exceptions } = authorityOf("*.apps.identity", DOMAINS);
    for (const text of ["a.apps.identity", "A.Apps.Identity:8443", "a.b.apps.identity", "a.apps.identity:x"]) {
      expect(matches(pattern, text), text).toBe(true);
    }
    for (const text of [
      "apps.identity",
      ".apps.identity",
      "a.appsxidentity",
      "a.apps.identity.evil.com",
      "evil:a.apps.identity",
    ]) {
      expect(matches(pattern, text), text).toBe(false);
    }
    expect(exceptions.filter((one) => matches(one, "VIP.apps.identity:443"))).toHaveLength(1);
    expect(exceptions.filter((one) => matches(one, "a.apps.identity"))).toEqual([]);
    expect(authorityOf("vip.apps.identity", DOMAINS).exceptions).toEqual([]);
  });
});
