import { randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import type { Diego, RunningInstance } from "../diego/diego.js";
import { desiredProcess, lrpProcessGuid } from "./desired-process.js";
import type { App, Process } from "./records.js";
import type { Store } from "./store.js";

const ROLLING_TIMEOUT_MS = 300_000;
/**
 * Between an instance that runs and the end of the one that it replaces: Cloud Controller looks at its deployments every
 * 5 s, and routers learn of the new instance meanwhile.
 */
const RETIRE_PAUSE_MS = 500;

type Ending = "running" | "replaced" | "failed";

/** Tells Diego what Cloud Controller wants. What concerns one app happens in order. */
export class Launcher {
  readonly #store: Store;
  readonly #diego: Diego;
  readonly #apiUrl: () => string;
  readonly #turns = new Map<string, Promise<unknown>>();
  readonly #closing = new AbortController();

  constructor(store: Store, diego: Diego, apiUrl: () => string) {
    this.#store = store;
    this.#diego = diego;
    this.#apiUrl = apiUrl;
  }

  /** Each process in a new version. An app that is started stays as it is. */
  start(app: App): Promise<void> {
    return this.#inTurn(app.guid, async () => {
      if (app.state === "STOPPED") await this.#start(app);
    });
  }

  stop(app: App): Promise<void> {
    return this.#inTurn(app.guid, async () => {
      if (app.state === "STARTED") await this.#stop(app);
    });
  }

  /** Stops it, if need be, and starts it in a new version: nothing of it runs in between. */
  restart(app: App): Promise<void> {
    return this.#inTurn(app.guid, async () => {
      if (app.state === "STARTED") await this.#stop(app);
      await this.#start(app);
    });
  }

  /** Sends routes and instance count of a running process, which keeps its version. */
  refresh(process: Process): Promise<void> {
    return this.#inTurn(process.appGuid, () => this.#desireAll(process));
  }

  /** Replaces a running process by a new version, as a change of its memory does. */
  replace(process: Process): Promise<void> {
    return this.#inTurn(process.appGuid, async () => {
      if (!this.#isStarted(process)) return;
      await this.#removeRetiring(process);
      await this.#diego.remove(lrpProcessGuid(process, process.version));
      process.version = randomUUID();
      await this.#desire(process, process.version);
    });
  }

  /**
   * Starts a new version beside the one that runs: all its instances, or as many as the canary is to have.
   *
   * Returns  a promise of its end: "running" when the new version runs, and, unless it is a canary, the old ones are
   *          removed; "replaced" when another version or a stop came first; "failed" when the new version did not run in
   *          time, and was removed.
   */
  async startBeside(
    process: Process,
    canaryInstances: number | null = null,
  ): Promise<{ readonly end: Promise<Ending> }> {
    const version = randomUUID();
    await this.#inTurn(process.appGuid, async () => {
      process.retiringVersions = [...process.retiringVersions, process.version];
      process.version = version;
      process.canaryInstances = canaryInstances;
      await this.#desire(process, version);
    });
    return { end: this.#finish(process, version, canaryInstances ?? process.instances) };
  }

  /** Gives the canary all its instances; ends as `startBeside` does. */
  async promote(process: Process): Promise<{ readonly end: Promise<Ending> }> {
    const { version } = process;
    await this.#inTurn(process.appGuid, async () => {
      process.canaryInstances = null;
      await this.#desire(process, version);
    });
    return { end: this.#finish(process, version, process.instances) };
  }

  /** Goes back to the version before the newest, if that still runs. */
  withdraw(process: Process): Promise<void> {
    return this.#inTurn(process.appGuid, () => this.#goBack(process));
  }

  async restartInstance(process: Process, index: number): Promise<void> {
    await this.#diego.restartInstance(lrpProcessGuid(process, process.version), index);
  }

  /** What runs of it: of each index the newest version's instance, else that of a version that is about to go. */
  instances(process: Process): readonly RunningInstance[] {
    const byIndex = new Map<number, RunningInstance>();
    for (const version of [...process.retiringVersions, process.version]) {
      for (const instance of this.#diego.instances(lrpProcessGuid(process, version))) {
        byIndex.set(instance.index, instance);
      }
    }
    return [...byIndex.values()];
  }

  /** Ends the waits of rolling deployments. What runs goes on running. */
  async close(): Promise<void> {
    this.#closing.abort();
    await Promise.allSettled(this.#turns.values());
  }

  async #start(app: App): Promise<void> {
    app.state = "STARTED";
    for (const process of this.#store.processesOfApp(app.guid)) {
      process.version = randomUUID();
      await this.#desire(process, process.version);
    }
  }

  async #stop(app: App): Promise<void> {
    app.state = "STOPPED";
    for (const process of this.#store.processesOfApp(app.guid)) {
      await this.#removeRetiring(process);
      await this.#diego.remove(lrpProcessGuid(process, process.version));
    }
  }

  async #finish(process: Process, version: string, instances: number): Promise<Ending> {
    const signal = AbortSignal.any([this.#closing.signal, AbortSignal.timeout(ROLLING_TIMEOUT_MS)]);
    const lrp = lrpProcessGuid(process, version);
    const isRunning = await this.#diego.whenRunning(lrp, instances, signal).then(
      () => true,
      () => false,
    );
    if (isRunning) await delay(RETIRE_PAUSE_MS, undefined, { signal: this.#closing.signal }).catch(() => undefined);
    return this.#inTurn(process.appGuid, async () => {
      if (process.version !== version || !this.#isStarted(process)) return "replaced";
      if (isRunning) {
        if (process.canaryInstances === null) await this.#removeRetiring(process);
        return "running";
      }
      // The foundation is closing: nothing is to change any more.
      if (this.#closing.signal.aborted) return "replaced";
      await this.#goBack(process);
      return "failed";
    });
  }

  async #goBack(process: Process): Promise<void> {
    const { version } = process;
    const previous = process.retiringVersions.at(-1);
    if (previous === undefined) return;
    process.retiringVersions = process.retiringVersions.slice(0, -1);
    process.version = previous;
    process.canaryInstances = null;
    await this.#diego.remove(lrpProcessGuid(process, version));
  }

  async #removeRetiring(process: Process): Promise<void> {
    const versions = process.retiringVersions;
    process.retiringVersions = [];
    process.canaryInstances = null;
    for (const version of versions) await this.#diego.remove(lrpProcessGuid(process, version));
  }

  async #desireAll(process: Process): Promise<void> {
    if (!this.#isStarted(process)) return;
    for (const version of [...process.retiringVersions, process.version]) await this.#desire(process, version);
  }

  #desire(process: Process, version: string): Promise<void> {
    return this.#diego.desire(desiredProcess(this.#store, this.#apiUrl(), process, version));
  }

  #isStarted(process: Process): boolean {
    return this.#store.apps.get(process.appGuid)?.state === "STARTED";
  }

  #inTurn<T>(appGuid: string, work: () => Promise<T>): Promise<T> {
    const previous = this.#turns.get(appGuid) ?? Promise.resolve();
    const turn = previous.then(work, work);
    this.#turns.set(appGuid, turn);
    const forget = () => {
      if (this.#turns.get(appGuid) === turn) this.#turns.delete(appGuid);
    };
    turn.then(forget, forget);
    return turn;
  }
}
