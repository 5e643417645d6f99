/** Whose log a request belongs to, with the tags of the endpoint that it went to; kept for endpoints that get requests. */
import type { RequestRecord } from "../access-log/record.js";
import { hostOfCluster } from "../compile/names.js";
import type { Tag } from "../entries/entries.js";
import { socketText } from "../lib/ip-address.js";
import { type EncodedSource, encodeSource } from "../loggregator/envelope.js";
import { tagsOf } from "../model/endpoint-tags.js";
import type { Endpoint } from "../model/endpoints.js";
import { groupOf } from "../model/hosts.js";
import type { RoutingTable } from "../model/routing-table.js";
import { allShares } from "../model/split.js";

/** What cf logs shows before the slash, and what tells the lines of routers from those of others. */
const SOURCE = { source_type: "RTR", origin: "gorouter" };

/** About 1 KB each. */
const MAX_ENDPOINTS = 20_000;

interface Known {
  readonly endpoint: Endpoint;
  readonly registered: readonly Tag[] | undefined;
  /** undefined until a request came. */
  encoded: EncodedSource | undefined;
}

type Table = Pick<RoutingTable, "pathRoute" | "registeredTags">;

/** By their sockets, as Envoy writes them. */
type Endpoints = ReadonlyMap<string, Known>;

export class LogSources {
  readonly #table: Table;
  readonly #instanceId: string;
  readonly #maxEndpoints: number;
  readonly #byCluster = new Map<string, Endpoints>();
  readonly #clustersByGroup = new Map<string, string[]>();
  #count = 0;

  /** @param index  the router's number among its like */
  constructor(table: Table, index: number, maxEndpoints = MAX_ENDPOINTS) {
    this.#table = table;
    this.#instanceId = String(index);
    this.#maxEndpoints = maxEndpoints;
  }

  /** How many endpoints are kept. */
  get count(): number {
    return this.#count;
  }

  /** Of a request that went to an app. */
  of(record: RequestRecord): EncodedSource {
    const { cluster, backend, appId, appIndex, instanceId } = record;
    const known = (this.#byCluster.get(cluster) ?? this.#lookUp(cluster)).get(backend);
    const identity = known?.endpoint.identity;
    if (known && identity?.appGuid === appId && identity.instanceGuid === instanceId) {
      return (known.encoded ??= this.#encode(appId, tagsOf(known.endpoint, known.registered)));
    }
    // It is gone from the table since.
    return this.#encode(appId, { app_id: appId, instance_id: appIndex, process_instance_id: instanceId });
  }

  /** Their endpoints moved. */
  forget(groups: Iterable<string>): void {
    for (const group of groups) {
      for (const cluster of this.#clustersByGroup.get(group) ?? []) {
        this.#count -= this.#byCluster.get(cluster)?.size ?? 0;
        this.#byCluster.delete(cluster);
      }
      this.#clustersByGroup.delete(group);
    }
  }

  forgetAll(): void {
    this.#byCluster.clear();
    this.#clustersByGroup.clear();
    this.#count = 0;
  }

  #lookUp(cluster: string): Endpoints {
    const place = cluster.slice(0, cluster.indexOf("|"));
    const route = this.#table.pathRoute(place);
    const shares = route ? allShares(route) : [];
    const registered = this.#table.registeredTags(place);
    const found = new Map<string, Known>();
    for (const endpoint of shares.flatMap(({ endpoints }) => endpoints)) {
      const tags = registered.get(endpoint.identity.instanceGuid);
      found.set(socketText(endpoint.address, endpoint.port), { endpoint, registered: tags, encoded: undefined });
    }
    this.#keep(cluster, found);
    return found;
  }

  #keep(cluster: string, endpoints: Endpoints): void {
    if (this.#count + endpoints.size > this.#maxEndpoints) this.forgetAll();
    // A copy: a part of a record's text would keep all of it.
    const name = Buffer.from(cluster, "latin1").toString("latin1");
    const group = groupOf(hostOfCluster(name));
    this.#byCluster.set(name, endpoints);
    this.#clustersByGroup.set(group, [...(this.#clustersByGroup.get(group) ?? []), name]);
    this.#count += endpoints.size;
  }

  #encode(appId: string, known: Readonly<Record<string, string>>): EncodedSource {
    // Not among the tags of an envelope: it has a field.
    const tags = Object.entries(known).filter(([name]) => name !== "source_id");
    return encodeSource({
      sourceId: appId,
      instanceId: this.#instanceId,
      tags: { ...Object.fromEntries(tags), ...SOURCE },
    });
  }
}
