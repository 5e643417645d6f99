import type { NatsConnection } from "@nats-io/transport-node";
import { z } from "zod";
import { systemClock } from "../../lib/clock.js";
import type { Registry } from "./registrations.js";

const greetingSchema = z.looseObject({ minimumRegisterIntervalInSeconds: z.number().positive() });

const GREETING_TIMEOUT_MS = 1_000;

/**
 * When to say everything again: as often as the routers of a registry want to hear it. Greets them each second until
 * one answers; a router that starts is told everything at once.
 *
 * Diego's route-emitters wait for a random part of a second before that, since there is one on each cell; here is one.
 * Source   watcher/nats and emitter of cloudfoundry/route-emitter.
 */
export class Rhythm {
  readonly #registry: Registry;
  readonly #emitAll: () => void;
  #stop = new AbortController();
  #timer: NodeJS.Timeout | undefined;

  constructor(registry: Registry, emitAll: () => void) {
    this.#registry = registry;
    this.#emitAll = emitAll;
  }

  /** Begins anew, on a connection that is open. */
  start(connection: NatsConnection): void {
    this.stop();
    this.#stop = new AbortController();
    connection.subscribe(`${this.#registry}.start`, {
      callback: (error, message) => {
        if (error === null) this.#hear(message.string());
      },
    });
    void this.#greet(connection, this.#stop.signal);
  }

  stop(): void {
    this.#stop.abort();
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  async #greet(connection: NatsConnection, signal: AbortSignal): Promise<void> {
    while (!signal.aborted && this.#timer === undefined && !connection.isClosed()) {
      const answer = await connection
        .request(`${this.#registry}.greet`, "", { timeout: GREETING_TIMEOUT_MS })
        .catch(() => undefined);
      if (answer !== undefined && !isAborted(signal) && this.#hear(answer.string())) return;
      await systemClock.sleep(GREETING_TIMEOUT_MS, signal);
    }
  }

  /** Whether it was a greeting that could be read. */
  #hear(text: string): boolean {
    const greeting = greetingSchema.safeParse(parseJson(text));
    if (!greeting.success) return false;
    clearInterval(this.#timer);
    this.#timer = setInterval(this.#emitAll, greeting.data.minimumRegisterIntervalInSeconds * 1_000);
    this.#emitAll();
    return true;
  }
}

/** It may have aborted while something was waited for. */
function isAborted(signal: AbortSignal): boolean {
  return signal.aborted;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
