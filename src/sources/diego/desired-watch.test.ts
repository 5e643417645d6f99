import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, beforeEach, describe, expect, it, onTestFinished } from "vitest";
import { eventually } from "../../../test/support/eventually.js";
import { type Certificates, createCertificates } from "../../emulator/certificates.js";
import { type EmulatedDiego, startDiego } from "../../emulator/diego/emulated-diego.js";
import { decodeRoute, encodeRoute, type Route } from "../../entries/entries.js";
import { KEY_SPACES } from "../../entries/keys.js";
import { createLogger, silentLogger } from "../../lib/logger.js";
import { openEmbeddedLog } from "../../log/embedded.js";
import { openKeySpaceWriter } from "../../log/key-space-writer.js";
import type { MeshLog } from "../../log/log.js";
import { desiredWatch, type ProcessHint } from "./desired-watch.js";

const KEY_SPACE = KEY_SPACES.diegoRoutes;
const VERSION = "c2f2f4f1-1111-4c0b-9a53-0000000000aa";
const guid = (number: number) => `5a1c0f6e-7f0e-4c0b-9a53-${String(number).padStart(12, "0")}`;

let certificates: Certificates;
let diego: EmulatedDiego;
let log: MeshLog;
beforeAll(async () => {
  certificates = await createCertificates();
});
beforeEach(async () => {
  diego = await startDiego({ host: "127.0.0.1", bbsPort: 0, certificates, logger: silentLogger });
  const directory = await mkdtemp(join(tmpdir(), "desired-watch-"));
  log = await openEmbeddedLog({ directory });
  return async () => {
    await diego.close();
    await log.close();
    await rm(directory, { recursive: true, force: true });
  };
});

const cfRoute = (hostname: string, more: object = {}) => ({ hostnames: [hostname], port: 8080, ...more });

interface Told {
  readonly instances?: number;
  readonly annotation?: string;
  readonly elements?: readonly object[];
}

/** Tells Diego to run a process that leads to hosts, with the key that it has for ssh. */
async function desire(process: number, hostnames: readonly string[], told: Told = {}): Promise<void> {
  const { instances = 1, annotation = "1.0", elements = hostnames.map((hostname) => cfRoute(hostname)) } = told;
  const lrpProcessGuid = `${guid(process)}-${VERSION}`;
  const routes = { "cf-router": elements, "diego-ssh": { container_port: 2222, private_key: "SECRET" } };
  await diego.addSyntheticProcesses([{ lrpProcessGuid, appGuid: guid(process), instances, annotation, routes }]);
}

async function stored(keySpace: string): Promise<readonly Route[]> {
  const routes: Route[] = [];
  for await (const entries of log.read(keySpace)) {
    for (const { value } of entries) if (value) routes.push(decodeRoute(value));
  }
  return routes;
}

/** Resolves when routes with these hosts and paths are written, and no others. */
async function holds(...places: readonly string[]): Promise<void> {
  await eventually(async () => {
    const found = (await stored(KEY_SPACE)).map(({ host, path }) => host + path).sort();
    return found.join() === [...places].sort().join();
  });
}

async function start() {
  const hints: ProcessHint[] = [];
  const lines: string[] = [];
  const credentials = { ca: certificates.ca, ...certificates.client };
  const watch = desiredWatch({
    urls: [diego.bbsUrl],
    credentials: () => credentials,
    onHint: (hint) => void hints.push(hint),
    readKnown: () => log.read(KEY_SPACES.cloudControllerRoutes),
    logger: createLogger("debug", { write: (line) => void lines.push(line) }),
  });
  const ending = new AbortController();
  const running = watch.run(await openKeySpaceWriter(log, KEY_SPACE), ending.signal);
  const stop = async () => {
    ending.abort();
    await running;
  };
  onTestFinished(stop);
  await eventually(() => watch.status.state === "following");
  return { watch, hints, lines, stop };
}

describe("hints from what Diego is told to run", () => {
  it("name the process, and are certain where its routes changed", async () => {
    const { hints } = await start();
    await desire(1, ["shop.test"]);
    await eventually(() => hints.length === 1);
    await desire(1, ["shop.test", "cart.test"]);
    await eventually(() => hints.length === 2);
    // A weight that changed shows as a process that was updated, no more.
    await desire(1, ["shop.test", "cart.test"], { annotation: "2.0" });
    await eventually(() => hints.length === 3);
    await diego.remove(`${guid(1)}-${VERSION}`);
    await eventually(() => hints.length === 4);
    expect(hints).toEqual([false, true, false, false].map((isCertain) => ({ processGuids: [guid(1)], isCertain })));
  });

  it("are not given when a process is scaled, which says nothing of routes", async () => {
    const { hints } = await start();
    await desire(1, ["shop.test"]);
    await desire(1, ["shop.test"], { instances: 3, annotation: "2.0" });
    await desire(2, ["cart.test"]);
    await eventually(() => hints.some(({ processGuids }) => processGuids.includes(guid(2))));
    expect(hints.flatMap(({ processGuids }) => processGuids)).toEqual([guid(1), guid(2)]);
  });

  it("go on after an event that can't be decoded, and after the stream was cut", async () => {
    const { hints, lines } = await start();
    diego.faults.sendBrokenProtobuf();
    await desire(1, ["shop.test"]);
    await eventually(() => hints.length === 1);
    diego.faults.cutEventStreams();
    await eventually(() => lines.filter((line) => line.includes("following what Diego is told")).length === 2);
    await desire(2, ["cart.test"]);
    await eventually(() => hints.length === 2);
  });
});

describe("a second opinion on routes", () => {
  it("is of places that no known route has, follows the events, and is taken back as a whole", async () => {
    const known = { guid: "known", host: "known.test", path: "/cart" };
    await log.append([{ key: `${KEY_SPACES.cloudControllerRoutes}known`, value: encodeRoute(known) }]);
    await desire(1, ["known.test/cart", "known.test/other", "shop.test"]);
    const { watch } = await start();
    watch.giveOpinion(true);
    await holds("known.test/other", "shop.test");
    await desire(2, ["shop.test", "fresh.test"]);
    await holds("known.test/other", "shop.test", "fresh.test");
    await eventually(async () => {
      const shop = (await stored(KEY_SPACE)).find(({ host }) => host === "shop.test");
      return shop?.destinations.map(({ processGuid }) => processGuid).join() === `${guid(1)},${guid(2)}`;
    });
    await diego.remove(`${guid(1)}-${VERSION}`);
    await holds("shop.test", "fresh.test");
    watch.giveOpinion(false);
    await holds();
    expect((await stored(KEY_SPACES.cloudControllerRoutes)).map(({ guid: of }) => of)).toEqual(["known"]);
  });

  it("can be wanted again, and is not given before somebody wants it", async () => {
    await desire(1, ["shop.test"]);
    const { watch, stop } = await start();
    await desire(2, ["fresh.test"]);
    watch.giveOpinion(true);
    await holds("shop.test", "fresh.test");
    watch.giveOpinion(false);
    await holds();
    await desire(1, ["moved.test"]);
    watch.giveOpinion(true);
    await holds("moved.test", "fresh.test");
    await stop();
    // What an earlier run left stands until it is known who can be asked.
    const next = await start();
    await holds("moved.test", "fresh.test");
    next.watch.giveOpinion(false);
    await holds();
  });

  it("is made up for after a connection was lost", async () => {
    await desire(1, ["shop.test"]);
    const { watch } = await start();
    watch.giveOpinion(true);
    await holds("shop.test");
    await diego.faults.refuseConnections();
    await eventually(() => watch.status.state === "retrying");
    expect(watch.status.lastError).toContain("fix:");
    await desire(1, ["moved.test"]);
    await desire(2, ["fresh.test"]);
    await diego.faults.acceptConnections();
    await holds("moved.test", "fresh.test");
    await eventually(() => watch.status.state === "following");
  });

  it("stays for what a list lacks while the domain is not fresh", async () => {
    await desire(1, ["shop.test"]);
    const { watch } = await start();
    watch.giveOpinion(true);
    await holds("shop.test");
    await diego.faults.refuseConnections();
    diego.faults.setDomainFresh(false);
    await diego.remove(`${guid(1)}-${VERSION}`);
    await desire(2, ["fresh.test"]);
    await diego.faults.acceptConnections();
    await holds("shop.test", "fresh.test");
  });

  it("takes routes with their route service, leaves out what can't be read, says so, and never tells a key", async () => {
    const guarded = cfRoute("guarded.test", { route_service_url: "https://guard.test" });
    await desire(1, [], { elements: [guarded, { hostnames: "none" }, cfRoute("shop.test")] });
    const { watch, lines } = await start();
    watch.giveOpinion(true);
    await holds("guarded.test", "shop.test");
    const told = lines.join("");
    expect(told).toContain("can't be read");
    expect(told).not.toContain("SECRET");
  });
});
