import fc from "fast-check";
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
import { DOMAIN, startMesh, type TestMesh } from "../support/mesh.js";
import { startTestRouter, type TestRouter } from "../support/router.js";
import { startSteadyLoad, type SteadyLoad, type SteadyLoadOptions } from "../support/steady-load.js";

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
    { path = "/", note = "" }: { path?: string; note?: string } = {},
  ): Promise<void> {
    await eventually(async () => (await mesh.client.get(host, path)).status === 200);
    const load = startSteadyLoad({ port: mesh.port, host, path });
    try {
      await load.more(20);
      await work(load);
      await load.more(40);
    } finally {
      const { failures } = await load.stop();
      expect(failures, note).toEqual([]);
    }
  }

  it("when an instance is evacuated: the new one comes before the old one goes", async () => {
    const host = "evacuation.example.com";
    await change(route("evacuation", { host, destinations: [to("evacuated")] }), runs("evacuated", "blue"));
    await unharmed(host, async (load) => {
      await load.answeredBy("blue");
      await change(runs("evacuated", "blue", "green"));
      await load.answeredBy("blue", "green");
      await change(runs("evacuated", "green"));
      await load.answeredBy("green");
    });
  });

  it("when a route leads from one app to another, in one change and in two, back and forth", async () => {
    const host = "swap.example.com";
    const leads = (...processGuids: string[]) =>
      change(route("swap", { host, destinations: processGuids.map((guid) => to(guid)) }));
    await leads("blue");
    await unharmed(host, async (load) => {
      await leads("green");
      await load.answeredBy("green");
      await leads("green", "blue");
      await load.answeredBy("green", "blue");
      await leads("blue");
      await load.answeredBy("blue");
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
      await load.answeredBy("blue");
      await change(route("weights", { host, destinations: [to("green", { weight: 100 })] }));
      await load.answeredBy("green");
      await weigh(0, 0);
      await load.answeredBy("blue", "green");
      await weigh(100, 0);
      await load.answeredBy("blue");
      await weigh(0, 100);
      await load.answeredBy("green");
      await weigh(50, 50);
      await load.answeredBy("blue", "green");
      await weigh(0, 0);
      await load.answeredBy("blue", "green");
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
        await load.answeredBy("green");
        if (round > 1) await retired(`${host}|http1`);
        await speaks("blue", "http1");
        await load.answeredBy("blue");
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
        await load.answeredBy("blue", "green");
        await change(gone("process.bbs.old"));
        await load.answeredBy("green");
        if (round > 1) await retired(`${host}|http1`);
        await change(runs("old", "blue"));
      }
      await load.answeredBy("blue", "green");
    });
  });

  it("when its options make Envoy build another cluster", async () => {
    const host = "options.example.com";
    const balanced = (processGuid: string, options: RouteInit["options"]) =>
      change(route("options", { host, options: options ?? {}, destinations: [to(processGuid)] }));
    await balanced("blue", {});
    await unharmed(host, async (load) => {
      await balanced("green", { loadbalancing: "least-connection" });
      await load.answeredBy("green");
      await balanced("blue", { loadbalancing: "hash", hashHeader: "x-tenant" });
      await load.answeredBy("blue");
      await balanced("green", {});
      await load.answeredBy("green");
    });
  });

  it("when a route is made again under another guid before the old one is deleted, or in the same change", async () => {
    const host = "guids.example.com";
    await change(route("guids-1", { host, destinations: [to("blue")] }));
    await unharmed(host, async (load) => {
      await change(route("guids-0", { host, destinations: [to("green")] }));
      await load.answeredBy("green");
      await change(gone("route.cc.guids-1"));
      await change(gone("route.cc.guids-0"), route("guids-2", { host, destinations: [to("blue")] }));
      await load.answeredBy("blue");
      await change(route("guids-3", { host, destinations: [to("green")] }), gone("route.cc.guids-2"));
      await load.answeredBy("green");
    });
  });

  it("when an exact host goes that a wildcard serves, and when it comes again", async () => {
    const host = "exact.wild.example.com";
    const exact = route("exact", { host, destinations: [to("blue")] });
    await change(route("wildcard", { host: "*.wild.example.com", destinations: [to("green")] }), exact);
    await unharmed(host, async (load) => {
      for (const round of [1, 2, 3]) {
        await load.answeredBy("blue");
        await change(gone("route.cc.exact"));
        await load.answeredBy("green");
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
      await load.answeredBy("green");
      await change(exact);
      await load.answeredBy("blue");
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
        await load.answeredBy("green");
        await change(gone("route.cc.paths-cart"));
        await load.answeredBy("blue");
        if (round > 1) await retired(`${host}/cart|http1`);
      }
    };
    await unharmed(host, work, { path });
  });

  it("when Cloud Controller's route comes over what NATS says, and goes again", async () => {
    const host = "precedence.example.com";
    await change(registration(host, "white"));
    await unharmed(host, async (load) => {
      await load.answeredBy("white");
      await change(route("precedence", { host, destinations: [to("blue", { protocol: "http2" })] }));
      await load.answeredBy("blue");
      await change(gone("route.cc.precedence"));
      await load.answeredBy("white");
    });
  });

  it("when Diego begins to tell of a process that NATS told of", async () => {
    const host = "sources.example.com";
    const told = registration(host, "white", { processGuid: "told" });
    await change(told, route("sources", { host, destinations: [to("told")] }));
    await unharmed(host, async (load) => {
      await load.answeredBy("white");
      await change(runs("told", "blue"));
      await load.answeredBy("blue");
      await change(gone(told.key));
      await change(runs("told", "blue", "green"));
      await load.answeredBy("blue", "green");
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
      await load.answeredBy("white");
      await Promise.all([mesh.restartAgent(), change(leads("green", "http2"))]);
      await load.answeredBy("green");
    });
  });

  it("when the agent goes after a change that nobody has asked by yet: a host that was used needs no agent", async () => {
    const host = "alone.example.com";
    const neighbour = "unasked.example.com";
    await change(
      route("alone", { host, destinations: [to("blue")] }),
      route("unasked", { host: neighbour, destinations: [to("blue")] }),
    );
    await eventually(async () => (await mesh.client.get(neighbour)).status === 200);
    await unharmed(host, async (load) => {
      await change(
        route("unasked", { host: neighbour, destinations: [to("green", { protocol: "http2" })] }),
        route("unasked-cart", { host: neighbour, path: "/cart", destinations: [to("white")] }),
        route("alone", { host, destinations: [to("green")] }),
      );
      await load.answeredBy("green");
      await holding(`${neighbour}|http2`);
      await holding(`${neighbour}/cart|http1`);
      await mesh.router.detach();
      expect((await mesh.client.get(neighbour)).json.app).toBe("green");
      expect((await mesh.client.get(neighbour, "/cart")).json.app).toBe("white");
      await mesh.restartAgent();
      // What it was given unasked is kept up to date by the next agent, too.
      await change(route("unasked", { host: neighbour, destinations: [to("white", { protocol: "http2" })] }));
      await eventually(async () => (await mesh.client.get(neighbour)).json.app === "white");
      await change(gone("route.cc.unasked"), gone("route.cc.unasked-cart"));
      await retired(`${neighbour}|http2`);
      await retired(`${neighbour}/cart|http1`);
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

  it("whatever changes into whatever else, at any pace", async () => {
    const host = "any.change.example.com";
    const destination = fc.record({
      processGuid: fc.constantFrom("blue", "green", "absent"),
      protocol: fc.constantFrom("http1", "http2"),
      weight: fc.constantFrom(0, 1, 99),
    });
    // A route that leads to what does not run is a 503 by right: each has one that does.
    const running = destination.filter(({ processGuid }) => processGuid !== "absent");
    const destinations = fc
      .tuple(running, fc.array(destination, { maxLength: 2 }))
      .map(([first, others]) => [
        { ...first, port: CONTAINER_PORT, weight: first.weight || Number(others.some(({ weight }) => weight > 0)) },
        ...others.map((other) => ({ ...other, port: CONTAINER_PORT })),
      ]);
    const options = fc.constantFrom(
      {},
      { loadbalancing: "least-connection" },
      { loadbalancing: "hash", hashHeader: "a" },
    );
    const write = fc.oneof(
      fc.record({ destinations, options }).map((init) => route("any", { host, ...init })),
      fc.record({ destinations, options }).map((init) => route("any-path", { host, path: "/cart", ...init })),
      fc.constant(gone("route.cc.any")),
      fc.constant(gone("route.cc.any-path")),
      fc.constant(registration(host, "white")),
      fc.constant(gone(registration(host, "white").key)),
    );
    const step = fc.record({ writes: fc.array(write, { minLength: 1, maxLength: 3 }), requests: fc.nat(6) });
    const seed = Date.now();
    const steps = fc.sample(step, { seed, numRuns: 80 });
    await change(route("any-wildcard", { host: "*.change.example.com", destinations: [to("white")] }));
    const work = async (load: SteadyLoad) => {
      for (const { writes, requests } of steps) {
        await change(...writes);
        await load.more(requests);
      }
    };
    await unharmed(host, work, { path: "/cart/items", note: `seed ${seed}` });
  });

  /** Resolves when Envoy has a cluster with endpoints. */
  async function holding(cluster: string): Promise<void> {
    await eventually(async () => {
      const held = await mesh.router.envoy.admin.clusters();
      return held.some((endpoint) => endpoint.cluster === cluster);
    });
  }

  /** Resolves when Envoy has dropped a cluster that nothing leads to any more. */
  async function retired(cluster: string): Promise<void> {
    await eventually(async () => {
      const held = await mesh.router.envoy.admin.clusters();
      return held.every((endpoint) => endpoint.cluster !== cluster);
    });
  }
});

describe("a change on the platform costs no request", () => {
  let mesh: TestMesh;
  beforeAll(async () => {
    mesh = await startMesh();
    await mesh.app("blue");
    await mesh.app("green");
  });
  afterAll(() => mesh.stop());

  /** Requests to a host of the domain go on all the while; none of them fails. */
  async function unharmed(
    word: string,
    work: (load: SteadyLoad) => Promise<void>,
    options: Partial<SteadyLoadOptions> = {},
  ): Promise<void> {
    const host = `${word}.${DOMAIN}`;
    await mesh.answers(host, 200, options.path);
    const load = startSteadyLoad({ port: mesh.routerPort, host, ...options });
    try {
      await load.more(20);
      await work(load);
      await load.more(40);
    } finally {
      const { failures } = await load.stop();
      expect(failures).toEqual([]);
    }
  }
  /** Resolves when `count` instances answer, none of them among `before`; returns their guids. */
  async function answering(load: SteadyLoad, count: number, before: Iterable<string> = []): Promise<readonly string[]> {
    const old = new Set(before);
    return eventually(() => {
      const guids = [...load.answerers()];
      return guids.length === count && guids.every((guid) => !old.has(guid)) ? guids : undefined;
    }, 20_000);
  }
  const app = (name: string) => ({ app: { guid: mesh.appGuid(name) } });
  const appPath = (name: string) => `/v3/apps/${mesh.appGuid(name)}`;

  it("when an instance is evacuated", async () => {
    await mesh.app("evacuee");
    await mesh.route("evacuee", { to: [{ app: "evacuee" }] });
    const work = async (load: SteadyLoad) => {
      const before = await answering(load, 1);
      mesh.diego.faults.evacuate(await mesh.lrpProcessGuid("evacuee"), 0);
      await answering(load, 1, before);
    };
    await unharmed("evacuee", work, { by: "guid" });
  });

  it("when an app of one instance is restarted version by version", async () => {
    await mesh.app("roller");
    await mesh.route("roller", { to: [{ app: "roller" }] });
    const work = async (load: SteadyLoad) => {
      const before = await answering(load, 1);
      await mesh.api.call("POST", "/v3/deployments", {
        relationships: { app: { data: { guid: mesh.appGuid("roller") } } },
      });
      await answering(load, 1, before);
    };
    await unharmed("roller", work, { by: "guid" });
  });

  it("when a new app is mapped and the old one unmapped, and when one request does both", async () => {
    const guid = await mesh.route("swap", { to: [{ app: "blue" }] });
    const destinations = `/v3/routes/${guid}/destinations`;
    await unharmed("swap", async (load) => {
      await load.answeredBy("blue");
      await mesh.api.call("POST", destinations, { destinations: [app("green")] });
      await load.answeredBy("blue", "green");
      const listed = await mesh.api.call("GET", `${destinations}?app_guids=${mesh.appGuid("blue")}`);
      const [old] = (listed as { destinations: { guid: string }[] }).destinations;
      await mesh.api.call("DELETE", `${destinations}/${old?.guid ?? ""}`);
      await load.answeredBy("green");
      await mesh.map(guid, [{ app: "blue", protocol: "http2" }]);
      await load.answeredBy("blue");
      await mesh.map(guid, [
        { app: "blue", weight: 50, protocol: "http2" },
        { app: "green", weight: 50 },
      ]);
      await load.answeredBy("blue", "green");
      await mesh.map(guid, [{ app: "green", weight: 100 }]);
      await load.answeredBy("green");
    });
  });

  it("when an app is scaled from 3 to 1 and back", async () => {
    await mesh.app("scaler", { instances: 3 });
    await mesh.route("scaler", { to: [{ app: "scaler" }] });
    const scale = (instances: number) =>
      mesh.api.call("POST", `${appPath("scaler")}/processes/web/actions/scale`, { instances });
    const work = async (load: SteadyLoad) => {
      await answering(load, 3);
      await scale(1);
      await answering(load, 1);
      await scale(3);
      await answering(load, 3);
    };
    await unharmed("scaler", work, { by: "guid" });
  });

  it("when an instance crashes and is started again: its requests are sent to another", async () => {
    await mesh.app("crasher", { instances: 2 });
    await mesh.route("crasher", { to: [{ app: "crasher" }] });
    const work = async (load: SteadyLoad) => {
      const before = await answering(load, 2);
      const lrpProcessGuid = await mesh.lrpProcessGuid("crasher");
      mesh.diego.faults.crash(lrpProcessGuid, 0);
      await eventually(() => {
        const guids = [...load.answerers()];
        return guids.length === 2 && guids.some((guid) => !before.includes(guid));
      }, 20_000);
    };
    // One that has an effect is not sent again when the app that had it is gone.
    await unharmed("crasher", work, { by: "guid", methods: ["GET"] });
  });

  it("when a path moves to a route of its own before the old route goes, and back", async () => {
    const cart = await mesh.route("cart", { path: "/cart", to: [{ app: "blue" }] });
    const work = async (load: SteadyLoad) => {
      await load.answeredBy("blue");
      const whole = await mesh.route("cart", { to: [{ app: "green" }] });
      await mesh.api.call("DELETE", `/v3/routes/${cart}`);
      await load.answeredBy("green");
      await mesh.route("cart", { path: "/cart", to: [{ app: "blue" }] });
      await load.answeredBy("blue");
      await mesh.api.call("DELETE", `/v3/routes/${whole}`);
      await eventually(async () => (await mesh.client.get(`cart.${DOMAIN}`)).status === 404);
    };
    await unharmed("cart", work, { path: "/cart/items" });
  });

  it("when another domain is deleted and made again, whose routes serve as soon as they are known", async () => {
    const domain = "brief.example.test";
    const host = `shop.${domain}`;
    await mesh.route("steady", { to: [{ app: "green" }] });
    await unharmed("steady", async () => {
      for (const owner of ["blue", "green"]) {
        await mesh.route("shop", { domain, to: [{ app: owner }] });
        const statuses = new Set<number>();
        await eventually(async () => {
          const { status } = await mesh.client.get(host);
          statuses.add(status);
          return status === 200;
        });
        expect([...statuses].filter((status) => status !== 404)).toEqual([200]);
        await mesh.api.call("DELETE", `/v3/domains/${await mesh.api.find(`/v3/domains?names=${domain}`)}`);
        await mesh.answers(host, 404);
      }
    });
  });
});
