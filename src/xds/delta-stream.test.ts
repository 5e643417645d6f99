import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { DeltaDiscoveryRequestSchema } from "../gen/envoy/service/discovery/v3/discovery_pb.js";
import { DeltaStream, type Refusal } from "./delta-stream.js";
import type { DeltaResponse } from "./encode-response.js";
import type { ResourceType } from "./resources.js";

const SCOPES = "scopes";
const CLUSTERS = "clusters";
const ENDPOINTS = "endpoints";

/** A world of resources that tests change, and a proxy's stream that looks at it. */
class Bench {
  readonly scopes = new Map<string, string>();
  readonly clusters = new Map<string, string>();
  readonly endpoints = new Map<string, string>();
  readonly sent: DeltaResponse[] = [];
  readonly refused: Refusal[] = [];
  nowMs = 1_000;
  stream = this.connect();

  connect(): DeltaStream {
    const type = (typeUrl: string, held: Map<string, string>, more: Partial<ResourceType>): ResourceType => ({
      typeUrl,
      get: (name) => {
        const version = held.get(name);
        return version === undefined ? undefined : { name, version, body: Buffer.from(version) };
      },
      groupOf: (name) => name.split("|")[0] ?? name,
      delivery: { mode: "onDemand" },
      ...more,
    });
    return new DeltaStream(
      [
        type(CLUSTERS, this.clusters, { followedBy: ENDPOINTS }),
        type(ENDPOINTS, this.endpoints, {}),
        type(SCOPES, this.scopes, { delivery: { mode: "eager", names: () => this.scopes.keys() } }),
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
    expect(bench.request({ typeUrl: CLUSTERS })).toEqual([]);
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
