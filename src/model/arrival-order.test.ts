import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { encodeAssociation, encodeProcess, encodeRegistration, encodeRoute } from "../entries/entries.js";
import { RoutingTable, type TableEntry, type TableOptions } from "./routing-table.js";

// Few of each, so that entries meet: a place with several sources, a process with several routes.
const host = fc.constantFrom("a.example.com", "b.example.com", "*.example.com", "*.x.example.com");
const path = fc.constantFrom("", "/cart", "/Cart/");
const processGuid = fc.constantFrom("p1", "p2", "");
const version = fc.constantFrom("v1", "v2");
const port = fc.constantFrom(1, 2, 3);
const protocol = fc.constantFrom("http1", "http2");
const isolationSegment = fc.constantFrom("", "red");
const options = fc.record({
  loadbalancing: fc.constantFrom("", "least-connection", "hash"),
  hashHeader: fc.constantFrom("", "x-tenant"),
  routePolicyScope: fc.constantFrom("", "", "any", "org", "space", "galaxy"),
  routePolicySources: fc.subarray(["cf:any", "cf:app:a", "cf:space:s"]),
});
const spaceGuid = fc.constantFrom("", "s1", "s2");

const route = fc
  .record({
    host: fc.oneof({ weight: 9, arbitrary: host }, { weight: 1, arbitrary: fc.constant("") }),
    path,
    internal: fc.integer({ max: 9 }).map((dice) => dice === 0),
    options,
    destinations: fc.array(
      fc.record({ processGuid, port: fc.constantFrom(0, 8080), protocol, weight: fc.constantFrom(0, 1, 9), spaceGuid }),
      { maxLength: 3 },
    ),
  })
  .map(encodeRoute);
const process = fc
  .record({
    instances: fc.array(
      fc.record({
        version,
        isolationSegment,
        certSan: fc.constantFrom("", "i1"),
        ports: fc.array(fc.record({ containerPort: fc.constant(8080), hostPort: port, hostTlsPort: port })),
      }),
      { maxLength: 2 },
    ),
  })
  .map(encodeProcess);
const registration = fc
  .record({
    address: fc.constantFrom("10.0.0.1", "10.0.0.2", "a-name"),
    ...{ host, path, processGuid, port, protocol, isolationSegment, options },
    tls: fc.boolean(),
    tags: spaceGuid.map((value) => [{ name: "space_id", value }]),
    updatedAtNs: fc.bigInt({ min: 0n, max: 2n }),
  })
  .map(encodeRegistration);
const association = fc.record({ lrpProcessGuids: fc.subarray(["p1-v1", "p1-v2", "p2-v1"]) }).map(encodeAssociation);

/** Writes of one of a few keys below a key space; one in four deletes it. */
const writes = (keySpace: string, names: readonly string[], value: fc.Arbitrary<Uint8Array>) =>
  fc.record({
    key: fc.constantFrom(...names).map((name) => keySpace + name),
    value: fc.option(value, { nil: undefined, freq: 4 }),
  });
const write: fc.Arbitrary<TableEntry> = fc.oneof(
  ...["cc", "copilot", "bbs"].map((source) => writes(`route.${source}.`, ["r1", "r2"], route)),
  writes("process.bbs.", ["p1", "p2"], process),
  writes("registration.nats.", ["n1", "n2", "n3"], registration),
  writes("registration.routingapi.", ["n1", "n2"], registration),
  writes("association.copilot.", ["p1", "p2"], association),
);
const batches = fc.array(fc.array(write, { minLength: 1, maxLength: 4 }), { maxLength: 20 });
const tableOptions: fc.Arbitrary<TableOptions> = fc.record({
  dialsTls: fc.boolean(),
  sharding: fc.record({
    mode: fc.constantFrom("all", "shared-and-segments", "segments"),
    isolationSegments: fc.constantFrom([], ["red"]),
  }),
});

/** All that a table says, by group. */
function contents(table: RoutingTable): ReadonlyMap<string, unknown> {
  const groups = [...table.groups()].sort();
  expect(new Set(groups).size).toBe(groups.length);
  return new Map(groups.map((group) => [group, table.group(group)]));
}

describe("the routing table, whatever comes in whatever order", () => {
  it("says what a new table says of the entries that stand", () => {
    fc.assert(
      fc.property(batches, tableOptions, fc.gen(), (history, ofRouter, pick) => {
        const table = new RoutingTable(ofRouter);
        for (const batch of history) table.apply(batch);
        const last = new Map(history.flat().map((entry) => [entry.key, entry]));
        const standing = [...last.values()].filter(({ value }) => value !== undefined);
        const shuffled = pick(() => fc.shuffledSubarray(standing, { minLength: standing.length }));
        const fresh = new RoutingTable(ofRouter);
        fresh.apply(shuffled);
        expect(contents(table)).toEqual(contents(fresh));
        expect(table.routeCount).toBe(fresh.routeCount);
        expect(new Set(table.keys())).toEqual(new Set(fresh.keys()));
      }),
      { numRuns: 500 },
    );
  });

  it("tells of every group that changes", () => {
    fc.assert(
      fc.property(batches, tableOptions, (history, ofRouter) => {
        const table = new RoutingTable(ofRouter);
        let before = contents(table);
        for (const batch of history) {
          const moved = table.apply(batch);
          const after = contents(table);
          for (const group of new Set([...before.keys(), ...after.keys()])) {
            if (!moved.has(group)) expect(after.get(group)).toEqual(before.get(group));
          }
          before = after;
        }
      }),
      { numRuns: 500 },
    );
  });

  it("has a group for as long as it has something to say of it", () => {
    fc.assert(
      fc.property(batches, (history) => {
        const table = new RoutingTable({ dialsTls: false });
        for (const batch of history) {
          for (const group of table.apply(batch)) {
            expect(table.hasGroup(group)).toBe(table.group(group) !== undefined);
            expect([...table.groups()].includes(group)).toBe(table.hasGroup(group));
          }
        }
      }),
    );
  });
});
