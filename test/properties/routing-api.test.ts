import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { decodeRegistration } from "../../src/entries/entries.js";
import { type ApiRoute, parseRoute } from "../../src/sources/routing-api/route.js";
import { RouteBook } from "../../src/sources/routing-api/route-book.js";
import { runs } from "../support/random-runs.js";

const TTL_SECONDS = 60;
const TTL_MS = TTL_SECONDS * 1_000;

type Command =
  | { readonly kind: "post"; readonly name: string; readonly logGuid: string }
  | { readonly kind: "delete"; readonly name: string }
  | { readonly kind: "wait"; readonly ms: number }
  /** Events that are under way arrive; some of them never do, some twice. */
  | { readonly kind: "arrive"; readonly fate: "all" | "lost" | "twice" }
  /** A list is asked for, and answered at once; its answer comes with the next "list comes". */
  | { readonly kind: "list asked" | "list comes" | "list fails" };

const command: fc.Arbitrary<Command> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant("post" as const),
      name: fc.constantFrom("a", "b", "c"),
      logGuid: fc.constantFrom("one", "two"),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constant("delete" as const), name: fc.constantFrom("a", "b", "c") }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant("wait" as const), ms: fc.constantFrom(1, 29_999, 45_000, TTL_MS) }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant("arrive" as const),
      fate: fc.constantFrom("all" as const, "all" as const, "lost" as const, "twice" as const),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constantFrom("list asked" as const, "list comes" as const, "list fails" as const),
    }),
  },
);

interface Row {
  readonly guid: string;
  readonly index: number;
  readonly logGuid: string;
  readonly expiresMs: number;
}

interface Event {
  readonly kind: "upsert" | "remove";
  readonly route: ApiRoute;
  /** How many came before it. */
  readonly order: number;
}

/** The routing API, as plainly as it can be said. */
class Api {
  readonly rows = new Map<string, Row>();
  readonly events: Event[] = [];
  eventCount = 0;
  #made = 0;

  post(name: string, logGuid: string, nowMs: number): void {
    const before = this.rows.get(name);
    const tag = before
      ? { guid: before.guid, index: before.index + 1 }
      : { guid: `tag-${(this.#made += 1)}`, index: 0 };
    this.rows.set(name, { ...tag, logGuid, expiresMs: nowMs + TTL_MS });
    this.#tell("upsert", name);
  }

  remove(name: string): void {
    if (!this.rows.has(name)) return;
    this.#tell("remove", name);
    this.rows.delete(name);
  }

  #tell(kind: Event["kind"], name: string): void {
    this.events.push({ kind, route: this.route(name), order: this.eventCount });
    this.eventCount += 1;
  }

  expire(nowMs: number): void {
    for (const [name, { expiresMs }] of this.rows) if (expiresMs <= nowMs) this.remove(name);
  }

  route(name: string): ApiRoute {
    const { guid, index, logGuid } = this.rows.get(name) ?? expect.fail();
    const tag = { guid, index };
    return parseRoute({
      ...{ route: `${name}.example.com`, ip: "10.0.0.1", port: 80, ttl: TTL_SECONDS },
      ...{ log_guid: logGuid, modification_tag: tag },
    });
  }

  listed(): readonly ApiRoute[] {
    return [...this.rows.keys()].map((name) => this.route(name));
  }

  shown(): readonly string[] {
    return [...this.rows].map(([name, { logGuid }]) => `${name}.example.com ${logGuid}`).sort();
  }
}

/** The book, and what the source does around it: events wait while a list is under way. */
class Subject {
  readonly book = new RouteBook(100);
  #asked: { readonly listed: readonly ApiRoute[]; readonly order: number } | undefined;
  #held: Event[] = [];
  /** What the latest list that came told of, and which events are older than it. */
  #latest: { readonly ids: ReadonlySet<string>; readonly order: number } = { ids: new Set(), order: 0 };

  arrive(event: Event, nowMs: number): void {
    if (this.#asked) {
      this.#held.push(event);
      return;
    }
    const { kind, route, order } = event;
    const isOld = order < this.#latest.order && this.#latest.ids.has(route.id);
    if (kind === "upsert") this.book.upsert(route, nowMs);
    else this.book.remove(route, nowMs);
    // What a list told is not taken back by what happened before.
    if (isOld) expect(this.book.value(route.id)).toBeDefined();
  }

  ask(listed: readonly ApiRoute[], order: number): void {
    this.#asked ??= { listed, order };
  }

  comes(nowMs: number): void {
    if (!this.#asked) return;
    const list = this.book.beginList();
    for (const route of this.#asked.listed) list.take(route);
    list.finish(nowMs);
    this.#latest = { ids: new Set(this.#asked.listed.map(({ id }) => id)), order: this.#asked.order };
    this.#end(nowMs);
  }

  fails(nowMs: number): void {
    if (!this.#asked) return;
    this.book.goesAway();
    this.#end(nowMs);
  }

  #end(nowMs: number): void {
    this.#asked = undefined;
    for (const event of this.#held.splice(0)) this.arrive(event, nowMs);
  }

  shown(): readonly string[] {
    return [...this.book.ids()]
      .map((id) => decodeRegistration(this.book.value(id) ?? expect.fail()))
      .map(({ host, appGuid }) => `${host} ${appGuid}`)
      .sort();
  }
}

describe("routes of the routing API", () => {
  it("end as the API has them, whatever was lost, came twice, overtook a list, or failed in between", () => {
    fc.assert(
      fc.property(fc.array(command, { maxLength: 40 }), (commands) => {
        const api = new Api();
        const subject = new Subject();
        let nowMs = 1_000_000;
        let isWhole = true;
        for (const one of commands) {
          switch (one.kind) {
            case "post":
              api.post(one.name, one.logGuid, nowMs);
              break;
            case "delete":
              api.remove(one.name);
              break;
            case "wait":
              nowMs += one.ms;
              api.expire(nowMs);
              break;
            case "arrive":
              for (const event of api.events.splice(0)) {
                if (one.fate !== "lost") subject.arrive(event, nowMs);
                if (one.fate === "twice") subject.arrive(event, nowMs);
                isWhole &&= one.fate !== "lost";
              }
              break;
            case "list asked":
              // It is asked for when all that came before was taken; what is under way may be older or newer than it.
              subject.ask(api.listed(), api.eventCount);
              break;
            case "list comes":
              subject.comes(nowMs);
              break;
            case "list fails":
              subject.fails(nowMs);
              isWhole = false;
          }
        }
        subject.comes(nowMs);
        for (const event of api.events.splice(0)) subject.arrive(event, nowMs);
        // Events alone are enough where none was lost, and no list failed.
        if (isWhole) expect(subject.shown()).toEqual(api.shown());
        // Nothing that the API has is ever missing after a list; what it lacks is gone by the second when time has passed.
        subject.ask(api.listed(), api.eventCount);
        subject.comes(nowMs);
        expect(subject.shown()).toEqual(expect.arrayContaining([...api.shown()]));
        subject.ask(api.listed(), api.eventCount);
        subject.comes(nowMs + TTL_MS);
        expect(subject.shown()).toEqual(api.shown());
      }),
      runs(2_000),
    );
  });
});
