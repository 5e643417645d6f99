/** Whose log a request belongs to, with the tags of the endpoint that it went to; kept for endpoints that get requests. */
import type { RequestRecord } from "../access-log/record.js";
import { hostOfCluster } from "../compile/names.js";
import type { Tag } from "../entries/entries.js";
import type { Clock } from "../lib/clock.js";
import { type EncodedSource, encodeSource } from "../loggregator/envelope.js";
import { tagsOf } from "../model/endpoint-tags.js";
import type { Endpoint } from "../model/endpoints.js";
import { groupOf } from "../model/hosts.js";
import type { RoutingTable } from "../model/routing-table.js";

/** What cf logs shows before the slash, and what tells the lines of routers from those of others. */
const SOURCE = { source_type: "RTR", origin: "gorouter" };

/** About 1 KB each. */
const MAX_ENDPOINTS = 20_000;
/** What NATS says of an instance that Diego tells of moves nothing, so that it is looked up again. */
const MAX_AGE_MS = 60_000;

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
  readonly #clock: Clock;
  readonly #maxEndpoints: number;
  /** By group of hosts, then by place. */
  readonly #groups = new Map<string, Map<string, Endpoints>>();
  #count = 0;
  /** When it was empty. */
  #sinceMs: number;

  /** @param index  the router's number among its like */
  constructor(table: Table, index: number, clock: Clock, maxEndpoints = MAX_ENDPOINTS) {
    this.#table = table;
    this.#instanceId = String(index);
    this.#clock = clock;
    this.#sinceMs = clock.now();
    this.#maxEndpoints = maxEndpoints;
  }

  /** How many endpoints are kept. */
  get count(): number {
    return this.#count;
  }

  /** Of a request that went to an app. */
  of(record: RequestRecord): EncodedSource {
    const { cluster, backend, appId, appIndex, instanceId } = record;
    if (this.#clock.now() - this.#sinceMs > MAX_AGE_MS) this.#clear();
    const known = this.#endpoints(cluster).get(backend);
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
      for (const endpoints of this.#groups.get(group)?.values() ?? []) this.#count -= endpoints.size;
      this.#groups.delete(group);
    }
  }

  #endpoints(cluster: string): Endpoints {
    const place = cluster.slice(0, cluster.indexOf("|"));
    const group = groupOf(hostOfCluster(cluster));
    const known = this.#groups.get(group)?.get(place);
    if (known) return known;
    const shares = this.#table.pathRoute(place)?.shares ?? [];
    const registered = this.#table.registeredTags(place);
    const found = new Map<string, Known>();
    for (const endpoint of shares.flatMap(({ endpoints }) => endpoints)) {
      const tags = registered.get(endpoint.identity.instanceGuid);
      found.set(socketOf(endpoint), { endpoint, registered: tags, encoded: undefined });
    }
    this.#keep(group, place, found);
    return found;
  }

  #keep(group: string, place: string, endpoints: Endpoints): void {
    if (this.#count + endpoints.size > this.#maxEndpoints) this.#clear();
    const places = this.#groups.get(group) ?? new Map<string, Endpoints>();
    places.set(place, endpoints);
    this.#groups.set(group, places);
    this.#count += endpoints.size;
  }

  #clear(): void {
    this.#groups.clear();
    this.#count = 0;
    this.#sinceMs = this.#clock.now();
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

function socketOf({ address, port }: Endpoint): string {
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}
