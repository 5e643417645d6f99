import { fromBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { encodeProcess, encodeRoute, type RouteInit } from "../entries/entries.js";
import { RouteConfigurationSchema } from "../gen/envoy/config/route/v3/route_pb.js";
import type { HeaderMatcher, Route } from "../gen/envoy/config/route/v3/route_components_pb.js";
import { RoutingTable } from "../model/routing-table.js";
import { compileGroup } from "./compile-group.js";
import { CALLER_HEADER } from "./names.js";

const HOST = "shop.apps.identity";
const DOMAIN = "*.apps.identity";
const OPTIONS = {
  ...{ appTls: undefined, maxAttempts: 3, maxConnectionsPerBackend: 0, preferredZone: undefined },
  ...{ requestTimeoutMs: 900_000, routeServiceCluster: undefined },
  backends: {
    ...{ keepAlive: true, idleTimeoutMs: 90_000, connectTimeoutMs: 5_000 },
    ...{ maxResponseHeaderKb: 1_024, maxResponseHeaders: 1_000 },
  },
};

function compile(init: RouteInit, clientDomains: readonly string[] = [DOMAIN], host = HOST) {
  const table = new RoutingTable({ dialsTls: false });
  const instances = [{ address: "10.0.0.1", ports: [{ containerPort: 8080, hostPort: 61_000 }] }];
  table.apply([
    { key: "route.cc.r", value: encodeRoute({ host, ...init }) },
    ...["p1", "p2"].map((processGuid, index) => ({
      key: `process.bbs.${processGuid}`,
      value: encodeProcess({
        processGuid,
        instances: instances.map((one) => ({ ...one, address: `10.0.0.${index + 1}` })),
      }),
    })),
  ]);
  const group = table.group(host);
  if (!group) throw new Error("no group");
  return compileGroup(group, { ...OPTIONS, clientDomains });
}

const to = (processGuid: string, spaceGuid = "", organizationGuid = "") => ({
  ...{ processGuid, port: 8080, protocol: "http1", spaceGuid, organizationGuid },
});
const policed = (scope: string, ...sources: string[]) => ({
  options: { routePolicyScope: scope, routePolicySources: sources },
});

interface Asked {
  readonly subject?: string;
  /** undefined: a connection for none. */
  readonly domain?: string | undefined;
}

/** What Envoy does by these routes: the cluster, or the status and the reason. */
function outcome({ routes }: ReturnType<typeof compile>, { subject, domain }: Asked): string {
  const [host] = fromBinary(RouteConfigurationSchema, routes.body).virtualHosts;
  const headers = new Map([[":method", "GET"], ...(subject === undefined ? [] : [[CALLER_HEADER, subject] as const])]);
  const taken = host?.routes.find((route) => isTaken(route, headers, domain));
  if (taken?.action.case === "route") {
    const { clusterSpecifier: target } = taken.action.value;
    return target.case === "cluster" ? target.value : String(target.case);
  }
  if (taken?.action.case !== "directResponse") return "404";
  const reason = taken.responseHeadersToAdd.find(({ header }) => header?.key === "x-cf-routererror")?.header?.value;
  return `${taken.action.value.status} ${reason ?? ""}`;
}

function isTaken({ match }: Route, headers: ReadonlyMap<string, string>, domain: string | undefined): boolean {
  if (!match || match.dynamicMetadata.length > 0) return false;
  const isMarked = match.filterState.every(
    ({ matcher }) => matcher.case === "stringMatch" && matcher.value.matchPattern.value === domain,
  );
  return isMarked && match.headers.every((one) => holds(one, headers));
}

/** As HeaderUtility::HeaderData of Envoy: a header that is missing meets no condition, not even an inverted one, unless told to be empty. */
function holds(matcher: HeaderMatcher, headers: ReadonlyMap<string, string>): boolean {
  const text = headers.get(matcher.name) ?? (matcher.treatMissingHeaderAsEmpty ? "" : undefined);
  const { headerMatchSpecifier: specifier, invertMatch } = matcher;
  if (text === undefined) return false;
  if (specifier.case !== "stringMatch") throw new Error(`no ${String(specifier.case)} is expected here`);
  const { matchPattern: pattern } = specifier.value;
  const isMet =
    pattern.case === "safeRegex"
      ? new RegExp(`^(?:${pattern.value.regex.replace("(?i)", "")})$`, "s").test(text)
      : pattern.case === "prefix" && text.startsWith(pattern.value);
  return isMet !== invertMatch;
}

const subjectOf = (...units: readonly string[]) => `CN=instance,${units.map((unit) => `OU=${unit}`).join("+")}`;

describe("the routes of a domain that is reached by mutual TLS", () => {
  it("lead to the app by the domain's own connections alone", () => {
    const compiled = compile({ destinations: [to("p1")] });
    expect(outcome(compiled, { domain: DOMAIN })).toBe(`${HOST}|http1`);
    for (const domain of [undefined, "*.other.identity", ""]) {
      expect(outcome(compiled, { domain, subject: subjectOf("app:a") })).toBe("421 misdirected_request");
    }
  });

  it("are those of any other host where the router has no such domain, to the byte", () => {
    const plain = compile({ destinations: [to("p1")] }, [], "shop.example.com");
    const beside = compile({ destinations: [to("p1")] }, [DOMAIN], "shop.example.com");
    expect(beside.routes.version).toBe(plain.routes.version);
    expect(beside.clusters).toEqual(plain.clusters);
  });

  it("let nobody in where no certificate can be asked for", () => {
    const compiled = compile({ destinations: [to("p1")], ...policed("any", "cf:any") }, []);
    const asked = { domain: DOMAIN, subject: subjectOf("app:a", "space:s", "organization:o") };
    expect(outcome(compiled, asked)).toBe("403 route_policy (domain:no_caller_identity)");
    expect(compiled.clusters.size).toBe(0);
  });

  it("have a cluster for each space of a shared route, and its usual one otherwise", () => {
    const destinations = [to("p1", "s1", "o"), to("p2", "s2", "o")];
    const names = (scope: string) => [...compile({ destinations, ...policed(scope, "cf:any") }).clusters.keys()];
    expect(names("space")).toEqual([`${HOST}|http1|space:s1`, `${HOST}|http1|space:s2`]);
    expect(names("org")).toEqual([`${HOST}|http1`]);
    expect(names("any")).toEqual([`${HOST}|http1`]);
  });

  it("refuse a request whose certificate has no subject, by each kind of policy", () => {
    for (const source of ["cf:any", "cf:app:a", "cf:space:s"]) {
      const compiled = compile({ destinations: [to("p1", "s", "o")], ...policed("space", source) });
      for (const subject of ["", undefined, "-"]) {
        const asked = { domain: DOMAIN, ...(subject !== undefined && { subject }) };
        expect(outcome(compiled, asked)).toBe("403 route_policy (identity_extraction)");
      }
    }
  });

  const guid = fc.constantFrom("a", "b", "ab", "a-b", "a.b", ".*", "s1", "s2", "o1");
  const unit = fc.tuple(fc.constantFrom("app", "space", "organization"), guid).map((parts) => parts.join(":"));
  const other = fc.constantFrom(
    "x",
    "app",
    "app:",
    "xapp:a",
    "app:a,OU=app:b",
    "a+OU=space:s1",
    'q"uote',
    "back\\slash",
  );
  const units = fc.array(fc.oneof({ weight: 6, arbitrary: unit }, other), { maxLength: 4 });
  const source = fc.oneof(
    fc.constant("cf:any"),
    fc.tuple(fc.constantFrom("app", "space", "org"), guid).map(([kind, of]) => `cf:${kind}:${of}`),
  );

  it("let in whom Gorouter lets in, whatever units a certificate has and whatever the policies are", () => {
    fc.assert(
      fc.property(
        fc.record({
          units,
          name: other,
          separator: fc.constantFrom("+", ","),
          scope: fc.constantFrom("any", "org", "space", "galaxy"),
          sources: fc.array(source, { maxLength: 3 }),
          owner: fc.record({ space: fc.constantFrom("s1", ""), org: fc.constantFrom("o1", "") }),
        }),
        ({ units: given, name, separator, scope, sources, owner }) => {
          const compiled = compile({ destinations: [to("p1", owner.space, owner.org)], ...policed(scope, ...sources) });
          const subject = [`CN=${escapedValue(name)}`, ...given.map((one) => `OU=${escapedValue(one)}`)].join(
            separator,
          );
          const expected = decision(given, scope, sources, owner);
          expect(outcome(compiled, { domain: DOMAIN, subject })).toBe(expected);
        },
      ),
      { numRuns: 500 },
    );
  });
});

/** RFC 2253, section 2.4. */
function escapedValue(text: string): string {
  return text
    .replace(/[,+"\\<>;]/g, "\\$&")
    .replace(/^#/, "\\#")
    .replace(/ $/, "\\ ");
}

/** Gorouter's rules, for a certificate with these units. */
function decision(
  units: readonly string[],
  scope: string,
  sources: readonly string[],
  owner: { readonly space: string; readonly org: string },
): string {
  const valuesOf = (kind: string) =>
    units.filter((unit) => unit.startsWith(`${kind}:`)).map((unit) => unit.slice(kind.length + 1));
  const [apps, spaces, orgs] = [valuesOf("app"), valuesOf("space"), valuesOf("organization")];
  const isAmbiguous = [apps, spaces, orgs].some((values) => values.length > 1);
  if (isAmbiguous || (apps[0] ?? "") === "") return "403 route_policy (identity_extraction)";
  const [app, space = "", org = ""] = [apps[0], spaces[0], orgs[0]];
  if (scope === "galaxy") return "403 route_policy (domain:scope=unknown)";
  const [wanted, own] = scope === "space" ? [owner.space, space] : [owner.org, org];
  if (scope !== "any" && (wanted === "" || wanted !== own)) return `403 route_policy (domain:scope=${scope})`;
  const known = sources.filter((one) => /^cf:(any|\w+:[\w-]+)$/.test(one));
  if (known.length === 0) return "403 route_policy (route:no_route_policies)";
  const callers = ["cf:any", `cf:app:${app ?? ""}`, `cf:space:${space}`, `cf:org:${org}`];
  return known.some((one) => callers.includes(one)) ? `${HOST}|http1` : "403 route_policy (route:route_policies)";
}
