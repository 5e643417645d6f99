import fc from "fast-check";
import { once } from "node:events";
import { connect } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type EmulatedFoundation, startEmulatedFoundation } from "../support/emulated-foundation.js";
import { mutated, pieces, runs, RUNS_TIMEOUT_MS } from "../support/random-runs.js";

let emulated: EmulatedFoundation;
let appGuid: string;
let routeGuid: string;
let requests: readonly string[];

beforeAll(async () => {
  emulated = await startEmulatedFoundation();
  appGuid = await emulated.app("shop");
  routeGuid = (await emulated.route("shop")).guid;
  const destinations = [{ app: { guid: appGuid }, weight: null }];
  await emulated.post(`/v3/routes/${routeGuid}/destinations`, { destinations });
  const authorization = await emulated.foundation.adminToken();
  const sent = (method: string, path: string, body = "", type = "application/json") =>
    `${method} ${path} HTTP/1.1\r\nHost: api\r\nAuthorization: ${authorization}\r\nConnection: close\r\n` +
    `Content-Type: ${type}\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
  requests = [
    sent("GET", "/v3/routes?hosts=shop&include=domain,space.organization&per_page=2&page=1"),
    sent("GET", "/v3/audit_events?types=audit.app.update&created_ats[gt]=2026-01-01T00:00:00Z"),
    sent("POST", "/v3/routes", JSON.stringify(newRoute())),
    sent("POST", "/oauth/token", "grant_type=password&username=admin&password=x", "application/x-www-form-urlencoded"),
    sent(
      "POST",
      "/v3/packages/none/upload",
      '--b\r\nContent-Disposition: form-data; name="bits"\r\n\r\nPK\r\n--b--\r\n',
      "multipart/form-data; boundary=b",
    ),
  ];
});

afterAll(() => emulated.close());

const newRoute = () => ({
  host: "new",
  path: "/cart",
  relationships: { space: { data: { guid: emulated.spaceGuid } }, domain: { data: { guid: "none" } } },
  options: { loadbalancing: "round-robin" },
  metadata: { labels: { a: "b" }, annotations: {} },
});

/** What comes back until the server ends the connection, which it is left to do. */
async function exchange(sent: readonly Uint8Array[]): Promise<string> {
  const { hostname, port } = new URL(emulated.foundation.apiUrl);
  const socket = connect(Number(port), hostname);
  socket.on("error", () => undefined);
  await once(socket, "connect");
  for (const piece of sent) socket.write(piece);
  // A request that says more bytes than come would be waited for.
  socket.end();
  let answer = "";
  socket.on("data", (data: Buffer) => (answer += data.toString("latin1")));
  await once(socket, "close");
  return answer;
}

async function standsAsBefore(): Promise<void> {
  const { destinations } = await emulated.get(`/v3/routes/${routeGuid}`);
  expect(destinations).toMatchObject([{ app: { guid: appGuid } }]);
  expect(emulated.diego.desired.size).toBe(1);
}

const strange = fc.oneof(
  fc.constantFrom<unknown>(
    null,
    true,
    -1,
    0,
    1.5,
    2 ** 53,
    "",
    "\u0000",
    "\ud800",
    "*",
    "../..",
    "a\r\nb",
    "__proto__",
  ),
  fc.string({ unit: "binary", maxLength: 20 }),
  fc.jsonValue({ maxDepth: 3 }),
);

/** A request that a client might send, with other values in some fields. */
const changed = fc
  .constantFrom<readonly [method: string, path: () => string, body: () => object]>(
    ["POST", () => "/v3/routes", newRoute],
    ["PATCH", () => `/v3/routes/${routeGuid}`, () => ({ options: {}, metadata: {} })],
    ["POST", () => `/v3/routes/${routeGuid}/destinations`, () => ({ destinations: [{ app: { guid: "none" } }] })],
    ["PATCH", () => `/v3/routes/${routeGuid}/destinations`, () => ({ destinations: [{ app: { guid: "none" } }] })],
    ["POST", () => "/v3/apps", () => ({ name: "x", relationships: {}, lifecycle: {}, environment_variables: {} })],
    ["POST", () => "/v3/organizations", () => ({ name: "x", metadata: {} })],
    ["POST", () => "/v3/domains", () => ({ name: "x", internal: true, relationships: {} })],
    ["POST", () => "/v3/route_policies", () => ({ source: "cf:any", relationships: { route: { data: {} } } })],
    ["PATCH", () => `/v3/apps/${appGuid}/environment_variables`, () => ({ var: { A: "b" } })],
    ["POST", () => `/v3/apps/${appGuid}/processes/web/actions/scale`, () => ({ instances: "x", memory_in_mb: 1 })],
    ["POST", () => "/networking/v1/external/policies", () => ({ policies: [{ source: {}, destination: {} }] })],
  )
  .chain(([method, path, body]) =>
    fc
      .tuple(fc.nat(3), fc.nat(9), strange)
      .map(([field, depth, value]) => ({ method, path, body: () => withValue(body(), field, depth, value) })),
  );

/** The object with one value replaced: a field by its place, some levels down where there are levels. */
function withValue(object: object, field: number, depth: number, value: unknown): object {
  const names = Object.keys(object);
  const name = names[field % names.length] ?? "name";
  const inner = (object as Record<string, unknown>)[name];
  const isDeeper = depth > 0 && typeof inner === "object" && inner !== null;
  const next = isDeeper ? withValue(inner, field, depth - 1, value) : value;
  return Array.isArray(object) ? [next] : { ...object, [name]: next };
}

describe("the foundation's HTTP edge", () => {
  it(
    "answers or refuses, and never fails, whatever the bytes of a request",
    async () => {
      const answer = fc.nat().chain((index) => mutated(requests[index % requests.length] ?? ""));
      await fc.assert(
        fc.asyncProperty(pieces(answer), async (sent) => {
          expect(await exchange(sent)).not.toMatch(/^HTTP\/1\.1 5/);
        }),
        runs(400),
      );
      await standsAsBefore();
    },
    RUNS_TIMEOUT_MS,
  );

  it(
    "answers or refuses, and never fails, whatever the values of a body",
    async () => {
      await fc.assert(
        fc.asyncProperty(changed, async ({ method, path, body }) => {
          const answer = await emulated.call(method, path(), body());
          expect(answer.status, answer.text).toBeLessThan(500);
        }),
        runs(600),
      );
    },
    RUNS_TIMEOUT_MS,
  );

  it.each([
    ["an array nested 100,000 times", "[".repeat(100_000) + "]".repeat(100_000)],
    ["an object nested 50,000 times", '{"metadata":'.repeat(50_000) + "1" + "}".repeat(50_000)],
    ["a host of a million letters", JSON.stringify({ host: "x".repeat(1_000_000) })],
    ["100,000 unknown fields", JSON.stringify(Object.fromEntries(Array.from({ length: 100_000 }, (_, i) => [i, i])))],
  ])("refuses a route of %s", async (_, body) => {
    const { status } = await emulated.call("POST", "/v3/routes", body);
    expect([400, 413, 422]).toContain(status);
  });
});
