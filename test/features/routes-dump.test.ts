import { mkdtemp, rm } from "node:fs/promises";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { type ApiServer, serveApi, serveApiOnSocket, serveRoutesAlone } from "../../src/api/job-api.js";
import { encodeProcess, encodeRegistration, encodeRoute } from "../../src/entries/entries.js";
import type { Router } from "../../src/jobs/router.js";
import { jobView } from "../../src/jobs/job-view.js";
import { RoutingTable } from "../../src/model/routing-table.js";
import { eventually } from "../support/eventually.js";
import { startTestRouter, type TestRouter } from "../support/router.js";

type Place = { readonly socketPath: string } | { readonly host: string; readonly port: number };

describe("the dump of the routing table", () => {
  let mesh: TestRouter;
  let directory: string;

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "cf-mesh-"));
    mesh = await startTestRouter();
    await mesh.log.append([
      {
        key: "route.cc.shop",
        value: encodeRoute({
          guid: "shop",
          host: "shop.example.com",
          path: "/cart",
          destinations: [{ processGuid: "web", appGuid: "app", appName: "shop", port: 8080, protocol: "http2" }],
          options: { loadbalancing: "least-connection" },
        }),
      },
      {
        key: "process.bbs.web",
        value: encodeProcess({
          processGuid: "web",
          appGuid: "app",
          instances: [
            {
              guid: "instance",
              index: 1,
              address: "10.0.0.1",
              availabilityZone: "z1",
              isolationSegment: "segment",
              ports: [{ containerPort: 8080, hostPort: 61_001 }],
            },
          ],
        }),
      },
      {
        key: "registration.nats.api",
        value: encodeRegistration({
          host: "api.example.com",
          address: "10.0.0.2",
          port: 9022,
          protocol: "http1",
          availabilityZone: "z2",
          staleThresholdSeconds: 60,
          routeServiceUrl: "https://service.example.com",
          tags: [{ name: "component", value: "CloudController" }],
        }),
      },
      {
        key: "route.cc.empty",
        value: encodeRoute({ guid: "e", host: "empty.example.com", destinations: [{ processGuid: "none" }] }),
      },
    ]);
    await eventually(() => mesh.router.table.routeCount === 3);
  });
  afterAll(async () => {
    await mesh.stop();
    await rm(directory, { recursive: true, force: true });
  });

  const viewOf = (router: Router) => {
    const credentials = { replacedCount: 0, refused: [], certificateEndsMs: {} };
    return jobView("0.0.0", () => ({ router, status: { router: mesh.router.status, sources: [], credentials } }));
  };
  function started(server: ApiServer): ApiServer {
    onTestFinished(() => server.close());
    return server;
  }
  const ask = (place: Place, authorization?: string) =>
    new Promise<{ readonly status: number; readonly body: string }>((resolve, reject) => {
      const headers = authorization === undefined ? {} : { authorization };
      request({ ...place, path: "/routes", headers }, (response) => {
        text(response).then((body) => resolve({ status: response.statusCode ?? 0, body }), reject);
      })
        .once("error", reject)
        .end();
    });

  it("has Gorouter's shape, on the router's own socket", async () => {
    const socketPath = join(directory, "api.sock");
    started(await serveApiOnSocket(socketPath, viewOf(mesh.router)));
    const { status, body } = await ask({ socketPath });
    expect(status).toBe(200);
    expect(JSON.parse(body)).toEqual({
      "shop.example.com/cart": [
        {
          address: "10.0.0.1:61001",
          availability_zone: "z1",
          protocol: "http2",
          tls: false,
          ttl: 120,
          tags: {
            app_id: "app",
            app_name: "shop",
            component: "route-emitter",
            instance_id: "1",
            process_id: "web",
            process_instance_id: "instance",
            source_id: "app",
          },
          isolation_segment: "segment",
          private_instance_id: "instance",
          load_balancing_algorithm: "least-connection",
        },
      ],
      "api.example.com": [
        {
          address: "10.0.0.2:9022",
          availability_zone: "z2",
          protocol: "http1",
          tls: false,
          ttl: 60,
          route_service_url: "https://service.example.com",
          tags: { component: "CloudController" },
        },
      ],
      "empty.example.com": [],
    });
  });

  it("is told over TCP to who knows the password, and never by the API that the network may ask", async () => {
    let password = "first";
    const options = { host: "127.0.0.1", port: 0, key: "router.routes.port" };
    const { port } = started(
      await serveRoutesAlone(
        options,
        { user: "router-status", password: () => Promise.resolve(password) },
        viewOf(mesh.router),
      ),
    );
    const place = { host: "127.0.0.1", port: port ?? 0 };
    const basic = (user: string, secret: string) => `Basic ${Buffer.from(`${user}:${secret}`).toString("base64")}`;
    expect((await ask(place)).status).toBe(401);
    expect((await ask(place, basic("router-status", "second"))).status).toBe(401);
    expect((await ask(place, basic("someone", "first"))).status).toBe(401);
    expect((await ask(place, "Basic nonsense")).status).toBe(401);
    expect((await ask(place, basic("router-status", "first"))).status).toBe(200);
    password = "second";
    expect((await ask(place, basic("router-status", "first"))).status).toBe(401);
    expect((await ask(place, basic("router-status", "second"))).status).toBe(200);

    const api = started(await serveApi({ ...options, key: "api.port" }, viewOf(mesh.router)));
    expect((await ask({ host: "127.0.0.1", port: api.port ?? 0 })).status).toBe(404);
  });

  it("leaves the process to its work, however long it is", async () => {
    const count = 20_000;
    const table = new RoutingTable({ dialsTls: false });
    table.apply(
      Array.from({ length: count }, (_, index) => ({
        key: `registration.nats.${index}`,
        value: encodeRegistration({ host: `host-${index}.example.com`, address: "10.0.0.1", port: 80 }),
      })),
    );
    const socketPath = join(directory, "large.sock");
    started(await serveApiOnSocket(socketPath, viewOf({ ...mesh.router, table })));
    let turns = 0;
    let isAnswered = false;
    const turn = () => {
      turns += 1;
      if (!isAnswered) setImmediate(turn);
    };
    setImmediate(turn);
    const { body } = await ask({ socketPath });
    isAnswered = true;
    expect(Object.keys(JSON.parse(body) as object)).toHaveLength(count);
    expect(turns).toBeGreaterThan(body.length / (64 * 1024));
  });
});
