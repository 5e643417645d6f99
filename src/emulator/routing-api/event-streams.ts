import type { FastifyReply } from "fastify";
import type { ExpiringRows, Said } from "./expiring-rows.js";

/** What is odd about an event. */
export type OddEvent = "unknown" | "no-json" | "bad-route" | "huge";

/** What can go wrong with the event streams of the routing API. */
export interface RoutingApiFaults {
  /** Ends every stream, without a last chunk. */
  cutStreams(): void;
  /** Writes nothing more to any stream, with connections open; what happens meanwhile is never told. */
  stall(): void;
  resume(): void;
  /** Sends an event that can't be used to every stream. */
  sendOdd(event: OddEvent): void;
}

const HUGE_BYTES = 1024 * 1024;

/** Streams of server-sent events: a row as JSON, ids from 0 on, no heartbeat. */
export class EventStreams implements RoutingApiFaults {
  readonly #writers = new Map<FastifyReply["raw"], (name: string, data: string) => void>();
  #isStalled = false;

  /** Answers with the events of these rows, until the client goes away. */
  open<T extends Said>(reply: FastifyReply, rows: ExpiringRows<T>): void {
    reply.hijack();
    const { raw } = reply;
    raw.writeHead(200, {
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-cache, no-store, must-revalidate",
    });
    raw.flushHeaders();
    let id = 0;
    const write = (name: string, data: string) => {
      if (this.#isStalled) return;
      raw.write(`id: ${id}\nevent: ${name}\ndata: ${data}\n\n`);
      id += 1;
    };
    this.#writers.set(raw, write);
    const unfollow = rows.follow(({ type, route }) => write(type, JSON.stringify(route)));
    raw.once("close", () => {
      unfollow();
      this.#writers.delete(raw);
    });
  }

  cutStreams(): void {
    for (const raw of [...this.#writers.keys()]) raw.destroy();
  }

  stall(): void {
    this.#isStalled = true;
  }

  resume(): void {
    this.#isStalled = false;
  }

  sendOdd(event: OddEvent): void {
    const [name, data] = ODD_EVENTS[event];
    for (const write of this.#writers.values()) write(name, data());
  }
}

const ODD_EVENTS: Readonly<Record<OddEvent, readonly [name: string, data: () => string]>> = {
  unknown: ["Rename", () => "{}"],
  "no-json": ["Upsert", () => '{"route":"odd.example.com'],
  "bad-route": ["Upsert", () => '{"route":"not a host","port":-1,"ip":"","ttl":120}'],
  huge: ["Upsert", () => JSON.stringify({ route: "x".repeat(HUGE_BYTES) })],
};
