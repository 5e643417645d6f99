import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { type EmulatedFoundation, startEmulatedFoundation } from "../../../test/support/emulated-foundation.js";
import { DEFAULT_ROUTER_GROUP } from "./router-groups.js";

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

  it("tells of changes as they happen", async () => {
    const ending = new AbortController();
    onTestFinished(() => ending.abort());
    const url = `${cf.foundation.apiUrl}/routing/v1/tcp_routes/events`;
    const stream = await fetch(url, { headers: { authorization: router }, signal: ending.signal });
    expect(stream.headers.get("content-type")).toBe("text/event-stream; charset=utf-8");
    await call("POST", "/tcp_routes/create", [mapping(1030)]);
    await remove(1030);

    let text = "";
    for await (const chunk of stream.body ?? []) {
      text += Buffer.from(chunk as Uint8Array).toString();
      if (text.includes("event: Delete")) break;
    }
    const frames = text.trim().split("\n\n");
    expect(frames.map((frame) => frame.split("\n").slice(0, 2))).toEqual([
      ["id: 0", "event: Upsert"],
      ["id: 1", "event: Delete"],
    ]);
    expect(JSON.parse(frames[0]?.split("\ndata: ")[1] ?? "")).toMatchObject({ port: 1030, ttl: 120 });
  });
});
