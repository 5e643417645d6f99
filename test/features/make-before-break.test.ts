import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type SampleApp, startSampleApp } from "../../src/emulator/sample-app/app.js";
import {
  encodeProcess,
  encodeRegistration,
  encodeRoute,
  type ProcessInit,
  type RegistrationInit,
  type RouteInit,
} from "../../src/entries/entries.js";
import type { Write } from "../../src/log/log.js";
import { eventually } from "../support/eventually.js";
import { startTestRouter, type TestRouter } from "../support/router.js";
import { startSteadyLoad, type SteadyLoad } from "../support/steady-load.js";

const CONTAINER_PORT = 8080;

describe("a router makes before it breaks", () => {
  let mesh: TestRouter;
  const apps = new Map<string, SampleApp>();
  beforeAll(async () => {
    mesh = await startTestRouter({ config: () => ({ sweepIntervalMs: 100 }) });
    for (const name of ["blue", "green", "white"]) {
      const identity = { app: name, greeting: "hello", index: 0, guid: name };
      apps.set(name, await startSampleApp({ ...identity, host: "127.0.0.1", port: 0, lameDuckMs: 0 }));
    }
    await mesh.log.append([runs("blue", "blue"), runs("green", "green"), runs("white", "white")]);
  });
  afterAll(async () => {
    await mesh.stop();
    for (const app of apps.values()) await app.drain();
  });

  const portOf = (app: string) => apps.get(app)?.port ?? 0;
  const gone = (key: string): Write => ({ key, value: undefined });

  /** A process whose instances are these apps. */
  function runs(processGuid: string, ...instances: readonly string[]): Write {
    const init: ProcessInit = {
      processGuid,
      instances: instances.map((app, index) => ({
        guid: app,
        index,
        address: "127.0.0.1",
        ports: [{ containerPort: CONTAINER_PORT, hostPort: portOf(app) }],
      })),
    };
    return { key: `process.bbs.${processGuid}`, value: encodeProcess(init) };
  }
  const to = (processGuid: string, more: { weight?: number; protocol?: string } = {}) => ({
    processGuid,
    port: CONTAINER_PORT,
    protocol: "http1",
    ...more,
  });
  const route = (guid: string, init: RouteInit): Write => ({
    key: `route.cc.${guid}`,
    value: encodeRoute({ guid, ...init }),
  });
  const registration = (host: string, app: string, init: RegistrationInit = {}): Write => ({
    key: `registration.nats.${host.replaceAll(/[.*]/g, "-")}-${app}`,
    value: encodeRegistration({ host, address: "127.0.0.1", port: portOf(app), protocol: "http1", ...init }),
  });
  const change = (...writes: Write[]) => mesh.log.append(writes);

  /** Requests to a host go on all the while; none of them fails. */
  async function unharmed(
    host: string,
    work: (load: SteadyLoad) => Promise<void>,
    { path = "/", methods }: { path?: string; methods?: readonly string[] } = {},
  ): Promise<void> {
    await eventually(async () => (await mesh.client.get(host, path)).status === 200);
    const load = startSteadyLoad({ port: mesh.port, host, path, ...(methods && { methods }) });
    try {
      await load.more(20);
      await work(load);
      await load.more(40);
    } finally {
      const { total, failures, slowestMs } = await load.stop();
      console.log(host, total, failures.length, Math.round(slowestMs));
      expect(failures).toEqual([]);
    }
  }

  it("when an instance is evacuated: the new one comes before the old one goes", async () => {
    const host = "evacuation.example.com";
    await change(route("evacuation", { host, destinations: [to("evacuated")] }), runs("evacuated", "blue"));
    await unharmed(host, async (load) => {
      await load.answeredBy(["blue"]);
      await change(runs("evacuated", "blue", "green"));
      await load.answeredBy(["blue", "green"]);
      await change(runs("evacuated", "green"));
      await load.answeredBy(["green"]);
    });
  });

  it("when a route leads from one app to another, in one change and in two, back and forth", async () => {
    const host = "swap.example.com";
    const leads = (...processGuids: string[]) =>
      change(route("swap", { host, destinations: processGuids.map((guid) => to(guid)) }));
    await leads("blue");
    await unharmed(host, async (load) => {
      await leads("green");
      await load.answeredBy(["green"]);
      await leads("green", "blue");
      await load.answeredBy(["green", "blue"]);
      await leads("blue");
      await load.answeredBy(["blue"]);
    });
  });

  it("when all of the weight moves from one app to the other, and when weights come and go", async () => {
    const host = "weights.example.com";
    const weigh = (blue: number, green: number) =>
      change(
        route("weights", {
          host,
          destinations: [to("blue", { weight: blue }), to("green", { weight: green })],
        }),
      );
    await change(route("weights", { host, destinations: [to("blue", { weight: 100 })] }));
    await unharmed(host, async (load) => {
      await load.answeredBy(["blue"]);
      await change(route("weights", { host, destinations: [to("green", { weight: 100 })] }));
      await load.answeredBy(["green"]);
      await weigh(0, 0);
      await load.answeredBy(["blue", "green"]);
      await weigh(100, 0);
      await load.answeredBy(["blue"]);
      await weigh(0, 100);
      await load.answeredBy(["green"]);
      await weigh(50, 50);
      await load.answeredBy(["blue", "green"]);
      await weigh(0, 0);
      await load.answeredBy(["blue", "green"]);
    });
  });

  it("when a destination's protocol changes, there and back, and its clusters go meanwhile", async () => {
    const host = "protocol.example.com";
    const speaks = (processGuid: string, protocol: string) =>
      change(route("protocol", { host, destinations: [to(processGuid, { protocol })] }));
    await speaks("blue", "http1");
    await unharmed(host, async (load) => {
      for (const round of [1, 2, 3]) {
        await speaks("green", "http2");
        await load.answeredBy(["green"]);
        if (round > 1) await retired(`${host}|http1`);
        await speaks("blue", "http1");
        await load.answeredBy(["blue"]);
        if (round > 1) await retired(`${host}|http2`);
      }
    });
  });

  it("when the last instance of one protocol goes while another protocol's serve", async () => {
    const host = "protocols.example.com";
    const both = { host, destinations: [to("old"), to("green", { protocol: "http2" })] };
    await change(route("protocols", both), runs("old", "blue"));
    await unharmed(host, async (load) => {
      for (const round of [1, 2, 3]) {
        await load.answeredBy(["blue", "green"]);
        await change(gone("process.bbs.old"));
        await load.answeredBy(["green"]);
        if (round > 1) await retired(`${host}|http1`);
        await change(runs("old", "blue"));
      }
      await load.answeredBy(["blue", "green"]);
    });
  });

  it("when its options make Envoy build another cluster", async () => {
    const host = "options.example.com";
    const balanced = (processGuid: string, options: RouteInit["options"]) =>
      change(route("options", { host, options: options ?? {}, destinations: [to(processGuid)] }));
    await balanced("blue", {});
    await unharmed(host, async (load) => {
      await balanced("green", { loadbalancing: "least-connection" });
      await load.answeredBy(["green"]);
      await balanced("blue", { loadbalancing: "hash", hashHeader: "x-tenant" });
      await load.answeredBy(["blue"]);
      await balanced("green", {});
      await load.answeredBy(["green"]);
    });
  });

  it("when a route is made again under another guid before the old one is deleted, or in the same change", async () => {
    const host = "guids.example.com";
    await change(route("guids-1", { host, destinations: [to("blue")] }));
    await unharmed(host, async (load) => {
      await change(route("guids-0", { host, destinations: [to("green")] }));
      await load.answeredBy(["green"]);
      await change(gone("route.cc.guids-1"));
      await change(gone("route.cc.guids-0"), route("guids-2", { host, destinations: [to("blue")] }));
      await load.answeredBy(["blue"]);
      await change(route("guids-3", { host, destinations: [to("green")] }), gone("route.cc.guids-2"));
      await load.answeredBy(["green"]);
    });
  });

  it("when an exact host goes that a wildcard serves, and when it comes again", async () => {
    const host = "exact.wild.example.com";
    const exact = route("exact", { host, destinations: [to("blue")] });
    await change(route("wildcard", { host: "*.wild.example.com", destinations: [to("green")] }), exact);
    await unharmed(host, async (load) => {
      for (const round of [1, 2, 3]) {
        await load.answeredBy(["blue"]);
        await change(gone("route.cc.exact"));
        await load.answeredBy(["green"]);
        if (round > 1) await retired(`${host}|http1`);
        await change(exact);
      }
    });
  });

  it("when an exact host comes and goes faster than scopes are sent", async () => {
    const host = "hasty.brisk.example.com";
    const exact = route("hasty", { host, destinations: [to("blue")] });
    await change(route("brisk", { host: "*.brisk.example.com", destinations: [to("green")] }));
    await unharmed(host, async (load) => {
      for (let round = 1; round <= 20; round += 1) {
        await change(exact);
        await load.more(round % 4);
        await change(gone("route.cc.hasty"));
        await load.more(round % 3);
      }
      await load.answeredBy(["green"]);
      await change(exact);
      await load.answeredBy(["blue"]);
    });
  });

  it("when a path of its own comes below a host, and goes", async () => {
    const host = "paths.example.com";
    const path = "/cart/items";
    const own = route("paths-cart", { host, path: "/cart", destinations: [to("green")] });
    await change(route("paths", { host, destinations: [to("blue")] }));
    const work = async (load: SteadyLoad) => {
      for (const round of [1, 2, 3]) {
        await change(own);
        await load.answeredBy(["green"]);
        await change(gone("route.cc.paths-cart"));
        await load.answeredBy(["blue"]);
        if (round > 1) await retired(`${host}/cart|http1`);
      }
    };
    await unharmed(host, work, { path });
  });

  it("when Cloud Controller's route comes over what NATS says, and goes again", async () => {
    const host = "precedence.example.com";
    await change(registration(host, "white"));
    await unharmed(host, async (load) => {
      await load.answeredBy(["white"]);
      await change(route("precedence", { host, destinations: [to("blue", { protocol: "http2" })] }));
      await load.answeredBy(["blue"]);
      await change(gone("route.cc.precedence"));
      await load.answeredBy(["white"]);
    });
  });

  it("when Diego begins to tell of a process that NATS told of", async () => {
    const host = "sources.example.com";
    const told = registration(host, "white", { processGuid: "told" });
    await change(told, route("sources", { host, destinations: [to("told")] }));
    await unharmed(host, async (load) => {
      await load.answeredBy(["white"]);
      await change(runs("told", "blue"));
      await load.answeredBy(["blue"]);
      await change(gone(told.key));
      await change(runs("told", "blue", "green"));
      await load.answeredBy(["blue", "green"]);
    });
  });

  it("when the agent is replaced in the midst of a change", async () => {
    const host = "agents.example.com";
    const leads = (processGuid: string, protocol: string) =>
      route("agents", { host, destinations: [to(processGuid, { protocol })] });
    await change(leads("blue", "http1"));
    await unharmed(host, async (load) => {
      await change(leads("green", "http2"));
      const restarting = mesh.restartAgent();
      await change(leads("white", "http1"));
      await restarting;
      await load.answeredBy(["white"]);
      await Promise.all([mesh.restartAgent(), change(leads("green", "http2"))]);
      await load.answeredBy(["green"]);
    });
  });

  it("when it goes for good and comes again, which no other host feels", async () => {
    const host = "again.example.com";
    const neighbour = "neighbour.example.com";
    const own = route("again", { host, destinations: [to("blue")] });
    await change(own, route("neighbour", { host: neighbour, destinations: [to("green")] }));
    await unharmed(neighbour, async () => {
      for (const round of [1, 2]) {
        await eventually(async () => (await mesh.client.get(host)).status === 200);
        await change(gone("route.cc.again"));
        await eventually(async () => (await mesh.client.get(host)).status === 404);
        if (round > 1) await retired(`${host}|http1`);
        await change(own);
        // It is a host that does not exist until it is one that serves; there is no state between.
        const seen = new Set<number>();
        await eventually(async () => {
          const { status } = await mesh.client.get(host);
          seen.add(status);
          return status === 200;
        });
        expect([...seen].filter((status) => status !== 404)).toEqual([200]);
      }
    });
  });

  /** Resolves when Envoy has dropped a cluster that nothing leads to any more. */
  async function retired(cluster: string): Promise<void> {
    await eventually(async () => {
      const held = await mesh.router.envoy.admin.clusters();
      return held.every((endpoint) => endpoint.cluster !== cluster);
    });
  }
});
