import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parseRegistryMessage } from "./message.js";
import { Registrations } from "./registrations.js";

const OPTIONS = { staleThresholdMs: 120_000, maxCount: 5 };

/** A table of registrations, and the log that it writes to. */
class Table {
  readonly entries = new Map<string, string>();
  readonly registrations = new Registrations({
    ...OPTIONS,
    onWant: ({ key, value }) => {
      if (value) this.entries.set(key, Buffer.from(value).toString("base64"));
      else this.entries.delete(key);
    },
  });
  readonly #refreshes: boolean;

  /** @param refreshes whether messages that come again are only refreshed, as they should be */
  constructor(refreshes: boolean) {
    this.#refreshes = refreshes;
  }

  register(text: string, nowMs: number): void {
    if (this.#refreshes && this.registrations.refresh(text, nowMs)) return;
    this.registrations.register(parseRegistryMessage(Buffer.from(text)), text, nowMs);
  }
}

const messages = fc
  .record({
    host: fc.constantFrom("10.0.0.1", "10.0.0.2"),
    port: fc.constantFrom(1, 2),
    tls_port: fc.constantFrom(0, 0, 3),
    uris: fc.uniqueArray(fc.constantFrom("a.example.com", "a.example.com/b", "c.example.com", "no host"), {
      minLength: 1,
    }),
    private_instance_id: fc.constantFrom("one", "two"),
    endpoint_updated_at_ns: fc.constantFrom(0, 5, 6),
    stale_threshold_in_seconds: fc.constantFrom(0, 30),
  })
  .map((message) => JSON.stringify(message));

const steps = fc.array(
  fc.oneof(
    { weight: 8, arbitrary: fc.record({ kind: fc.constant("register" as const), text: messages }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant("unregister" as const), text: messages }) },
    // What was said before is said again most of the time.
    { weight: 16, arbitrary: fc.record({ kind: fc.constant("again" as const), index: fc.nat() }) },
    { weight: 3, arbitrary: fc.record({ kind: fc.constant("wait" as const), seconds: fc.nat(50) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant("freshen" as const) }) },
  ),
  { maxLength: 60 },
);

describe("registrations", () => {
  it("come to the same whether a message that comes again is only refreshed or read anew", () => {
    fc.assert(
      fc.property(steps, (played) => {
        const fast = new Table(true);
        const plain = new Table(false);
        const said: string[] = [];
        let nowMs = 1_000_000;
        for (const step of played) {
          if (step.kind === "wait") nowMs += step.seconds * 1_000;
          const text =
            step.kind === "again" ? said[step.index % (said.length || 1)] : "text" in step ? step.text : undefined;
          for (const table of [fast, plain]) {
            if (step.kind === "freshen") table.registrations.freshen(nowMs);
            if (step.kind === "wait") table.registrations.prune(nowMs);
            if (step.kind === "unregister")
              table.registrations.unregister(parseRegistryMessage(Buffer.from(step.text)));
            else if (text !== undefined) table.register(text, nowMs);
          }
          if (step.kind === "register") said.push(step.text);
          expect(fast.entries).toEqual(plain.entries);
          expect(fast.registrations.count).toBe(fast.entries.size);
          expect(fast.registrations.count).toBeLessThanOrEqual(OPTIONS.maxCount);
        }
      }),
      { numRuns: 200 },
    );
  });

  it("are alive for exactly their threshold", () => {
    const table = new Table(true);
    table.register('{"host":"a","port":1,"uris":["x"]}', 1_000);
    expect(table.registrations.prune(1_000 + OPTIONS.staleThresholdMs)).toBe(0);
    expect(table.registrations.prune(1_001 + OPTIONS.staleThresholdMs)).toBe(1);
    expect(table.entries.size).toBe(0);
  });
});
