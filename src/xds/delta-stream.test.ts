import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { DeltaDiscoveryRequestSchema } from "../gen/envoy/service/discovery/v3/discovery_pb.js";
import { DeltaStream, type Refusal } from "./delta-stream.js";
import type { DeltaResponse } from "./encode-response.js";
import type { ResourceType } from "./resources.js";

const SCOPES = "scopes";
const CLUSTERS = "clusters";
const ENDPOINTS = "endpoints";
const ROUTES = "routes";

/** A world of resources that tests change, and a proxy's stream that looks at it. */
class Bench {
  readonly scopes = new Map<string, string>();
  readonly clusters = new Map<string, string>();
  readonly endpoints = new Map<string, string>();
  readonly routes = new Map<string, string>();
  /** Clusters as they were before they went. */
  readonly former = new Map<string, string>();
  readonly sent: DeltaResponse[] = [];
  readonly refused: Refusal[] = [];
  lingerMs = 0;
  nowMs = 1_000;
  stream = this.connect();

  connect(): DeltaStream {
    const resource = (held: Map<string, string>) => (name: string) => {
      const version = held.get(name);
      return version === undefined ? undefined : { name, version, body: Buffer.from(version) };
    };
    const type = (typeUrl: string, held: Map<string, string>, more: Partial<ResourceType>): ResourceType => ({
      typeUrl,
      get: resource(held),
      groupOf: (name) => name.split("|")[0] ?? name,
      delivery: { mode: "onDemand" },
      ...more,
    });
    return new DeltaStream(
      [
        type(CLUSTERS, this.clusters, { followedBy: ENDPOINTS, usedBy: ROUTES, former: resource(this.former) }),
        type(ENDPOINTS, this.endpoints, {}),
        type(ROUTES, this.routes, {
          uses: {
            typeUrl: CLUSTERS,
            names: (name) => [...this.clusters.keys()].filter((one) => one.startsWith(name)),
            neverAskedFor: (name) => [...this.clusters.keys()].filter((one) => one === `${name}/copy`),
          },
        }),
        type(SCOPES, this.scopes, {
          delivery: { mode: "eager", names: () => this.scopes.keys(), lingerMs: this.lingerMs },
        }),
      ],
      { send: (response) => this.sent.push(response), refused: (refusal) => this.refused.push(refusal) },
    );
  }

  request(init: MessageInitShape<typeof DeltaDiscoveryRequestSchema>): DeltaResponse[] {
    this.stream.receive(create(DeltaDiscoveryRequestSchema, init), this.nowMs);
    return this.take();
  }

  change(...groups: string[]): DeltaResponse[] {
    this.stream.changed(groups);
    this.stream.flush(this.nowMs);
    return this.take();
  }

  take(): DeltaResponse[] {
    return this.sent.splice(0);
  }

  ack(response: DeltaResponse | undefined): DeltaResponse[] {
    return this.request({ typeUrl: response?.typeUrl ?? "", responseNonce: response?.nonce ?? "" });
  }

  nack(response: DeltaResponse | undefined, message: string): DeltaResponse[] {
    return this.request({
      typeUrl: response?.typeUrl ?? "",
      responseNonce: response?.nonce ?? "",
      errorDetail: { code: 13, message },
    });
  }
}

const names = (responses: readonly DeltaResponse[]) =>
  responses.map(({ typeUrl, resources, removedResources }) => ({
    typeUrl,
    sent: resources.map(({ name }) => name),
    removed: removedResources,
  }));

describe("a delta stream", () => {
  it("sends everything of an eager type to a proxy that names nothing, and an answer even when there is nothing", () => {
    const bench = new Bench();
    expect(names(bench.request({ typeUrl: SCOPES }))).toEqual([{ typeUrl: SCOPES, sent: [], removed: [] }]);
    const full = new Bench();
    full.scopes.set("a", "1").set("b", "1");
    expect(names(full.request({ typeUrl: SCOPES }))).toEqual([{ typeUrl: SCOPES, sent: ["a", "b"], removed: [] }]);
  });

  it("sends on-demand types by name only, and says of a name that it does not exist", () => {
    const bench = new Bench();
    bench.clusters.set("a|1", "v1");
    expect(names(bench.request({ typeUrl: CLUSTERS }))).toEqual([{ typeUrl: CLUSTERS, sent: [], removed: [] }]);
    expect(names(bench.request({ typeUrl: CLUSTERS, resourceNamesSubscribe: ["a|1", "b|1"] }))).toEqual([
      { typeUrl: CLUSTERS, sent: ["a|1"], removed: ["b|1"] },
    ]);
    bench.clusters.set("b|1", "v1");
    expect(names(bench.change("b"))).toEqual([{ typeUrl: CLUSTERS, sent: ["b|1"], removed: [] }]);
  });

  it("sends what changed, once, and nothing for a change that changed nothing", () => {
    const bench = new Bench();
    bench.endpoints.set("a|1", "v1");
    bench.request({ typeUrl: ENDPOINTS, resourceNamesSubscribe: ["a|1"] });
    expect(bench.change("a", "b")).toEqual([]);
    bench.endpoints.set("a|1", "v2");
    expect(names(bench.change("a"))).toEqual([{ typeUrl: ENDPOINTS, sent: ["a|1"], removed: [] }]);
    expect(bench.change("a")).toEqual([]);
  });

  it("answers a proxy that comes back with the differences alone", () => {
    const bench = new Bench();
    bench.scopes.set("a", "1").set("b", "2").set("new", "1");
    const [response] = bench.request({ typeUrl: SCOPES, initialResourceVersions: { a: "1", b: "1", gone: "1" } });
    expect(names(response ? [response] : [])).toEqual([{ typeUrl: SCOPES, sent: ["b", "new"], removed: ["gone"] }]);
    bench.clusters.set("a|1", "v1");
    expect(
      bench.request({
        typeUrl: CLUSTERS,
        resourceNamesSubscribe: ["a|1"],
        initialResourceVersions: { "a|1": "v1" },
      }),
    ).toEqual([]);
  });

  it("leaves what ceased to exist with the proxy until it is retired, and sends it when it is back", () => {
    const bench = new Bench();
    bench.clusters.set("a|1", "v1").set("b|1", "v1");
    bench.request({ typeUrl: ROUTES });
    bench.request({ typeUrl: CLUSTERS, resourceNamesSubscribe: ["a|1", "b|1"] });
    bench.clusters.delete("a|1");
    expect(bench.change("a", "b")).toEqual([]);
    expect(bench.stream.vanished(CLUSTERS)).toEqual(["a|1"]);
    bench.stream.retire(CLUSTERS, ["a|1", "b|1"], bench.nowMs);
    expect(names(bench.take())).toEqual([{ typeUrl: CLUSTERS, sent: [], removed: ["a|1"] }]);
    expect(bench.stream.vanished(CLUSTERS)).toEqual([]);
    bench.clusters.set("a|1", "v1");
    expect(names(bench.change("a"))).toEqual([{ typeUrl: CLUSTERS, sent: ["a|1"], removed: [] }]);
  });

  it("retires nothing that routes may still lead to: before the proxy told of them, or confirmed the latest", () => {
    const bench = new Bench();
    const subscribed = { typeUrl: CLUSTERS, resourceNamesSubscribe: ["a|1"], initialResourceVersions: { "a|1": "v1" } };
    bench.request(subscribed);
    expect(bench.stream.vanished(CLUSTERS)).toEqual([]);
    bench.routes.set("a", "v2");
    const [sent] = bench.request({
      typeUrl: ROUTES,
      resourceNamesSubscribe: ["a"],
      initialResourceVersions: { a: "v1" },
    });
    const retire = () => {
      bench.stream.retire(CLUSTERS, ["a|1"], bench.nowMs);
      return names(bench.take());
    };
    expect(retire()).toEqual([]);
    bench.nack(sent, "no");
    expect(retire()).toEqual([]);
    bench.routes.set("a", "v3");
    const [mended] = bench.change("a");
    expect(bench.stream.vanished(CLUSTERS)).toEqual([]);
    bench.ack(mended);
    expect(bench.stream.vanished(CLUSTERS)).toEqual(["a|1"]);
    expect(retire()).toEqual([{ typeUrl: CLUSTERS, sent: [], removed: ["a|1"] }]);
  });

  it("retires what routes led to that the proxy does not ask for any more", () => {
    const bench = new Bench();
    bench.clusters.set("a|1", "v1");
    bench.routes.set("a", "v1");
    bench.request({ typeUrl: CLUSTERS, resourceNamesSubscribe: ["a|1"] });
    bench.request({ typeUrl: ROUTES, resourceNamesSubscribe: ["a"] });
    bench.clusters.delete("a|1");
    bench.change("a");
    expect(bench.stream.vanished(CLUSTERS)).toEqual([]);
    bench.request({ typeUrl: ROUTES, resourceNamesUnsubscribe: ["a"] });
    expect(bench.stream.vanished(CLUSTERS)).toEqual(["a|1"]);
  });

  it("gives a proxy that goes by older routes what they name, as it last was, and retires it later", () => {
    const bench = new Bench();
    bench.former.set("a|1", "v1");
    bench.request({ typeUrl: ROUTES });
    const asked = { typeUrl: CLUSTERS, resourceNamesSubscribe: ["a|1"] };
    expect(names(bench.request(asked))).toEqual([{ typeUrl: CLUSTERS, sent: ["a|1"], removed: [] }]);
    expect(bench.change("a")).toEqual([]);
    expect(bench.stream.vanished(CLUSTERS)).toEqual(["a|1"]);
  });

  it("gives unasked what new routes lead to and the old ones did not, before them", () => {
    const bench = new Bench();
    bench.clusters.set("a|1", "v1").set("a|2", "v1");
    bench.routes.set("a", "v1");
    bench.request({ typeUrl: CLUSTERS });
    // What the first routes lead to is asked for, by requests that go there.
    expect(names(bench.request({ typeUrl: ROUTES, resourceNamesSubscribe: ["a"] }))).toEqual([
      { typeUrl: ROUTES, sent: ["a"], removed: [] },
    ]);
    bench.clusters.set("a|3", "v1");
    bench.routes.set("a", "v2");
    expect(names(bench.change("a"))).toEqual([
      { typeUrl: CLUSTERS, sent: ["a|3"], removed: [] },
      { typeUrl: ROUTES, sent: ["a"], removed: [] },
    ]);
    bench.clusters.set("a|3", "v2");
    expect(names(bench.change("a"))).toEqual([{ typeUrl: CLUSTERS, sent: ["a|3"], removed: [] }]);
    // A proxy that comes back does not ask for it, and says that it has it.
    bench.stream = bench.connect();
    bench.clusters.set("a|3", "v3");
    const versions = { typeUrl: CLUSTERS, resourceNamesSubscribe: ["*"], initialResourceVersions: { "a|3": "v2" } };
    expect(names(bench.request(versions))).toEqual([{ typeUrl: CLUSTERS, sent: ["a|3"], removed: [] }]);
  });

  it("gives with the first routes what nobody will ask for, before them", () => {
    const bench = new Bench();
    bench.clusters.set("a|1", "v1").set("a/copy", "v1");
    bench.routes.set("a", "v1");
    bench.request({ typeUrl: CLUSTERS });
    expect(names(bench.request({ typeUrl: ROUTES, resourceNamesSubscribe: ["a"] }))).toEqual([
      { typeUrl: CLUSTERS, sent: ["a/copy"], removed: [] },
      { typeUrl: ROUTES, sent: ["a"], removed: [] },
    ]);
  });

  it("keeps what is back before it was retired", () => {
    const bench = new Bench();
    bench.clusters.set("a|1", "v1");
    bench.request({ typeUrl: CLUSTERS, resourceNamesSubscribe: ["a|1"] });
    bench.clusters.delete("a|1");
    bench.change("a");
    bench.clusters.set("a|1", "v1");
    expect(bench.change("a")).toEqual([]);
    bench.stream.retire(CLUSTERS, ["a|1"], bench.nowMs);
    expect(bench.take()).toEqual([]);
  });

  it("joins changes of an eager type while the proxy works on the last, and for a time after", () => {
    const bench = new Bench();
    bench.scopes.set("a", "1");
    const [first] = bench.request({ typeUrl: SCOPES });
    bench.scopes.set("b", "1");
    expect(bench.change("b")).toEqual([]);
    bench.nowMs += 50;
    bench.scopes.set("c", "1");
    bench.stream.changed(["c"]);
    expect(bench.ack(first)).toEqual([]);
    expect(bench.stream.flush(bench.nowMs)).toBe(bench.nowMs + 100);
    bench.nowMs += 100;
    bench.stream.flush(bench.nowMs);
    expect(names(bench.take())).toEqual([{ typeUrl: SCOPES, sent: ["b", "c"], removed: [] }]);
  });

  it("tells late that something of an eager type is gone, and not at all when it is back by then", () => {
    const bench = new Bench();
    bench.lingerMs = 2_000;
    bench.stream = bench.connect();
    bench.scopes.set("a", "1").set("b", "1");
    const [first] = bench.request({ typeUrl: SCOPES });
    bench.ack(first);
    bench.scopes.clear();
    expect(bench.change("a", "b")).toEqual([]);
    expect(bench.stream.flush(bench.nowMs)).toBe(bench.nowMs + 2_000);
    bench.nowMs += 1_000;
    bench.scopes.set("b", "1");
    expect(bench.change("a", "b")).toEqual([]);
    bench.nowMs += 1_000;
    expect(names(bench.change())).toEqual([{ typeUrl: SCOPES, sent: [], removed: ["a"] }]);
    expect(bench.stream.flush(bench.nowMs)).toBeUndefined();
  });

  it("sends endpoints at once while scopes wait", () => {
    const bench = new Bench();
    bench.scopes.set("a", "1");
    bench.endpoints.set("a|1", "v1");
    bench.request({ typeUrl: SCOPES });
    bench.request({ typeUrl: ENDPOINTS, resourceNamesSubscribe: ["a|1"] });
    bench.scopes.set("b", "1");
    bench.endpoints.set("a|1", "v2");
    expect(names(bench.change("a", "b"))).toEqual([{ typeUrl: ENDPOINTS, sent: ["a|1"], removed: [] }]);
  });

  it("sends the endpoints of a changed cluster again", () => {
    const bench = new Bench();
    bench.clusters.set("a|1", "v1");
    bench.endpoints.set("a|1", "v1");
    bench.request({ typeUrl: CLUSTERS, resourceNamesSubscribe: ["a|1"] });
    bench.request({ typeUrl: ENDPOINTS, resourceNamesSubscribe: ["a|1"] });
    bench.clusters.set("a|1", "v2");
    expect(names(bench.change("a"))).toEqual([
      { typeUrl: CLUSTERS, sent: ["a|1"], removed: [] },
      { typeUrl: ENDPOINTS, sent: ["a|1"], removed: [] },
    ]);
  });

  it("narrows a refusal down to the resource at fault, and goes on with the others", () => {
    const bench = new Bench();
    for (const name of ["a", "b", "bad", "d"]) bench.scopes.set(name, "1");
    let open = bench.request({ typeUrl: SCOPES });
    const accepted: string[] = [];
    while (open.length > 0) {
      const [response] = open;
      const sent = response?.resources.map(({ name }) => name) ?? [];
      if (sent.includes("bad")) open = bench.nack(response, "no such thing");
      else {
        accepted.push(...sent);
        open = bench.ack(response);
      }
    }
    expect(accepted.sort()).toEqual(["a", "b", "d"]);
    expect(bench.refused).toEqual([{ typeUrl: SCOPES, name: "bad", version: "1", reason: "no such thing" }]);
    expect(bench.stream.refusals()).toEqual(bench.refused);
    // Not sent again until its content changes.
    expect(bench.change("bad")).toEqual([]);
    bench.scopes.set("bad", "2");
    bench.stream.changed(["bad"]);
    bench.nowMs += 1_000;
    bench.stream.flush(bench.nowMs);
    const [mended] = bench.take();
    expect(names(mended ? [mended] : [])).toEqual([{ typeUrl: SCOPES, sent: ["bad"], removed: [] }]);
    bench.ack(mended);
    expect(bench.stream.refusals()).toEqual([]);
  });

  it("counts what it sent, and what was accepted and refused", () => {
    const bench = new Bench();
    bench.endpoints.set("a|1", "v1");
    const [response] = bench.request({ typeUrl: ENDPOINTS, resourceNamesSubscribe: ["a|1"] });
    bench.nack(response, "no");
    bench.endpoints.set("a|1", "v2");
    bench.ack(bench.change("a")[0]);
    expect(bench.stream.status()).toEqual([
      { typeUrl: ENDPOINTS, heldCount: 1, pushes: 2, acks: 1, nacks: 1, unanswered: 0, pending: 0, wasComplete: false },
    ]);
  });

  it("forgets what the proxy no longer asks for, and answers when it asks again", () => {
    const bench = new Bench();
    bench.endpoints.set("a|1", "v1");
    bench.request({ typeUrl: ENDPOINTS, resourceNamesSubscribe: ["a|1"] });
    bench.request({ typeUrl: ENDPOINTS, resourceNamesUnsubscribe: ["a|1"] });
    bench.endpoints.set("a|1", "v2");
    expect(bench.change("a")).toEqual([]);
    expect(names(bench.request({ typeUrl: ENDPOINTS, resourceNamesSubscribe: ["a|1"] }))).toEqual([
      { typeUrl: ENDPOINTS, sent: ["a|1"], removed: [] },
    ]);
  });
});
