import { createHash, randomUUID, X509Certificate } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import type { IncomingHttpHeaders } from "node:http";
import { connect as connectHttp2 } from "node:http2";
import { createServer } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect } from "node:tls";
import { connect as connectNats, type NatsConnection } from "@nats-io/transport-node";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { parseConfig } from "../../src/config/config.js";
import { type CertificateRequest, type Certificates, createCertificates } from "../../src/emulator/certificates.js";
import { type NatsServer, startNatsServer } from "../../src/emulator/nats/nats-server.js";
import { encodeRegistration, type RouteInit } from "../../src/entries/entries.js";
import { type Mesh, startMesh as startJobs } from "../../src/jobs/up.js";
import { silentLogger } from "../../src/lib/logger.js";
import { eventually } from "../support/eventually.js";
import { freePort } from "../support/free-port.js";
import { type Asked, getByTls, HttpsRouter } from "../support/https.js";
import { destination, Instances, processEntry, routeEntry } from "../support/instances.js";
import { startMesh, type TestMesh } from "../support/mesh.js";
import { RawConnection } from "../support/raw.js";

const XFCC = "x-forwarded-client-cert";
const CALLER = "x-cf-mesh-caller";
const GUID = "d76446a1-f429-4444-8797-be2f78b75b08";
const APPS = "*.apps.identity";

describe("identity-aware domains", () => {
  let foundation: Certificates;
  let partners: Certificates;
  let https: HttpsRouter;
  const instances = new Instances();
  const shown = new Map<string, { readonly cert: string; readonly key: string }>();

  /** A certificate as Diego gives it to an instance. */
  const identity = (app: string, space = "space-a", org = "org-a"): CertificateRequest => ({
    commonName: `instance-of-${app}`,
    organizationalUnits: [`app:${app}`, `space:${space}`, `organization:${org}`],
    joinsUnits: true,
    dnsNames: [`instance-of-${app}`],
  });

  beforeAll(async () => {
    [foundation, partners] = await Promise.all([createCertificates(), createCertificates()]);
    const issued: readonly [string, Certificates, CertificateRequest][] = [
      ["caller", foundation, identity(GUID)],
      ["sibling", foundation, identity("sibling")],
      ["elsewhere", foundation, identity("elsewhere", "space-b")],
      ["foreigner", foundation, identity("foreigner", "space-c", "org-b")],
      ["one unit a part", foundation, { ...identity(GUID), joinsUnits: false }],
      ["a longer guid", foundation, identity(`${GUID}0`)],
      ["a shorter guid", foundation, identity(GUID.slice(0, -1))],
      ["another case", foundation, identity(GUID.toUpperCase())],
      ["its name", foundation, { ...identity("x"), commonName: `a,OU=app:${GUID}` }],
      ["its unit", foundation, { ...identity("x"), organizationalUnits: [`x+OU=app:${GUID}`, "app:x"] }],
      ["a space of that guid", foundation, identity("x", GUID)],
      ["two apps", foundation, { ...identity("x"), organizationalUnits: [`app:${GUID}`, "app:x", "space:space-a"] }],
      ["no app", foundation, { commonName: "n", organizationalUnits: ["space:space-a", "organization:org-a"] }],
      ["no units", foundation, { commonName: `OU=app:${GUID}` }],
      ["partner", partners, { commonName: "partner", organizationalUnits: ["sales"] }],
      ["caller by the partners' CA", partners, identity(GUID)],
    ];
    for (const [name, by, request] of issued) {
      const { certificate, key } = await by.issue({ ...request, usages: ["client"] });
      shown.set(name, { cert: certificate, key });
    }
    https = await HttpsRouter.start(foundation, {
      names: ["one.example.com", "*.apps.identity"],
      files: { "partners-ca.crt": partners.ca, secret: "the routers' secret" },
      tls: (path) => ({
        domains: [
          { name: APPS, caFile: path("clients-ca.crt"), xfccFormat: "envoy" },
          { name: "*.partners.example.com", caFile: path("partners-ca.crt") },
          { name: "vip.apps.identity", caFile: path("partners-ca.crt"), forwardedClientCert: "always_forward" },
        ],
      }),
      router: (path) => ({
        accessLog: {
          file: path("access.log"),
          extraFields: ["tls_sni", "caller_cf_app", "caller_cf_space", "caller_cf_org", "route_policy"],
        },
        routeServices: { secretFile: path("secret"), caFile: path("clients-ca.crt") },
      }),
    });
    const running = await instances.startAll(["one", "two", "three"]);
    await https.router.log.append(
      running.map((instance) => processEntry(instance.guid, [instance], `app-of-${instance.guid}`)),
    );
    await route("plain.example.com", {});
  });
  afterAll(async () => {
    await https.stop();
    instances.close();
  });

  const certificateOf = (name: string | undefined) => (name === undefined ? {} : shown.get(name));
  /** A GET as such a client sends it, with the host's name at the handshake unless said otherwise. */
  const ask = (host: string, client: string | undefined, more: Asked = {}) =>
    https.get(host, { servername: host, ...certificateOf(client), ...more });
  const statusOf = async (host: string, client?: string, more?: Asked) => (await ask(host, client, more)).status;
  /** Of a request that was refused: the status and the header that tells why. */
  const refusal = async (host: string, client?: string, more?: Asked) => {
    const { status, headers } = await ask(host, client, more);
    return `${status} ${String(headers["x-cf-routererror"])}`;
  };
  const plain = async (host: string, headers = {}) => {
    const { status, headers: answered } = await https.router.client.get(host, "/", { headers });
    return `${status} ${String(answered["x-cf-routererror"])}`;
  };

  let routeCount = 0;
  /** A route that leads to "one" unless said otherwise; resolves with its host when Envoy knows it. */
  async function route(host: string, init: RouteInit): Promise<string> {
    const entry = routeEntry(`route-${(routeCount += 1)}`, {
      host,
      destinations: [{ ...destination("one"), spaceGuid: "space-a", organizationGuid: "org-a" }],
      ...init,
    });
    await https.router.log.append([entry]);
    await eventually(async () => !(await plain(host.replace("*", "any"))).startsWith("404"));
    return host;
  }
  const policed = (scope: string, ...sources: string[]) => ({
    options: { routePolicyScope: scope, routePolicySources: sources },
  });

  it("let in the callers that a route's policies name: an app, a space, an organization, or any", async () => {
    const by: Record<string, string> = {};
    for (const source of [`app:${GUID}`, "space:space-b", "org:org-b", "any"]) {
      const host = await route(
        `${source.replace(":", "-").slice(0, 12)}.apps.identity`,
        policed("any", `cf:${source}`),
      );
      const answers = await Promise.all(["caller", "elsewhere", "foreigner"].map((client) => statusOf(host, client)));
      by[source.slice(0, 5)] = answers.join(" ");
    }
    expect(by).toEqual({ "app:d": "200 403 403", space: "403 200 403", "org:o": "403 403 200", any: "200 200 200" });
    const both = await route("both.apps.identity", policed("any", `cf:app:${GUID}`, "cf:org:org-b"));
    expect(await statusOf(both, "caller")).toBe(200);
    expect(await statusOf(both, "foreigner")).toBe(200);
    expect(await statusOf(both, "sibling")).toBe(403);
  });

  it("compare whole units of the certificate, however it is made and wherever else the text stands", async () => {
    const host = await route("whole.apps.identity", policed("any", `cf:app:${GUID}`));
    expect(await statusOf(host, "one unit a part")).toBe(200);
    for (const client of ["a longer guid", "a shorter guid", "another case", "its name", "its unit"]) {
      expect(await refusal(host, client), client).toBe("403 route_policy (route:route_policies)");
    }
    expect(await statusOf(host, "a space of that guid")).toBe(403);
    const open = await route("whole-any.apps.identity", policed("any", "cf:any"));
    for (const target of [host, open]) {
      for (const client of ["two apps", "no app", "no units"]) {
        expect(await refusal(target, client), client).toBe("403 route_policy (identity_extraction)");
      }
    }
  });

  it("let nobody in by default, nor by what is not understood, and say why", async () => {
    const none = await route("none.apps.identity", policed("any"));
    expect(await refusal(none, "caller")).toBe("403 route_policy (route:no_route_policies)");
    const { body, headers } = await ask(none, "caller");
    expect(body).toBe("403 Forbidden: The route has no route policies.\n");
    expect(headers).toMatchObject({
      "content-type": "text/plain; charset=utf-8",
      "cache-control": "no-cache, no-store",
    });
    const strange = await route("strange.apps.identity", policed("galaxy", "cf:any"));
    expect(await refusal(strange, "caller")).toBe("403 route_policy (domain:scope=unknown)");
    const sources = await route("sources.apps.identity", policed("any", "everybody", "cf:app:.*"));
    expect(await refusal(sources, "caller")).toBe("403 route_policy (route:no_route_policies)");
    const outside = await route("outside.example.com", policed("any", "cf:any"));
    const unguarded = "403 route_policy (domain:no_caller_identity)";
    expect(await refusal(outside, undefined)).toBe(unguarded);
    expect(await plain(outside)).toBe(unguarded);
  });

  it("let in callers by any of a thousand sources, and nobody else", async () => {
    const guids = Array.from({ length: 1_000 }, () => randomUUID());
    const sources = [...guids.map((guid) => `cf:app:${guid}`), `cf:app:${GUID}`];
    const host = await route("thousand.apps.identity", policed("any", ...sources));
    expect(await statusOf(host, "caller")).toBe(200);
    expect(await refusal(host, "sibling")).toBe("403 route_policy (route:route_policies)");
  });

  it("keep callers within the scope of the domain, whatever the policies say", async () => {
    const space = await route("space.apps.identity", policed("space", "cf:any"));
    expect(await Promise.all(["caller", "elsewhere", "foreigner"].map((client) => refusal(space, client)))).toEqual([
      "200 undefined",
      "403 route_policy (domain:scope=space)",
      "403 route_policy (domain:scope=space)",
    ]);
    const org = await route("org.apps.identity", policed("org", "cf:space:space-b", "cf:org:org-b"));
    expect(await Promise.all(["caller", "elsewhere", "foreigner"].map((client) => refusal(org, client)))).toEqual([
      "403 route_policy (route:route_policies)",
      "200 undefined",
      "403 route_policy (domain:scope=org)",
    ]);
    const unknown = await route("unknown.apps.identity", {
      ...policed("space", "cf:any"),
      destinations: [destination("one")],
    });
    expect(await refusal(unknown, "caller")).toBe("403 route_policy (domain:scope=space)");
  });

  it("send callers to the apps of their own space, where a route is shared between spaces", async () => {
    const host = await route("shared.apps.identity", {
      ...policed("space", "cf:org:org-a", `cf:app:${GUID}`),
      destinations: [
        { ...destination("one"), spaceGuid: "space-a" },
        { ...destination("two"), spaceGuid: "space-b" },
        { ...destination("three"), spaceGuid: "space-b" },
      ],
    });
    const reached = async (client: string, more?: Asked) => {
      const answers = [];
      for (let count = 0; count < 8; count += 1) answers.push(await ask(host, client, more));
      return [...new Set(answers.map(({ status, body }) => (status === 200 ? body.slice(8, 11) : status)))].sort();
    };
    expect(await reached("caller")).toEqual(["one"]);
    expect(await reached("elsewhere")).toEqual(["thr", "two"]);
    expect(await reached("foreigner")).toEqual([403]);
    const session = { headers: { cookie: "JSESSIONID=x; __VCAP_ID__=two" } };
    expect(await reached("caller", session)).toEqual(["one"]);
    expect(await reached("elsewhere", session)).toEqual(["two"]);
  });

  it("want a certificate of the CA of the domain that a client asks for", async () => {
    const host = await route("wanted.apps.identity", policed("any", "cf:any"));
    const partner = await route("shop.partners.example.com", {});
    expect(await statusOf(host, "caller")).toBe(200);
    expect(await statusOf(partner, "partner")).toBe(200);
    for (const client of [undefined, "partner", "caller by the partners' CA"]) {
      await expect(ask(host, client), client).rejects.toThrow();
    }
    await expect(ask(partner, "caller")).rejects.toThrow();
    await expect(ask(partner, undefined)).rejects.toThrow();
    // Of other names none is asked for.
    expect(await statusOf("plain.example.com")).toBe(200);
    expect(await statusOf("plain.example.com", "partner")).toBe(200);
  });

  it("refuse requests that come by a connection for another host's domain, or by one for none", async () => {
    const host = await route("sni.apps.identity", policed("any", "cf:any"));
    const partner = await route("sni.partners.example.com", {});
    const misdirected = "421 misdirected_request";
    // By a connection without a certificate: another name, none, and no TLS at all.
    for (const servername of ["plain.example.com", ""]) {
      expect(await refusal(host, "caller", { servername })).toBe(misdirected);
      expect(await refusal(partner, undefined, { servername })).toBe(misdirected);
    }
    expect(await plain(host)).toBe(misdirected);
    expect(await plain("SNI.Apps.Identity:8443")).toBe(misdirected);
    expect((await https.router.client.get(host)).body.toString()).toBe(
      "421 Misdirected Request: The connection is not for this host's domain.\n",
    );
    // By that of another domain: no CA speaks for the hosts of another.
    expect(await refusal(partner, "caller", { servername: host })).toBe(misdirected);
    expect(await refusal(host, "caller by the partners' CA", { servername: partner })).toBe(misdirected);
    expect(await refusal("plain.example.com", "caller", { servername: host })).toBe(misdirected);
    expect(await refusal("not.there.example.com", "caller", { servername: host })).toBe(misdirected);
    // Within a domain any name will do, in any case.
    expect(await statusOf(host, "caller", { servername: "another.apps.identity" })).toBe(200);
    expect(await statusOf("sni.APPS.identity:443", "caller", { servername: "SNI.apps.identity" })).toBe(200);
    expect(await refusal("not-there.apps.identity", "caller")).toBe("404 unknown_route");
  });

  it("refuse them on HTTP/2 as well, where browsers join hosts in one connection", async () => {
    const host = await route("h2.apps.identity", policed("any", "cf:any"));
    const statusBy = await connected(host, "caller");
    expect(await statusBy(host)).toBe(200);
    expect(await statusBy("plain.example.com")).toBe(421);
    expect(await statusBy("shop.partners.example.com")).toBe(421);
    expect(await statusBy(host)).toBe(200);
  });

  it("give narrower domains their own, below those that are wider", async () => {
    const vip = await route("vip.apps.identity", {});
    const deep = await route("a.deep.apps.identity", policed("any", "cf:any"));
    expect(await statusOf(vip, "partner")).toBe(200);
    await expect(ask(vip, "caller")).rejects.toThrow();
    expect(await refusal(vip, "caller", { servername: "other.apps.identity" })).toBe("421 misdirected_request");
    expect(await refusal("other.apps.identity", "partner", { servername: vip })).toBe("421 misdirected_request");
    expect(await statusOf(deep, "caller")).toBe(200);
    expect(await plain(deep)).toBe("421 misdirected_request");
  });

  it("are guarded behind wildcard routes, too, at any level", async () => {
    await route("*.apps.identity", policed("any", `cf:app:${GUID}`));
    await route("*.identity", {});
    expect(await plain("by.wildcard.identity")).toBe("200 undefined");
    for (const host of ["wild.apps.identity", "two.levels.apps.identity"]) {
      expect(await statusOf(host, "caller")).toBe(200);
      expect(await statusOf(host, "sibling")).toBe(403);
      expect(await plain(host)).toBe("421 misdirected_request");
      expect(await plain(host.toUpperCase())).toBe("421 misdirected_request");
    }
  });

  it("believe nobody but the handshake: what a client says of its certificate counts for nothing", async () => {
    const host = await route("forged.apps.identity", policed("any", `cf:app:${GUID}`));
    const forged = {
      [CALLER]: `CN=x,OU=app:${GUID}`,
      [XFCC]: `Hash=0;Subject="CN=x,OU=app:${GUID},OU=space:space-a,OU=organization:org-a"`,
    };
    expect(await statusOf(host, "sibling", { headers: forged })).toBe(403);
    expect(await refusal(host, undefined, { headers: forged, servername: "" })).toBe("421 misdirected_request");
    expect(await plain(host, forged)).toBe("421 misdirected_request");
    const { got } = await ask(host, "caller", { headers: forged });
    expect(got[XFCC]).not.toBe(forged[XFCC]);
    expect(Object.keys(got).filter((name) => name.startsWith("x-cf-mesh"))).toEqual([]);
    const raw = await RawConnection.open(https.router.port);
    raw.send(`GET http://${host}/ HTTP/1.1`, "Host: plain.example.com", "Connection: close", "");
    expect(await raw.until(/\r\n\r\n/)).toMatch(/^HTTP\/1\.1 421 /);
  });

  it("tell apps of the certificate, in the format of the domain", async () => {
    const host = await route("xfcc.apps.identity", policed("any", "cf:any"));
    const hashOf = (client: string) =>
      createHash("sha256")
        .update(new X509Certificate(shown.get(client)?.cert ?? "").raw)
        .digest("hex");
    const units = identity(GUID).organizationalUnits ?? [];
    const subject = [`CN=instance-of-${GUID}`, ...units.map((unit) => `OU=${unit}`)].join(",");
    for (const client of ["caller", "one unit a part"]) {
      expect((await ask(host, client)).got[XFCC]).toBe(`Hash=${hashOf(client)};Subject="${subject}"`);
    }
    const raw = await route("xfcc.partners.example.com", {});
    const der = new X509Certificate(shown.get("partner")?.cert ?? "").raw.toString("base64");
    expect((await ask(raw, "partner", { headers: { [XFCC]: "spoofed" } })).got[XFCC]).toBe(der);
    const forwarded = await route("vip.apps.identity", {});
    expect((await ask(forwarded, "partner", { headers: { [XFCC]: "kept" } })).got[XFCC]).toBe("kept");
  });

  it("tell the access log who called, and what let the caller in or kept it out", async () => {
    const host = await route("logged.apps.identity", policed("space", `cf:app:${GUID}`));
    for (const client of ["caller", "sibling", "foreigner", "no units"]) await ask(host, client);
    await ask(host, undefined, { servername: "plain.example.com" });
    const told = async () => {
      const lines = (await readFile(https.router.path("access.log"), "utf8")).split("\n");
      return lines
        .filter((line) => line.startsWith(`${host} `))
        .map((line) => / (\d{3}) \d+ \d+ .* (tls_sni:.*) x_cf_routererror/.exec(line)?.slice(1).join(" "));
    };
    const by = (app: string, space: string, org: string, rule: string, sni = host) =>
      `tls_sni:"${sni}" caller_cf_app:"${app}" caller_cf_space:"${space}" caller_cf_org:"${org}" route_policy:"${rule}"`;
    // The first request of all is the one that waited for the route.
    const expected = [
      `200 ${by(GUID, "space-a", "org-a", `route:cf:app:${GUID}`)}`,
      `403 ${by("sibling", "space-a", "org-a", "route:route_policies")}`,
      `403 ${by("foreigner", "space-c", "org-b", "domain:scope=space:post-selection")}`,
      `403 ${by("-", "-", "-", "identity_extraction")}`,
      `421 ${by("-", "-", "-", "-", "plain.example.com")}`,
    ];
    await eventually(async () => (await told()).filter((line) => !line?.includes('tls_sni:"-"')).length === 5);
    expect((await told()).filter((line) => !line?.includes('tls_sni:"-"')).sort()).toEqual([...expected].sort());
  });

  it("follow policies while clients are connected", async () => {
    const init = { host: "moving.apps.identity", destinations: [destination("one")] };
    const statusBy = await connected(init.host, "caller");
    const append = (...sources: string[]) =>
      https.router.log.append([routeEntry("moving", { ...init, ...policed("any", ...sources) })]);
    const statusBecomes = (status: number) => eventually(async () => (await statusBy(init.host)) === status);
    await append();
    await statusBecomes(403);
    await append("cf:app:sibling", `cf:app:${GUID}`);
    await statusBecomes(200);
    await append("cf:app:sibling");
    await statusBecomes(403);
    await append("cf:any");
    await statusBecomes(200);
  });

  it("are enforced for routes that registrations alone tell of, by what all of them allow", async () => {
    const host = "registered.apps.identity";
    const [only] = await instances.startAll(["registered"]);
    const registration = (id: string, tags: Record<string, string>, ...sources: string[]) => ({
      key: `registration.nats.${id}`,
      value: encodeRegistration({
        ...{ host, address: "127.0.0.1", port: only?.port ?? 0, protocol: "http1" },
        options: { routePolicyScope: "space", routePolicySources: sources },
        tags: Object.entries(tags).map(([name, value]) => ({ name, value })),
      }),
    });
    const tags = { organization_id: "org-a", space_id: "space-a" };
    await https.router.log.append([registration("r1", tags, `cf:app:${GUID}`, "cf:app:sibling")]);
    await eventually(async () => (await statusOf(host, "caller")) === 200);
    expect(await statusOf(host, "sibling")).toBe(200);
    expect(await refusal(host, "elsewhere")).toBe("403 route_policy (domain:scope=space)");
    await https.router.log.append([registration("r2", tags, `cf:app:${GUID}`)]);
    await eventually(async () => (await statusOf(host, "sibling")) === 403);
    expect(await statusOf(host, "caller")).toBe(200);
  });

  it("ask a route service about the callers that are let in alone, and let it back in by a certificate", async () => {
    const seen: IncomingHttpHeaders[] = [];
    const { certificate, key } = await foundation.issue({ commonName: "localhost", dnsNames: ["localhost"] });
    const service = createServer({ cert: certificate, key }, (request, response) => {
      seen.push(request.headers);
      response.end("{}");
    });
    const routeServiceUrl = `https://localhost:${await instances.listen(service)}/guard`;
    const host = await route("guarded.apps.identity", { ...policed("any", `cf:app:${GUID}`), routeServiceUrl });
    expect(await refusal(host, "sibling")).toBe("403 route_policy (route:route_policies)");
    expect(await plain(host)).toBe("421 misdirected_request");
    expect(seen).toEqual([]);
    expect(await statusOf(host, "caller")).toBe(200);
    const [got = {}] = seen;
    expect(Object.keys(got).filter((name) => name.startsWith("x-cf-mesh"))).toEqual([]);
    const proof = Object.fromEntries(
      ["x-cf-proxy-signature", "x-cf-proxy-metadata", "x-cf-forwarded-url"].map((name) => [name, String(got[name])]),
    );
    expect(await plain(host, proof)).toBe("421 misdirected_request");
    expect(await statusOf(host, "sibling", { headers: proof })).toBe(403);
    const { status, body } = await ask(host, "caller", { headers: proof });
    expect([status, body.slice(0, 11)]).toEqual([200, '{"app":"one']);
    expect(seen).toHaveLength(1);
  });

  it("are chosen behind PROXY headers, too", async () => {
    const proxied = await HttpsRouter.start(foundation, {
      tls: (path) => ({ domains: [{ name: APPS, caFile: path("clients-ca.crt") }] }),
      http: { proxyProtocol: true },
    });
    onTestFinished(() => proxied.stop());
    const [instance] = await instances.startAll(["proxied"]);
    if (instance === undefined) throw new Error("an instance was started");
    const host = "proxied.apps.identity";
    const { options } = policed("any", `cf:app:${GUID}`);
    const entry = routeEntry("proxied", { host, options, destinations: [destination("proxied")] });
    await proxied.router.log.append([processEntry("proxied", [instance]), entry]);
    const through = async (client: string, servername = host) => {
      const { socket } = await RawConnection.open(proxied.tlsPort);
      onTestFinished(() => void socket.destroy());
      socket.write("PROXY TCP4 203.0.113.9 127.0.0.1 4711 80\r\n");
      return proxied.get(host, { socket, servername, ...certificateOf(client) });
    };
    await eventually(async () => (await through("caller")).status === 200);
    expect((await through("sibling")).status).toBe(403);
    expect((await through("caller", "plain.example.com")).status).toBe(421);
  });

  it("take another CA without a restart, and end no session by that of another domain", async () => {
    const host = await route("ca.apps.identity", policed("any", "cf:any"));
    const partner = await route("ca.partners.example.com", {});
    const file = https.router.path("clients-ca.crt");
    const before = await readFile(file, "utf8");
    await expect(ask(host, "caller by the partners' CA")).rejects.toThrow();
    await writeFile(file, `${before}\n${partners.ca}`);
    await eventually(async () => (await statusOf(host, "caller by the partners' CA")) === 200);
    await writeFile(file, before);
    await eventually(
      async () => (await statusOf(host, "caller by the partners' CA").catch(() => "refused")) === "refused",
    );
    const session = await sessionOf(partner, "partner");
    expect(await statusOf(partner, undefined, { session })).toBe(200);
    await expect(ask(host, undefined, { session })).rejects.toThrow();
  });

  /** An HTTP/2 connection that stays: its requests, by their host. */
  async function connected(host: string, client: string) {
    const session = connectHttp2(`https://127.0.0.1:${https.tlsPort}`, {
      ...{ servername: host, ca: foundation.ca, checkServerIdentity: () => undefined },
      ...certificateOf(client),
    });
    onTestFinished(() => session.destroy());
    await once(session, "remoteSettings");
    return async (authority: string) => {
      const stream = session.request({ ":path": "/", ":authority": authority }).resume();
      const [headers] = (await once(stream, "response")) as [Record<string, unknown>];
      await once(stream, "close");
      return headers[":status"];
    };
  }

  /** The session that a client of that host may go on with. */
  async function sessionOf(host: string, client: string): Promise<Buffer> {
    const socket = connect({
      ...{ host: "127.0.0.1", port: https.tlsPort, servername: host, ca: foundation.ca },
      ...{ checkServerIdentity: () => undefined, ...certificateOf(client) },
    });
    onTestFinished(() => void socket.destroy());
    socket.resume().write(`GET / HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
    const [session] = (await once(socket, "session")) as [Buffer];
    return session;
  }
});

describe("route policies of a foundation", () => {
  let mesh: TestMesh;
  let organizationGuid: string;
  let spaceGuid: string;
  const HOST = "backend.apps.identity";

  beforeAll(async () => {
    mesh = await startMesh({ clientDomains: [APPS] });
    [spaceGuid, organizationGuid] = [
      await mesh.api.find("/v3/spaces?names=dev"),
      await mesh.api.find("/v3/organizations"),
    ];
    await mesh.api.create("/v3/domains", {
      ...{ name: "apps.identity", enforce_route_policies: true, route_policies_scope: "org" },
    });
    await mesh.stubApp("backend");
  });
  afterAll(() => mesh.stop());

  /** Requests of an instance of that app, with its certificate as Diego makes it. */
  async function instanceOf(app: string, space = spaceGuid, organization = organizationGuid) {
    const { certificate, key } = await mesh.certificates.issue({
      commonName: `${app}-instance`,
      organizationalUnits: [`app:${app}`, `space:${space}`, `organization:${organization}`],
      joinsUnits: true,
      usages: ["client"],
    });
    return async () => {
      const { status, headers } = await getByTls(HOST, {
        ...{ host: "127.0.0.1", port: mesh.tlsPort, servername: HOST, ca: mesh.certificates.ca },
        ...{ cert: certificate, key, checkServerIdentity: () => undefined },
      });
      return `${status} ${String(headers["x-cf-routererror"])}`;
    };
  }
  const becomes = (ask: () => Promise<string>, expected: string) => eventually(async () => (await ask()) === expected);

  it("are enforced as developers add and remove them, in Cloud Controller alone", async () => {
    const relation = { space: { data: { guid: spaceGuid } } };
    const frontend = await mesh.api.create("/v3/apps", { name: "frontend", relationships: relation });
    const [caller, sibling, stranger] = [
      await instanceOf(frontend),
      await instanceOf("sibling"),
      await instanceOf(frontend, "a-space", "an-organization"),
    ];
    const routeGuid = await mesh.route("backend", { domain: "apps.identity", to: [{ app: "backend" }] });
    const add = (source: string) =>
      mesh.api.create("/v3/route_policies", { source, relationships: { route: { data: { guid: routeGuid } } } });
    await becomes(caller, "403 route_policy (route:no_route_policies)");
    const byApp = await add(`cf:app:${frontend}`);
    await becomes(caller, "200 undefined");
    expect(await sibling()).toBe("403 route_policy (route:route_policies)");
    expect(await stranger()).toBe("403 route_policy (domain:scope=org)");
    const bySpace = await add(`cf:space:${spaceGuid}`);
    await becomes(sibling, "200 undefined");
    await mesh.api.call("DELETE", `/v3/route_policies/${byApp}`);
    await mesh.api.call("DELETE", `/v3/route_policies/${bySpace}`);
    await becomes(caller, "403 route_policy (route:no_route_policies)");
    expect(await sibling()).toBe("403 route_policy (route:no_route_policies)");
  });
});

describe("route policies that NATS alone tells of", () => {
  let nats: NatsServer;
  let publisher: NatsConnection;
  let jobs: Mesh;
  let certificates: Certificates;
  let directory: string;
  let tlsPort: number;
  const instances = new Instances();

  beforeAll(async () => {
    [certificates, nats, directory, tlsPort] = await Promise.all([
      createCertificates(),
      startNatsServer({ settings: {} }),
      mkdtemp(join(tmpdir(), "cf-mesh-identity-")),
      freePort(),
    ]);
    const path = (file: string) => join(directory, file);
    const { certificate, key } = await certificates.issue({ commonName: "router", usages: ["server"] });
    const files = { "ca.crt": certificates.ca, "router.crt": certificate, "router.key": key };
    for (const [file, content] of Object.entries(files)) await writeFile(path(file), content);
    const config = {
      log: { directory: path("log") },
      router: {
        ...{ listenAddress: "127.0.0.1", port: await freePort(), runDirectory: path("run"), concurrency: 1 },
        ...{ drainWaitMs: 0, drainTimeMs: 0, orphanTimeoutMs: 2_000 },
        tls: {
          port: tlsPort,
          keypairs: [{ certificateFile: path("router.crt"), keyFile: path("router.key") }],
          domains: [{ name: APPS, caFile: path("ca.crt") }],
        },
      },
      nats: { servers: [`nats://127.0.0.1:${nats.port}`] },
    };
    jobs = await startJobs(parseConfig(config, "test", ["router"]), silentLogger);
    publisher = await connectNats({ servers: `127.0.0.1:${nats.port}` });
    await eventually(() => jobs.status.sources.every(({ state }) => state === "following"));
  });
  afterAll(async () => {
    await publisher.close();
    await jobs.stop();
    await nats.close();
    instances.close();
    await rm(directory, { recursive: true, force: true });
  });

  it("are enforced by the options and tags of registrations, as route-emitters publish them", async () => {
    const { port } = await instances.start("registered");
    const host = "registered.apps.identity";
    const register = (options: object) =>
      publisher.publish(
        "router.register",
        JSON.stringify({
          ...{ host: "127.0.0.1", port, uris: [host], app: "registered", options },
          tags: { component: "route-emitter", space_id: "space-a", organization_id: "org-a" },
        }),
      );
    const ask = async (app: string, space: string) => {
      const { certificate, key } = await certificates.issue({
        commonName: app,
        organizationalUnits: [`app:${app}`, `space:${space}`, "organization:org-a"],
        joinsUnits: true,
      });
      const { status } = await getByTls(host, {
        ...{ host: "127.0.0.1", port: tlsPort, servername: host, ca: certificates.ca, cert: certificate, key },
        checkServerIdentity: () => undefined,
      });
      return status;
    };
    register({ route_policy_scope: "space", route_policy_sources: "cf:app:a,cf:app:b" });
    await eventually(async () => (await ask("a", "space-a")) === 200);
    expect([await ask("b", "space-a"), await ask("c", "space-a"), await ask("a", "space-b")]).toEqual([200, 403, 403]);
    register({ route_policy_scope: "space", route_policy_sources: "cf:app:b" });
    await eventually(async () => (await ask("a", "space-a")) === 403);
    expect(await ask("b", "space-a")).toBe(200);
    register({ route_policy_scope: "space" });
    await eventually(async () => (await ask("b", "space-a")) === 403);
  });
});
