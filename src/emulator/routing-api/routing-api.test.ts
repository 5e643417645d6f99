import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { type EmulatedFoundation, startEmulatedFoundation } from "../../../test/support/emulated-foundation.js";
import { DEFAULT_ROUTER_GROUP } from "./router-groups.js";

interface HttpRouteJson {
  readonly route: string;
  readonly log_guid: string;
  readonly route_service_url?: string;
  readonly modification_tag: { readonly guid: string; readonly index: number };
}

interface TcpRouteJson {
  readonly port: number;
  readonly backend_ip: string;
  readonly ttl: number;
  readonly modification_tag: { readonly guid: string; readonly index: number };
}

function mapping(port: number, changes: object = {}) {
  return {
    ...{ router_group_guid: DEFAULT_ROUTER_GROUP.guid, port, backend_ip: "10.0.0.1", backend_port: 61_000 },
    ...changes,
  };
}

function httpRoute(route: string, changes: object = {}) {
  return { route, ip: "10.0.0.1", port: 8080, ttl: 60, log_guid: "shop", ...changes };
}

describe("the routing API", () => {
  let cf: EmulatedFoundation;
  let router: string;
  beforeAll(async () => {
    const authorities = ["routing.routes.read", "routing.routes.write"];
    cf = await startEmulatedFoundation({ clients: [{ id: "tcp_router", secret: "s3", authorities }] });
    const body = new URLSearchParams({
      grant_type: "client_credentials",
      client_id: "tcp_router",
      client_secret: "s3",
    });
    const answer = await fetch(`${cf.foundation.uaaUrl}/oauth/token`, { method: "POST", body });
    router = `bearer ${((await answer.json()) as { access_token: string }).access_token}`;
  });
  afterAll(() => cf.close());

  async function call(method: string, path: string, body?: unknown, token = router) {
    const answer = await cf.call(method, `/routing/v1${path}`, body, { authorization: token });
    const json = answer.text === "" ? undefined : (JSON.parse(answer.text) as { name: string; message: string });
    return { status: answer.status, refusal: `${answer.status} ${json?.name}: ${json?.message}`, json };
  }
  const routes = async () => (await call("GET", "/tcp_routes")).json as unknown as readonly TcpRouteJson[];
  const remove = (port: number) => call("POST", "/tcp_routes/delete", [mapping(port)]);

  it("has one router group, which can be asked for by name", async () => {
    const groups = await cf.call("GET", "/routing/v1/router_groups");
    expect(JSON.parse(groups.text)).toEqual([DEFAULT_ROUTER_GROUP]);
    const named = await cf.call("GET", "/routing/v1/router_groups?name=default-tcp");
    expect(JSON.parse(named.text)).toEqual([DEFAULT_ROUTER_GROUP]);
    const none = await cf.call("GET", "/routing/v1/router_groups?name=none");
    expect([none.status, JSON.parse(none.text)]).toEqual([
      404,
      { name: "ResourceNotFoundError", message: "Router Group 'none' not found" },
    ]);
  });

  it("asks for a token with the scope", async () => {
    expect((await call("GET", "/tcp_routes", undefined, "")).status).toBe(401);
    const without = await call("GET", "/router_groups");
    expect(without.refusal).toBe("401 UnauthorizedError: Token does not have 'routing.router_groups.read' scope");
  });

  it("takes TCP routes, marks each change, and drops what is not said again in time", async () => {
    expect((await call("POST", "/tcp_routes/create", [mapping(1024), mapping(1025, { ttl: 60 })])).status).toBe(201);
    const [first] = await routes();
    expect(first).toMatchObject({ port: 1024, backend_ip: "10.0.0.1", ttl: 120, modification_tag: { index: 0 } });
    await call("POST", "/tcp_routes/create", [mapping(1024)]);
    const [again] = await routes();
    expect(again?.modification_tag).toEqual({ guid: first?.modification_tag.guid, index: 1 });
    cf.clock.forward(61);
    expect((await routes()).map(({ port }) => port)).toEqual([1024]);
    expect((await remove(1024)).status).toBe(204);
    expect(await routes()).toEqual([]);
  });

  it("refuses bad TCP routes", async () => {
    const refusal = async (body: unknown) => (await call("POST", "/tcp_routes/create", body)).refusal;
    expect(await refusal("nonsense")).toContain("400 ProcessRequestError");
    expect(await refusal([mapping(0)])).toContain("requires a positive external port");
    expect(await refusal([mapping(1024, { backend_ip: "" })])).toContain("requires a non empty backend ip");
    expect(await refusal([mapping(1024, { backend_port: 0 })])).toContain("requires a positive backend port");
    expect(await refusal([mapping(1024, { ttl: 121 })])).toContain("TTL to be less than or equal to 120");
    expect(await refusal([mapping(1024, { ttl: 0 })])).toContain("requires a ttl greater than 0");
    expect(await refusal([mapping(1024, { router_group_guid: "x" })])).toContain("router_group_guid: x not found");
    expect(await routes()).toEqual([]);
  });

  const httpRoutes = async () => (await call("GET", "/routes")).json as unknown as readonly HttpRouteJson[];

  it("takes HTTP routes, marks each change, and drops what is not said again in time", async () => {
    const service = { route_service_url: "https://service.example.com" };
    const said = [httpRoute("a.example.com"), httpRoute("b.example.com/cart", { ttl: undefined, ...service })];
    expect((await call("POST", "/routes", said)).status).toBe(201);
    const [first, second] = await httpRoutes();
    const tag = { guid: expect.any(String) as string, index: 0 };
    expect(first).toEqual({ ...httpRoute("a.example.com"), modification_tag: tag });
    expect(second).toEqual({ ...httpRoute("b.example.com/cart", { ttl: 120, ...service }), modification_tag: tag });

    await call("POST", "/routes", [httpRoute("a.example.com", { log_guid: "" })]);
    const [again] = await httpRoutes();
    expect(again?.modification_tag).toEqual({ guid: first?.modification_tag.guid, index: 1 });
    expect(again?.log_guid).toBe("shop");

    // With another route service it is another row.
    await call("POST", "/routes", [httpRoute("a.example.com", service)]);
    expect((await httpRoutes()).map(({ route, route_service_url: url }) => [route, url])).toEqual([
      ["a.example.com", undefined],
      ["b.example.com/cart", service.route_service_url],
      ["a.example.com", service.route_service_url],
    ]);
    cf.clock.forward(61);
    expect((await httpRoutes()).map(({ route }) => route)).toEqual(["b.example.com/cart"]);
    const removed = [httpRoute("b.example.com/cart", service), httpRoute("never.example.com")];
    expect((await call("DELETE", "/routes", removed)).status).toBe(204);
    expect(await httpRoutes()).toEqual([]);
  });

  it("refuses bad HTTP routes, all of a request for one", async () => {
    const refusal = async (...routes: unknown[]) => (await call("POST", "/routes", routes)).refusal;
    const bad = (changes: object) => refusal(httpRoute("good.example.com"), httpRoute("a.example.com", changes));
    expect((await call("POST", "/routes", "nonsense")).refusal).toContain("400 ProcessRequestError");
    expect(await bad({ port: 70_000 })).toContain("400 ProcessRequestError");
    expect(await bad({ port: 0 })).toBe("400 RouteInvalidError: Each route request requires a port greater than 0");
    expect(await bad({ ip: "" })).toBe("400 RouteInvalidError: Each route request requires an IP");
    expect(await bad({ route: "" })).toBe("400 RouteInvalidError: Each route request requires a valid route");
    expect(await bad({ route: "a.example.com?x" })).toBe("400 RouteInvalidError: Url cannot contain any of [?, #]");
    expect(await bad({ route: "a b" })).toBe("400 RouteInvalidError: Url cannot contain invalid characters");
    expect(await bad({ ttl: 121 })).toBe("400 RouteInvalidError: Max ttl is 120");
    expect(await bad({ ttl: 0 })).toBe("400 RouteInvalidError: Request requires a ttl greater than 0");
    expect(await bad({ route_service_url: "http://service.example.com" })).toBe(
      "400 RouteServiceUrlInvalidError: Route service url must use HTTPS.",
    );
    expect((await call("GET", "/routes", undefined, "bearer nonsense")).refusal).toContain("401 UnauthorizedError");
    expect(await httpRoutes()).toEqual([]);
  });

  it("fails as it is told to, in its own words", async () => {
    const { faults } = cf.foundation;
    const failing = faults.inject({ path: "/routing/v1/routes", fault: { kind: "status", status: 500 } });
    onTestFinished(() => failing.clear());
    expect((await call("GET", "/routes")).refusal).toBe("500 DBCommunicationError: driver: bad connection");
    const expired = faults.inject({ path: "/routing/v1/routes", fault: { kind: "invalid-token" } });
    onTestFinished(() => expired.clear());
    expect((await call("GET", "/routes")).refusal).toBe("401 UnauthorizedError: Token is expired");
  });

  /** Reads frames until one holds the text; "id|event|data" of each. */
  async function framesUntil(path: string, text: string, meanwhile: () => Promise<unknown>) {
    const ending = new AbortController();
    onTestFinished(() => ending.abort());
    const url = `${cf.foundation.apiUrl}/routing/v1${path}`;
    const stream = await fetch(url, { headers: { authorization: router }, signal: ending.signal });
    expect(stream.headers.get("content-type")).toBe("text/event-stream; charset=utf-8");
    await meanwhile();
    let received = "";
    for await (const chunk of stream.body ?? []) {
      received += Buffer.from(chunk as Uint8Array).toString();
      if (received.includes(text)) break;
    }
    return received.trim().split("\n\n");
  }

  it("tells of changes as they happen", async () => {
    const frames = await framesUntil("/tcp_routes/events", "event: Delete", async () => {
      await call("POST", "/routes", [httpRoute("unseen.example.com")]);
      await call("POST", "/tcp_routes/create", [mapping(1030)]);
      await remove(1030);
    });
    expect(frames.map((frame) => frame.split("\n").slice(0, 2))).toEqual([
      ["id: 0", "event: Upsert"],
      ["id: 1", "event: Delete"],
    ]);
    expect(JSON.parse(frames[0]?.split("\ndata: ")[1] ?? "")).toMatchObject({ port: 1030, ttl: 120 });
  });

  it("tells of HTTP routes on a stream of their own, which stalls when it is told to", async () => {
    const { routingApi } = cf.foundation.faults;
    const frames = await framesUntil("/events", "last.example.com", async () => {
      await call("POST", "/routes", [httpRoute("first.example.com")]);
      await call("POST", "/tcp_routes/create", [mapping(1031)]);
      routingApi.stall();
      await call("POST", "/routes", [httpRoute("lost.example.com")]);
      routingApi.resume();
      routingApi.sendOdd("unknown");
      await call("DELETE", "/routes", [httpRoute("first.example.com")]);
      await call("POST", "/routes", [httpRoute("last.example.com")]);
    });
    expect(frames.map((frame) => frame.split("\n")[1])).toEqual([
      "event: Upsert",
      "event: Rename",
      "event: Delete",
      "event: Upsert",
    ]);
  });
});
