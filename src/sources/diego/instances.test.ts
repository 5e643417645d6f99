import { create, type MessageInitShape } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  type ActualLRP,
  ActualLRPSchema,
  ModificationTagSchema,
  PreferredAddress,
  Presence,
} from "../../gen/bbs/v1/bbs_pb.js";
import { decodeProcess, encodeProcess, InstanceState } from "../../entries/entries.js";
import type { InstanceEvent, Sighting } from "./bbs-events.js";
import { Instances } from "./instances.js";

const SHOP = "5a1c0f6e-7f0e-4c0b-9a53-000000000001";
const CART = "5a1c0f6e-7f0e-4c0b-9a53-000000000002";
const VERSION = "c2f2f4f1-1111-4c0b-9a53-0000000000aa";
const HTTP = { containerPort: 8080, hostPort: 61001, containerTlsProxyPort: 61443, hostTlsProxyPort: 61002 };
const SSH = { containerPort: 2222, hostPort: 61003, containerTlsProxyPort: 61444, hostTlsProxyPort: 61004 };

type LrpInit = Exclude<MessageInitShape<typeof ActualLRPSchema>, ActualLRP>;

/** A running instance of the shop, but for what is said. */
function lrp(guid: string, changes: LrpInit = {}): Sighting {
  return create(ActualLRPSchema, {
    key: { processGuid: `${SHOP}-${VERSION}`, index: 0, domain: "cf-apps" },
    instanceKey: { instanceGuid: guid, cellId: "cell-1" },
    netInfo: {
      address: "10.0.1.5",
      instanceAddress: "10.255.0.7",
      ports: [HTTP, SSH],
      preferredAddress: PreferredAddress.HOST,
    },
    state: "RUNNING",
    since: 1_700_000_000_123_456_789n,
    modificationTag: { epoch: "e", index: 1 },
    availabilityZone: "z1",
    metricTags: { app_id: "shop-app", source_id: "source" },
    ...changes,
  });
}
const tag = (index: number, epoch = "e") => ({ modificationTag: { epoch, index } });
const seen = (sighting: Sighting): InstanceEvent => ({ kind: "seen", sighting });
const removed = (sighting: Sighting): InstanceEvent => ({ kind: "removed", sighting });

/** A whole list at once. */
function list(instances: Instances, sightings: readonly Sighting[], isFresh = true): ReadonlySet<string> {
  const reading = instances.beginList();
  for (const sighting of sightings) reading.take(sighting);
  return reading.finish(isFresh);
}

function listed(...sightings: readonly Sighting[]): Instances {
  const instances = new Instances();
  list(instances, sightings);
  return instances;
}

const guids = (instances: Instances, process = SHOP) => instances.entry(process)?.instances?.map(({ guid }) => guid);

describe("an entry", () => {
  it("says how an instance is reached from both sides, and leaves ssh out", () => {
    expect(listed(lrp("a")).entry(SHOP)).toEqual({
      processGuid: SHOP,
      appGuid: "shop-app",
      instances: [
        {
          guid: "a",
          index: 0,
          version: VERSION,
          address: "10.0.1.5",
          instanceAddress: "10.255.0.7",
          isolationSegment: "",
          ports: [{ containerPort: 8080, hostPort: 61001, containerTlsPort: 61443, hostTlsPort: 61002 }],
          availabilityZone: "z1",
          cellId: "cell-1",
          certSan: "a",
          state: InstanceState.RUNNING,
          sinceNs: 1_700_000_000_123_456_789n,
        },
      ],
    });
  });

  it("holds the instances of all versions, in the order of version, index and guid", () => {
    const at = (version: string, index: number) => ({
      key: { processGuid: `${SHOP}-${version}`, index, domain: "cf-apps" },
    });
    const instances = listed(
      lrp("d", at("v2", 0)),
      lrp("c", at("v1", 1)),
      lrp("b", at("v1", 0)),
      lrp("a", at("v1", 1)),
    );
    expect(guids(instances)).toEqual(["b", "a", "c", "d"]);
  });

  it("keeps evacuating and suspect instances, which still serve", () => {
    const instances = listed(lrp("a", { presence: Presence.EVACUATING }), lrp("b", { presence: Presence.SUSPECT }));
    const states = instances.entry(SHOP)?.instances?.map(({ state }) => state);
    expect(states).toEqual([InstanceState.EVACUATING, InstanceState.SUSPECT]);
  });

  it.each<[string, LrpInit]>([
    ["is unclaimed", { state: "UNCLAIMED", instanceKey: { instanceGuid: "", cellId: "" } }],
    ["is claimed", { state: "CLAIMED" }],
    ["crashed", { state: "CRASHED" }],
    ["is marked unroutable", { routable: false }],
    ["has ssh only", { netInfo: { address: "10.0.1.5", ports: [SSH] } }],
    ["is of another domain", { key: { processGuid: `${SHOP}-${VERSION}`, index: 0, domain: "cf-tasks" } }],
    ["has a process guid without a version", { key: { processGuid: SHOP, index: 0, domain: "cf-apps" } }],
    ["has a process guid of another form", { key: { processGuid: `x.*>-${SHOP}`, index: 0, domain: "cf-apps" } }],
  ])("does not exist for a process whose only instance %s", (_, changes) => {
    expect(listed(lrp("a", changes)).entry(SHOP)).toBeUndefined();
  });

  it("keeps a port that only TLS reaches, and drops one that nothing reaches", () => {
    const tlsOnly = { containerPort: 8080, hostPort: 0, hostTlsProxyPort: 61002 };
    const unreachable = { containerPort: 9090, hostPort: 0 };
    const instances = listed(lrp("a", { netInfo: { address: "10.0.1.5", ports: [tlsOnly, unreachable] } }));
    expect(instances.entry(SHOP)?.instances).toMatchObject([
      { ports: [{ containerPort: 8080, hostPort: 0, hostTlsPort: 61002 }] },
    ]);
  });

  it("names no certificate for an instance without a TLS proxy", () => {
    const instances = listed(
      lrp("a", { netInfo: { address: "10.0.1.5", ports: [{ containerPort: 80, hostPort: 1 }] } }),
    );
    expect(instances.entry(SHOP)?.instances).toMatchObject([{ certSan: "" }]);
  });

  it("leads to the container where the BBS prefers the instance's address", () => {
    const netInfo = {
      address: "10.0.1.5",
      instanceAddress: "10.255.0.7",
      ports: [HTTP],
      preferredAddress: PreferredAddress.INSTANCE,
    };
    expect(listed(lrp("a", { netInfo })).entry(SHOP)?.instances).toMatchObject([
      {
        address: "10.255.0.7",
        ports: [{ containerPort: 8080, hostPort: 8080, containerTlsPort: 61443, hostTlsPort: 61443 }],
      },
    ]);
  });

  it("falls back to the source id for the app, and to nothing", () => {
    expect(listed(lrp("a", { metricTags: { source_id: "s" } })).entry(SHOP)?.appGuid).toBe("s");
    expect(listed(lrp("a", { metricTags: {} })).entry(SHOP)?.appGuid).toBe("");
  });
});

describe("an event", () => {
  it("moves its process, and no other", () => {
    const instances = listed(lrp("a"));
    const other = lrp("b", { key: { processGuid: `${CART}-v`, index: 0, domain: "cf-apps" } });
    expect(instances.apply(seen(other))).toBe(CART);
    expect(guids(instances)).toEqual(["a"]);
    expect(guids(instances, CART)).toEqual(["b"]);
  });

  it("that comes twice, or late, changes nothing", () => {
    const instances = listed(lrp("a", tag(5)));
    expect(instances.apply(seen(lrp("a", { ...tag(5), state: "CLAIMED" })))).toBeUndefined();
    expect(instances.apply(seen(lrp("a", { ...tag(4), state: "CLAIMED" })))).toBeUndefined();
    expect(instances.apply(removed(lrp("a", tag(4))))).toBeUndefined();
    expect(guids(instances)).toEqual(["a"]);
  });

  it("of a new epoch wins", () => {
    const instances = listed(lrp("a", tag(5)));
    expect(instances.apply(seen(lrp("a", { ...tag(0, "new"), presence: Presence.EVACUATING })))).toBe(SHOP);
  });

  it("without metric tags keeps the app that is known", () => {
    const instances = listed(lrp("a"));
    expect(instances.apply(seen(lrp("b", { metricTags: {} })))).toBe(SHOP);
    expect(instances.entry(SHOP)?.appGuid).toBe("shop-app");
    const unknown = new Instances();
    unknown.apply(seen(lrp("b", { metricTags: {} })));
    expect([...list(unknown, [lrp("b")])]).toEqual([SHOP]);
    expect(unknown.entry(SHOP)?.appGuid).toBe("shop-app");
  });

  it("of an actual LRP that waits for an instance says whose app it will be", () => {
    const instances = new Instances();
    const unclaimed = { state: "UNCLAIMED", instanceKey: { instanceGuid: "", cellId: "" } };
    expect(instances.apply(seen(lrp("", unclaimed)))).toBeUndefined();
    expect(instances.apply(seen(lrp("a", { metricTags: {} })))).toBe(SHOP);
    expect(instances.entry(SHOP)?.appGuid).toBe("shop-app");
  });

  it("takes an instance out when it crashes, and older events do not bring it back", () => {
    const instances = listed(lrp("a", tag(3)));
    expect(instances.apply({ kind: "crashed", instanceGuid: "a" })).toBe(SHOP);
    expect(instances.apply(seen(lrp("a", tag(3))))).toBeUndefined();
    expect(instances.entry(SHOP)).toBeUndefined();
    expect(instances.apply({ kind: "crashed", instanceGuid: "unheard of" })).toBeUndefined();
  });

  it("removes an instance, and older events do not bring it back", () => {
    const instances = listed(lrp("a", tag(3)));
    expect(instances.apply(removed(lrp("a", tag(3))))).toBe(SHOP);
    expect(instances.apply(seen(lrp("a", tag(3))))).toBeUndefined();
    expect(instances.entry(SHOP)).toBeUndefined();
  });

  it("that moves nothing a proxy would see moves no process", () => {
    const instances = listed(lrp("a", tag(1)));
    expect(instances.apply(seen(lrp("a", tag(2))))).toBeUndefined();
    expect(instances.apply(seen(lrp("new", { state: "CLAIMED" })))).toBeUndefined();
  });
});

describe("a list", () => {
  it("that says what is known moves nothing", () => {
    expect([...list(listed(lrp("a"), lrp("b")), [lrp("b"), lrp("a")])]).toEqual([]);
  });

  it("repairs what events missed: new, moved and gone instances", () => {
    const instances = listed(lrp("gone"), lrp("moved"));
    const movedAway = lrp("moved", { ...tag(2), netInfo: { address: "10.0.9.9", ports: [HTTP] } });
    expect([...list(instances, [movedAway, lrp("new")])]).toEqual([SHOP]);
    expect(instances.entry(SHOP)?.instances).toMatchObject([{ guid: "moved", address: "10.0.9.9" }, { guid: "new" }]);
  });

  it("that is older than an event does not undo it", () => {
    const instances = listed(lrp("stays", tag(2)), lrp("goes"));
    const reading = instances.beginList();
    reading.take(lrp("stays", tag(2)));
    reading.take(lrp("goes"));
    instances.apply(seen(lrp("stays", { ...tag(3), presence: Presence.SUSPECT })));
    instances.apply(removed(lrp("goes")));
    instances.apply(removed(lrp("came and went", tag(4))));
    instances.apply(seen(lrp("comes")));
    reading.take(lrp("came and went", tag(4)));
    expect([...reading.finish(true)]).toEqual([]);
    expect(instances.entry(SHOP)?.instances).toMatchObject([
      { guid: "comes" },
      { guid: "stays", state: InstanceState.SUSPECT },
    ]);
  });

  it("keeps what it lacks while its domain is not fresh, and drops it once it is", () => {
    const instances = listed(lrp("a"), lrp("b"));
    expect([...list(instances, [lrp("a")], false)]).toEqual([]);
    expect(guids(instances)).toEqual(["a", "b"]);
    expect([...list(instances, [lrp("a")], true)]).toEqual([SHOP]);
    expect(guids(instances)).toEqual(["a"]);
  });

  it("that fails changes nothing", () => {
    const instances = listed(lrp("a"));
    instances.beginList().take(lrp("half", { netInfo: { address: "10.0.9.9", ports: [HTTP] } }));
    expect(guids(instances)).toEqual(["a"]);
    expect([...list(instances, [lrp("a")])]).toEqual([]);
  });

  it("wins over what an earlier run left, which else is kept until the domain is fresh", () => {
    const stored = decodeProcess(encodeProcess(listed(lrp("kept"), lrp("moved")).entry(SHOP) ?? {}));
    const instances = new Instances();
    const reading = instances.beginList();
    reading.take(lrp("moved", { presence: Presence.SUSPECT }));
    instances.recall(stored);
    reading.finish(false);
    expect(instances.entry(SHOP)).toMatchObject({
      appGuid: "shop-app",
      instances: [{ guid: "kept" }, { guid: "moved", state: InstanceState.SUSPECT }],
    });
    expect(encodeProcess(listed(lrp("kept"), lrp("moved", { presence: Presence.SUSPECT })).entry(SHOP) ?? {})).toEqual(
      encodeProcess(instances.entry(SHOP) ?? {}),
    );
    expect([...list(instances, [lrp("moved", { presence: Presence.SUSPECT })])]).toEqual([SHOP]);
    expect(guids(instances)).toEqual(["moved"]);
  });
});

/** A BBS that does as it is told: what a list says now, and the events in the order it sends them. */
class ModelBbs {
  readonly lrps = new Map<string, Sighting>();
  readonly events: InstanceEvent[] = [];

  act(guid: string, action: "move" | "crash" | "evacuate" | "remove" | "unroutable"): void {
    const now = this.lrps.get(guid);
    if (now === undefined) {
      // Instance guids are never used again.
      if (this.events.length > 0 && this.#used.has(guid)) return;
      this.#used.add(guid);
      this.#set(guid, lrp(guid, { ...tag(0, `${guid}-0`), key: this.#key(guid) }));
      return;
    }
    const epoch = now.modificationTag?.epoch ?? "";
    const index = now.modificationTag?.index ?? 0;
    const next = (changes: Partial<Sighting>, at = { epoch, index: index + 1 }): Sighting => ({
      ...now,
      ...changes,
      modificationTag: create(ModificationTagSchema, at),
    });
    if (action === "move") this.#set(guid, next({ availabilityZone: `z${index}` }));
    if (action === "unroutable") this.#set(guid, next({ routable: now.routable === false }));
    if (action === "evacuate")
      this.#set(guid, next({ presence: Presence.EVACUATING }, { epoch: `${epoch}+`, index: 0 }));
    if (action === "crash") {
      this.events.push({ kind: "crashed", instanceGuid: guid });
      this.#set(guid, next({ state: "CRASHED" }));
    }
    if (action === "remove") {
      this.lrps.delete(guid);
      this.events.push(removed(now));
    }
  }

  readonly #used = new Set<string>();

  #key(guid: string) {
    return { processGuid: `${guid < "c" ? SHOP : CART}-${VERSION}`, index: 0, domain: "cf-apps" };
  }

  #set(guid: string, sighting: Sighting): void {
    this.lrps.set(guid, sighting);
    this.events.push(seen(sighting));
  }
}

const guidsInModel = fc.constantFrom("a", "b", "c", "d", "e", "f", "g");
const actions = fc.constantFrom("move", "crash", "evacuate", "remove", "unroutable");
const history = fc.array(fc.tuple(guidsInModel, actions), { maxLength: 40 });

function entries(instances: Instances) {
  return [SHOP, CART].map((process) => instances.entry(process));
}

describe("events and lists together", () => {
  it("end, in whatever way they interleave, in what a fresh list gives", () => {
    const beginAt = fc.nat({ max: 40 });
    const snapshotAfter = fc.nat({ max: 20 });
    const lag = fc.nat({ max: 20 });
    fc.assert(
      fc.property(
        history,
        fc.array(fc.tuple(beginAt, snapshotAfter, fc.nat({ max: 20 })), { maxLength: 3 }),
        lag,
        (steps, lists, maxLag) => {
          const bbs = new ModelBbs();
          const instances = new Instances();
          let delivered = 0;
          const deliverUpTo = (count: number) => {
            for (; delivered < Math.min(count, bbs.events.length); delivered += 1) {
              const event = bbs.events[delivered];
              if (event) instances.apply(event);
            }
          };
          /** One list at a time, as the source reads them. */
          let reading:
            | {
                readonly finishAt: number;
                readonly snapshotAt: number;
                readonly list: ReturnType<Instances["beginList"]>;
                snapshot?: readonly Sighting[];
              }
            | undefined;
          for (const [step, [guid, action]] of steps.entries()) {
            const due = lists.find(([begin]) => begin === step);
            if (reading === undefined && due) {
              reading = { list: instances.beginList(), snapshotAt: step + due[1], finishAt: step + due[1] + due[2] };
            }
            if (reading && step >= reading.snapshotAt) reading.snapshot ??= [...bbs.lrps.values()];
            if (reading?.snapshot && step >= reading.finishAt) {
              for (const sighting of reading.snapshot) reading.list.take(sighting);
              reading.list.finish(true);
              reading = undefined;
            }
            bbs.act(guid, action);
            deliverUpTo(bbs.events.length - maxLag);
          }
          if (reading) {
            for (const sighting of reading.snapshot ?? bbs.lrps.values()) reading.list.take(sighting);
            reading.list.finish(true);
          }
          deliverUpTo(bbs.events.length);
          expect(entries(instances)).toEqual(entries(listed(...bbs.lrps.values())));
        },
      ),
      { numRuns: 500 },
    );
  });

  it("end in the same state when events come twice and out of order, as long as no epoch changes", () => {
    fc.assert(
      fc.property(history, fc.infiniteStream(fc.nat()), (steps, random) => {
        const bbs = new ModelBbs();
        for (const [guid, action] of steps) if (action !== "evacuate") bbs.act(guid, action);
        const shuffled = [...bbs.events, ...bbs.events]
          .map((event) => ({ event, at: random.next().value as number }))
          .sort((a, b) => a.at - b.at);
        const instances = new Instances();
        for (const { event } of shuffled) instances.apply(event);
        expect(entries(instances)).toEqual(entries(listed(...bbs.lrps.values())));
      }),
    );
  });

  it("end in what the list says when nothing came while it was read, whatever nonsense came before", () => {
    fc.assert(
      fc.property(history, history, fc.infiniteStream(fc.boolean()), (before, after, taken) => {
        const instances = new Instances();
        const earlier = new ModelBbs();
        for (const [guid, action] of before) earlier.act(guid, action);
        for (const event of earlier.events) if (taken.next().value === true) instances.apply(event);
        const bbs = new ModelBbs();
        for (const [guid, action] of after) bbs.act(`${guid}'`, action);
        list(instances, [...bbs.lrps.values()]);
        expect(entries(instances)).toEqual(entries(listed(...bbs.lrps.values())));
      }),
    );
  });

  it("tell every process that moves: entries that are only written when told stay right", () => {
    fc.assert(
      fc.property(history, fc.nat({ max: 40 }), (steps, listAt) => {
        const bbs = new ModelBbs();
        const instances = new Instances();
        const written = new Map<string, unknown>();
        const write = (moved: Iterable<string>) => {
          for (const guid of moved) written.set(guid, instances.entry(guid));
        };
        let delivered = 0;
        for (const [step, [guid, action]] of steps.entries()) {
          bbs.act(guid, action);
          if (step === listAt) write(list(instances, [...bbs.lrps.values()]));
          if (step % 2 === 0) continue;
          for (const event of bbs.events.slice(delivered)) {
            const moved = instances.apply(event);
            if (moved !== undefined) write([moved]);
          }
          delivered = bbs.events.length;
        }
        expect([SHOP, CART].map((guid) => written.get(guid))).toEqual(entries(instances));
      }),
    );
  });
});

describe("a list that is read again", () => {
  function again(instances: Instances, sightings: ReadonlyMap<number, Sighting>) {
    const reading = instances.beginList();
    const taken: number[] = [];
    for (const [fingerprint, sighting] of sightings) {
      if (reading.isUnchanged(fingerprint)) continue;
      taken.push(fingerprint);
      reading.take(sighting, fingerprint);
    }
    reading.finish(true);
    return taken;
  }

  it("need not be taken but for what is new, and what an event has told of since", () => {
    const instances = new Instances();
    const sightings = new Map([1, 2, 3].map((number) => [number, lrp(`i${number}`, tag(1))] as const));
    expect(again(instances, sightings)).toEqual([1, 2, 3]);
    expect(again(instances, sightings)).toEqual([]);
    instances.apply(seen(lrp("i2", { ...tag(2), availabilityZone: "z9" })));
    expect(again(instances, sightings)).toEqual([2]);
    sightings.set(4, lrp("i4", tag(1)));
    sightings.delete(1);
    expect(again(instances, sightings)).toContain(4);
    expect(guids(instances)).toEqual(["i2", "i3", "i4"]);
  });

  it("is taken as a whole once the segments of cells have changed", () => {
    let segment = "red";
    const instances = new Instances(() => segment);
    const sightings = new Map([[1, lrp("i1", tag(1))]]);
    again(instances, sightings);
    segment = "blue";
    instances.forgetFingerprints();
    expect(again(instances, sightings)).toEqual([1]);
    expect(instances.entry(SHOP)?.instances?.map(({ isolationSegment }) => isolationSegment)).toEqual(["blue"]);
  });
});
