import fc from "fast-check";
import { hash } from "node:crypto";
import { describe, expect, it } from "vitest";
import { decodeRegistration } from "../../src/entries/entries.js";
import { parseRegistryMessage } from "../../src/sources/nats/message.js";
import { Registrations } from "../../src/sources/nats/registrations.js";
import { runs } from "../support/random-runs.js";

const STALE_MS = 120_000;

/** A publisher's message. Few of each, so that they meet. */
const message = fc.record({
  host: fc.constantFrom("10.0.0.1", "10.0.0.2"),
  uris: fc.subarray(["a.example.com", "b.example.com/cart", "*.example.com"], { minLength: 1 }),
  private_instance_id: fc.constantFrom("i1", "i2"),
  endpoint_updated_at_ns: fc.constantFrom(0, 1, 2, 3),
  stale_threshold_in_seconds: fc.constantFrom(0, 30, 120, 500),
});
type Message = typeof message extends fc.Arbitrary<infer T> ? T : never;

type Command =
  | { readonly kind: "register" | "unregister"; readonly message: Message }
  | { readonly kind: "wait"; readonly ms: number }
  | { readonly kind: "prune" | "reconnect" | "restart" };

const command: fc.Arbitrary<Command> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant("register" as const), message }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("unregister" as const), message }) },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constant("wait" as const), ms: fc.constantFrom(1, 29_999, 30_001, 90_000) }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("prune" as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom("reconnect" as const, "restart" as const) }) },
);

interface Standing {
  readonly instance: string;
  readonly updatedAt: number;
  readonly staleMs: number;
  seenMs: number;
}

/** Gorouter's rules, as plainly as they can be said. */
class Model {
  readonly endpoints = new Map<string, Standing>();

  constructor(readonly isTls: boolean) {}

  register({ host, uris, private_instance_id: instance, ...said }: Message, nowMs: number): void {
    const seconds = said.stale_threshold_in_seconds;
    const staleMs = seconds > 0 && seconds * 1_000 <= STALE_MS ? seconds * 1_000 : STALE_MS;
    for (const uri of uris) {
      const before = this.endpoints.get(`${uri} ${host}`);
      const updatedAt = said.endpoint_updated_at_ns;
      if (before?.instance === instance && isOlder(updatedAt, before.updatedAt)) continue;
      this.endpoints.set(`${uri} ${host}`, { instance, updatedAt, staleMs, seenMs: nowMs });
    }
  }

  unregister({ host, uris, endpoint_updated_at_ns: updatedAt }: Message): void {
    for (const uri of uris) {
      const before = this.endpoints.get(`${uri} ${host}`);
      if (before && !isOlder(updatedAt, before.updatedAt)) this.endpoints.delete(`${uri} ${host}`);
    }
  }

  freshen(nowMs: number): void {
    for (const endpoint of this.endpoints.values()) endpoint.seenMs = nowMs;
  }

  prune(nowMs: number): void {
    for (const [name, { seenMs, staleMs }] of this.endpoints) {
      if (!this.isTls && nowMs - seenMs > staleMs) this.endpoints.delete(name);
    }
  }

  shown(): readonly string[] {
    return [...this.endpoints].map(([name, { instance, updatedAt }]) => `${name} ${instance} ${updatedAt}`).sort();
  }
}

const isOlder = (a: number, b: number) => a !== 0 && b !== 0 && a < b;

/** What the log holds, and the source's memory of it, which a restart loses. */
class Subject {
  readonly entries = new Map<string, Uint8Array>();
  registrations = this.#fresh();

  #fresh(): Registrations {
    return new Registrations({
      staleThresholdMs: STALE_MS,
      maxCount: 1_000,
      onWant: ({ key, value }) => {
        if (value) this.entries.set(key, value);
        else this.entries.delete(key);
      },
    });
  }

  register(bytes: Buffer, nowMs: number): void {
    const digest = hash("sha256", bytes);
    if (this.registrations.refresh(digest, nowMs)) return;
    this.registrations.register(parseRegistryMessage(bytes), digest, nowMs);
  }

  restart(nowMs: number): void {
    this.registrations = this.#fresh();
    for (const [key, value] of this.entries) this.registrations.takeOver(key, value, nowMs);
  }

  shown(): readonly string[] {
    return [...this.entries.values()]
      .map(decodeRegistration)
      .map((one) => `${one.host}${one.path} ${one.address} ${one.instanceGuid} ${one.updatedAtNs}`)
      .sort();
  }
}

describe("registrations", () => {
  it("end as Gorouter's rules have it, whatever is registered, removed, missed or restarted in between", () => {
    fc.assert(
      fc.property(fc.boolean(), fc.array(command, { maxLength: 40 }), (isTls, commands) => {
        const model = new Model(isTls);
        const subject = new Subject();
        let nowMs = 1_000_000;
        for (const one of commands) {
          const bytes =
            "message" in one && Buffer.from(JSON.stringify({ ...one.message, port: 80, tls_port: isTls ? 443 : 0 }));
          switch (one.kind) {
            case "register":
              model.register(one.message, nowMs);
              if (bytes) subject.register(bytes, nowMs);
              break;
            case "unregister":
              model.unregister(one.message);
              if (bytes) subject.registrations.unregister(parseRegistryMessage(bytes));
              break;
            case "wait":
              nowMs += one.ms;
              break;
            case "prune":
              model.prune(nowMs);
              subject.registrations.prune(nowMs);
              break;
            case "reconnect":
              model.freshen(nowMs);
              subject.registrations.freshen(nowMs);
              break;
            case "restart":
              // With TLS, what a restart took over has a rule of its own, which registrations.test.ts tells.
              if (isTls) break;
              model.freshen(nowMs);
              subject.restart(nowMs);
          }
          expect(subject.shown()).toEqual(model.shown());
        }
      }),
      runs(1_000),
    );
  });
});
