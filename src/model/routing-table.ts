/**
 * The routing table: what the entries of the mesh log mean for requests from outside. Pure: facts in, moved groups of
 * hosts out. How the sources are merged is said in docs/decisions/0007-merging-sources.md.
 *
 * Built to hold a million routes: entries stay packed (packed.ts), and are decoded when their group is asked for.
 */
import {
  decodeAssociation,
  decodeProcess,
  decodeRegistration,
  decodeRoute,
  type Destination,
  type Registration,
  type Route,
  type Tag,
} from "../entries/entries.js";
import {
  type RegistrationIndexFields,
  registrationIndexFields,
  type RouteIndexFields,
  routeIndexFields,
} from "../entries/index-fields.js";
import { KEY_SPACES } from "../entries/keys.js";
import { type Policies, strictestPolicies } from "../entries/route-policies.js";
import { compareText } from "../lib/compare-text.js";
import {
  type AnnotationProblem,
  type ReadAnnotations,
  readAnnotations,
  type RouteWishes,
  NO_WISHES,
} from "./annotations.js";
import { type Balancing, balancingOf, type DefaultAlgorithm } from "./balancing.js";
import { distinct, type Endpoint, endpointOfInstance, endpointOfRegistration } from "./endpoints.js";
import { groupOf, wildcardsAbove } from "./hosts.js";
import { Multimap } from "./multimap.js";
import { pack, unpack } from "./packed.js";
import { hostOf, isWithin, pathOf, placeOf, Places } from "./places.js";
import { type Owner, routePolicy, type RoutePolicy } from "./route-policy.js";
import { EVERY_SEGMENT, isServed, type Sharding } from "./sharding.js";
import { equalShares, type Member, protocolOf, routeShares, type Share } from "./shares.js";
import { type Split, splitOf } from "./split.js";

/** What `apply` takes of an entry; a deletion has no value. */
export interface TableEntry {
  readonly key: string;
  readonly value: Uint8Array | undefined;
}

/** All requests of one host below one path. */
export interface PathRoute {
  /** "" or a lower-case path without a slash at its end. */
  readonly path: string;
  /** "/", or the path in the letters of who made the route: browsers tell "/Cart" from "/cart". */
  readonly cookiePath: string;
  /** Of the route that decides; "" where registrations alone do. */
  readonly routeGuid: string;
  readonly balancing: Balancing;
  /** At least one. */
  readonly shares: readonly Share[];
  /** Of its annotations. */
  readonly wishes: RouteWishes;
  /** undefined: all its requests are alike. */
  readonly split: Split | undefined;
  /** Where requests go first; "" where they do not. As a source said it: it may be no URL. */
  readonly routeServiceUrl: string;
  /** undefined: anybody may send requests. Else those who may, and which of the shares serve whom. */
  readonly policy: RoutePolicy | undefined;
}

/** What decides about a request. */
export type FoundPlace = Pick<PathRoute, "routeServiceUrl"> & {
  /** "shop.example.com/cart" */
  readonly place: string;
};

/** What is wrong with a route's annotations. */
export interface RouteProblem extends AnnotationProblem {
  /** "shop.example.com/cart" */
  readonly place: string;
  readonly routeGuid: string;
}

export interface HostRoutes {
  readonly host: string;
  /** At least one; longest path first, then in the order of the alphabet. */
  readonly paths: readonly PathRoute[];
}

/** What a proxy gets in one piece: an exact host, or the wildcard hosts of one group (hosts.ts). */
export interface GroupRoutes {
  readonly group: string;
  /** At least one, in the order of their names. */
  readonly hosts: readonly HostRoutes[];
}

/** What a table is made for: the router that it belongs to. */
export interface TableOptions {
  /** The router can check the certificates of apps, so it reaches them by TLS where they offer it. */
  readonly dialsTls: boolean;
  /** Left out: all segments. */
  readonly sharding?: Sharding;
  /** Where a route says nothing. Left out: round robin. */
  readonly algorithm?: DefaultAlgorithm;
}

/** Key spaces of routes, the one that wins first; registrations come after them. */
const PRECEDENCE = [KEY_SPACES.cloudControllerRoutes, KEY_SPACES.copilotRoutes, KEY_SPACES.diegoRoutes];
/** Whoever registered an endpoint: they are all alike, and make one pool. */
const REGISTRATIONS = [KEY_SPACES.natsRegistrations, KEY_SPACES.routingApiRegistrations];

/** Unix time in nanoseconds; 0 where nobody said it. */
export type EndpointListener = (sinceNs: bigint) => void;

export class RoutingTable {
  readonly #dialsTls: boolean;
  readonly #sharding: Sharding;
  readonly #algorithm: DefaultAlgorithm;
  /** Packed, by key. */
  readonly #routes = new Map<string, string>();
  readonly #registrations = new Map<string, string>();
  /** Packed, by the guid of the process. */
  readonly #processes = new Map<string, string>();
  readonly #associations = new Map<string, string>();
  readonly #places = new Places();
  /** By the key of their route. */
  readonly #problems = new Map<string, readonly RouteProblem[]>();
  readonly #routesByProcess = new Multimap();
  readonly #registrationsByProcess = new Multimap();

  constructor({ dialsTls, sharding = EVERY_SEGMENT, algorithm = "round-robin" }: TableOptions) {
    this.#algorithm = algorithm;
    this.#dialsTls = dialsTls;
    this.#sharding = sharding;
  }

  /** Hosts and paths that lead somewhere from outside, each once however many entries tell of it. */
  get routeCount(): number {
    return this.#places.count;
  }

  /**
   * Takes entries over; those of key spaces that it does not know, a newer writer's, it passes over. Returns the groups
   * whose routes or endpoints may have moved.
   *
   * @param onAdded  told of each endpoint of a route that was not there before: since when it runs
   */
  apply(entries: Iterable<TableEntry>, onAdded?: EndpointListener): ReadonlySet<string> {
    const moved = new Set<string>();
    for (const entry of entries) {
      const { key } = entry;
      if (PRECEDENCE.some((keySpace) => key.startsWith(keySpace))) this.#applyRoute(entry, moved);
      else if (REGISTRATIONS.some((keySpace) => key.startsWith(keySpace))) {
        this.#applyRegistration(entry, moved, onAdded);
      } else if (key.startsWith(KEY_SPACES.diegoProcesses)) this.#applyProcess(entry, moved, onAdded);
      else if (key.startsWith(KEY_SPACES.copilotAssociations)) this.#applyAssociation(entry, moved);
    }
    return moved;
  }

  /** The keys of all entries that count. */
  *keys(): Iterable<string> {
    yield* this.#routes.keys();
    yield* this.#registrations.keys();
    for (const processGuid of this.#processes.keys()) yield KEY_SPACES.diegoProcesses + processGuid;
    for (const processGuid of this.#associations.keys()) yield KEY_SPACES.copilotAssociations + processGuid;
  }

  /** How many annotations are not followed. */
  get problemCount(): number {
    let count = 0;
    for (const problems of this.#problems.values()) count += problems.length;
    return count;
  }

  /** Annotations that are not followed, of all routes; `key` narrows it to one route. */
  *problems(key?: string): Iterable<RouteProblem> {
    if (key !== undefined) yield* this.#problems.get(key) ?? [];
    else for (const problems of this.#problems.values()) yield* problems;
  }

  hasGroup(group: string): boolean {
    return this.#places.hasGroup(group);
  }

  groups(): Iterable<string> {
    return this.#places.groups();
  }

  /** "shop.example.com/cart", each once; what comes or goes meanwhile may be among them or not. */
  places(): Iterable<string> {
    return this.#places.places();
  }

  /** undefined for a place that leads nowhere. */
  pathRoute(place: string): PathRoute | undefined {
    return this.#places.has(place) ? this.#pathRoute(place) : undefined;
  }

  /** What NATS says of the instances of a place, by their guids. */
  registeredTags(place: string): ReadonlyMap<string, readonly Tag[]> {
    return new Map(this.#registrationsAt(place).map(({ instanceGuid, tags }) => [instanceGuid, tags]));
  }

  /** undefined for a group without routes. */
  group(group: string): GroupRoutes | undefined {
    const hosts = this.#places.hostsOf(group).map((host) => ({
      host,
      paths: this.#places
        .placesOf(host)
        .map((place) => this.#pathRoute(place))
        .sort((a, b) => b.path.length - a.path.length || compareText(a.path, b.path)),
    }));
    return hosts.length > 0 ? { group, hosts } : undefined;
  }

  /**
   * The place that a request's host (without its port) and path belong to: the longest path of its host, or of the next
   * wildcard host above it that has one.
   */
  find(host: string, path: string): FoundPlace | undefined {
    const exact = host.toLowerCase();
    const wanted = placeOf("", path);
    for (const name of [exact, ...wildcardsAbove(exact)]) {
      const places = this.#places.placesOf(name).filter((place) => isWithin(wanted, pathOf(place)));
      const [longest] = places.sort((a, b) => b.length - a.length);
      if (longest !== undefined) return { place: longest, routeServiceUrl: this.#routeServiceAt(longest) };
    }
    return undefined;
  }

  /**
   * Whoever tells of a route service is believed, the route that decides first: a source that does not know must not open
   * what another one says is guarded.
   */
  #routeServiceAt(place: string): string {
    const routes = [...this.#places.routesAt(place)]
      .filter((key) => routeIndexFields(unpack(held(this.#routes, key))).hasRouteService)
      .sort(rank);
    for (const key of routes) return this.#route(key).routeServiceUrl;
    const registrations = [...this.#places.registrationsAt(place)]
      .filter((key) => registrationIndexFields(unpack(held(this.#registrations, key))).hasRouteService)
      .sort(compareText);
    for (const key of registrations) return this.#registration(key).routeServiceUrl;
    return "";
  }

  /** As with route services: the route that decides first, of those that tell of route policies. */
  #policiesAt(place: string): Policies | undefined {
    const [first] = [...this.#places.routesAt(place)]
      .filter((key) => routeIndexFields(unpack(held(this.#routes, key))).hasPolicyScope)
      .sort(rank);
    if (first !== undefined) return this.#route(first).options;
    const registrations = [...this.#places.registrationsAt(place)].filter(
      (key) => registrationIndexFields(unpack(held(this.#registrations, key))).hasPolicyScope,
    );
    return strictestPolicies(registrations.map((key) => this.#registration(key).options));
  }

  #pathRoute(place: string): PathRoute {
    const path = pathOf(place);
    const key = this.#winner(place);
    const routeServiceUrl = this.#routeServiceAt(place);
    if (key === undefined) {
      return { path, routeGuid: "", ...this.#registered(place), wishes: NO_WISHES, routeServiceUrl };
    }
    const route = this.#route(key);
    const { guid, options, destinations } = route;
    const cookiePath = route.path || "/";
    const members = destinations.map((destination) => ({
      destination,
      endpoints: this.#endpointsOf(destination, place, key),
    }));
    const { wishes } = wishesOf(route);
    const serve = (some: readonly Member[]) => splitOf(wishes, some) ?? { shares: routeShares(some), split: undefined };
    const policies = this.#policiesAt(place);
    return {
      path,
      cookiePath,
      routeGuid: guid,
      balancing: balancingOf(options, this.#algorithm),
      ...serve(members),
      wishes,
      routeServiceUrl,
      policy: policies && routePolicy(policies, members, ({ destination }) => destination, serve),
    };
  }

  /** A place that is known from registrations alone: what the newest endpoint says about balancing holds for all. */
  #registered(place: string): Pick<PathRoute, "balancing" | "cookiePath" | "policy" | "shares" | "split"> {
    const registrations = this.#registrationsAt(place);
    const newest = registrations.reduce<Registration | undefined>(
      (latest, next) => (latest && latest.updatedAtNs >= next.updatedAtNs ? latest : next),
      undefined,
    );
    const serve = (some: readonly Registration[]) => ({
      shares: equalShares(
        some.map((registration) => ({
          protocol: protocolOf(registration),
          endpoints: this.#dialled([registration]),
        })),
      ),
      split: undefined,
    });
    const policies = this.#policiesAt(place);
    return {
      balancing: balancingOf(newest?.options, this.#algorithm),
      cookiePath: newest?.path || "/",
      ...serve(registrations),
      policy: policies && routePolicy(policies, registrations, ownerOf, serve),
    };
  }

  /** What serves a destination of the route under `key`. */
  #endpointsOf(destination: Destination, place: string, key: string): readonly Endpoint[] {
    const { processGuid, port, appName, appGuid } = destination;
    const packed = this.#processes.get(processGuid);
    const versions = isCopilots(key) ? this.#associated(processGuid) : undefined;
    if (packed === undefined) {
      // Registrations do not tell the version of a process, so none of them is known to be of an associated one.
      return versions === undefined ? this.#registeredEndpoints(processGuid, place) : [];
    }
    const process = decodeProcess(unpack(packed));
    const owner = { processGuid, appGuid: process.appGuid || appGuid };
    return process.instances.flatMap((instance) => {
      if (versions && !versions.has(`${processGuid}-${instance.version}`)) return [];
      if (!isServed(this.#sharding, instance.isolationSegment)) return [];
      return endpointOfInstance(instance, owner, port, appName || appGuid, this.#dialsTls) ?? [];
    });
  }

  /**
   * What registrations say of a process that Diego does not tell of. A registration names no container port, but those of the
   * same place are of the right one.
   */
  #registeredEndpoints(processGuid: string, place: string): readonly Endpoint[] {
    if (processGuid === "") return [];
    const here = this.#registrationsAt(place).filter((registration) => registration.processGuid === processGuid);
    return this.#dialled(here.length > 0 ? here : this.#sorted(this.#registrationsByProcess.get(processGuid)));
  }

  #dialled(registrations: readonly Registration[]): readonly Endpoint[] {
    const endpoints = registrations.flatMap(
      (registration) => endpointOfRegistration(registration, this.#dialsTls) ?? [],
    );
    return [...distinct(endpoints, new Set())];
  }

  #registrationsAt(place: string): readonly Registration[] {
    return this.#sorted(this.#places.registrationsAt(place));
  }

  /** In the order of their keys, so that all routers agree. */
  #sorted(keys: Iterable<string>): readonly Registration[] {
    return [...keys].sort(compareText).map((key) => this.#registration(key));
  }

  /** The process guids of Diego that a process runs as, as clients of the copilot API say. */
  #associated(processGuid: string): ReadonlySet<string> {
    const packed = this.#associations.get(processGuid);
    return new Set(packed === undefined ? [] : decodeAssociation(unpack(packed)).lrpProcessGuids);
  }

  /** The key of the route that decides at a place; undefined where there is none. */
  #winner(place: string): string | undefined {
    let winner: string | undefined;
    for (const key of this.#places.routesAt(place)) {
      if (winner === undefined || rank(key, winner) < 0) winner = key;
    }
    return winner;
  }

  #applyRoute({ key, value }: TableEntry, moved: Set<string>): void {
    const packed = value && pack(value);
    const stored = this.#routes.get(key);
    if (packed === stored) return;
    const after = value && routeIndexFields(value);
    if (stored !== undefined) {
      const before = routeIndexFields(unpack(stored));
      const place = placeOf(before.host, before.path);
      if (isGuard(before) || this.#winner(place) === key) moved.add(groupOf(before.host));
      this.#routes.delete(key);
      this.#problems.delete(key);
      this.#places.removeRoute(place, key);
      for (const processGuid of before.processGuids) this.#routesByProcess.remove(processGuid, key);
    }
    if (packed !== undefined && after && isReachable(after)) {
      const place = placeOf(after.host, after.path);
      this.#routes.set(key, packed);
      this.#places.addRoute(place, key);
      if (after.isAnnotated) this.#noteProblems(key, place);
      for (const processGuid of after.processGuids) {
        if (processGuid !== "") this.#routesByProcess.add(processGuid, key);
      }
      if (isGuard(after) || this.#winner(place) === key) moved.add(groupOf(after.host));
    }
  }

  #applyRegistration({ key, value }: TableEntry, moved: Set<string>, onAdded?: EndpointListener): void {
    const packed = value && pack(value);
    const stored = this.#registrations.get(key);
    if (packed === stored) return;
    const after = value && registrationIndexFields(value);
    if (stored !== undefined) {
      const before = registrationIndexFields(unpack(stored));
      this.#registrations.delete(key);
      this.#places.removeRegistration(placeOf(before.host, before.path), key);
      if (before.processGuid !== "") this.#registrationsByProcess.remove(before.processGuid, key);
      this.#moveByRegistration(before, moved);
    }
    // Gorouter does not know a host that runs in other segments alone, either.
    if (packed !== undefined && after && isServed(this.#sharding, after.isolationSegment)) {
      this.#registrations.set(key, packed);
      this.#places.addRegistration(placeOf(after.host, after.path), key);
      if (after.processGuid !== "") this.#registrationsByProcess.add(after.processGuid, key);
      this.#moveByRegistration(after, moved);
      // Diego tells of those whose process it knows.
      if (onAdded && stored === undefined && !this.#processes.has(after.processGuid)) {
        onAdded(decodeRegistration(value).updatedAtNs);
      }
    }
  }

  #applyProcess({ key, value }: TableEntry, moved: Set<string>, onAdded?: EndpointListener): void {
    const processGuid = lastWord(key);
    const stored = this.#processes.get(processGuid);
    if (!replace(this.#processes, processGuid, value)) return;
    let isRouted = false;
    for (const route of this.#deciding(processGuid)) {
      if (isCopilots(route.key) && !this.#associations.has(processGuid)) continue;
      isRouted = true;
      moved.add(groupOf(hostOf(route.place)));
    }
    if (onAdded && isRouted && value) this.#tellAdded(stored, value, onAdded);
  }

  #tellAdded(stored: string | undefined, value: Uint8Array, onAdded: EndpointListener): void {
    const before = new Set(stored === undefined ? [] : instancesOf(unpack(stored)).map(({ guid }) => guid));
    for (const { guid, sinceNs, isolationSegment } of instancesOf(value)) {
      if (!before.has(guid) && isServed(this.#sharding, isolationSegment)) onAdded(sinceNs);
    }
  }

  #applyAssociation({ key, value }: TableEntry, moved: Set<string>): void {
    const processGuid = lastWord(key);
    if (!replace(this.#associations, processGuid, value) || !this.#processes.has(processGuid)) return;
    for (const route of this.#deciding(processGuid)) {
      if (isCopilots(route.key)) moved.add(groupOf(hostOf(route.place)));
    }
  }

  /** Adds the groups that a registration that came or went makes a difference to. */
  #moveByRegistration(fields: RegistrationIndexFields, moved: Set<string>): void {
    const { host, path, processGuid } = fields;
    const place = placeOf(host, path);
    if (isGuard(fields) || !this.#places.hasRoute(place)) moved.add(groupOf(host));
    if (processGuid === "" || this.#processes.has(processGuid)) return;
    for (const route of this.#deciding(processGuid)) {
      if (isCopilots(route.key)) continue;
      const isSeen = route.place === place || !this.#isRegisteredAt(route.place, processGuid);
      if (isSeen) moved.add(groupOf(hostOf(route.place)));
    }
  }

  /** The routes that lead to a process and decide at their place. */
  *#deciding(processGuid: string): Iterable<{ readonly key: string; readonly place: string }> {
    for (const key of this.#routesByProcess.get(processGuid)) {
      const { host, path } = routeIndexFields(unpack(held(this.#routes, key)));
      const place = placeOf(host, path);
      if (this.#winner(place) === key) yield { key, place };
    }
  }

  #isRegisteredAt(place: string, processGuid: string): boolean {
    for (const key of this.#places.registrationsAt(place)) {
      const packed = held(this.#registrations, key);
      if (registrationIndexFields(unpack(packed)).processGuid === processGuid) return true;
    }
    return false;
  }

  #noteProblems(key: string, place: string): void {
    const route = this.#route(key);
    const { problems } = wishesOf(route);
    if (problems.length === 0) return;
    this.#problems.set(
      key,
      problems.map((problem) => ({ place, routeGuid: route.guid, ...problem })),
    );
  }

  #route(key: string): Route {
    return decodeRoute(unpack(held(this.#routes, key)));
  }

  #registration(key: string): Registration {
    return decodeRegistration(unpack(held(this.#registrations, key)));
  }
}

function wishesOf({ annotations, destinations }: Route): ReadAnnotations {
  if (annotations.length === 0) return { wishes: NO_WISHES, problems: [] };
  const apps = new Map(destinations.map(({ appGuid, appName }) => [appGuid, { guid: appGuid, name: appName }]));
  return readAnnotations(annotations, [...apps.values()]);
}

function held(values: ReadonlyMap<string, string>, key: string): string {
  const packed = values.get(key);
  if (packed === undefined) throw new Error(`an index names ${key}, which is not held`);
  return packed;
}

/** False when it was so already. */
const instancesOf = (process: Uint8Array) => decodeProcess(process).instances;

function replace(values: Map<string, string>, key: string, value: Uint8Array | undefined): boolean {
  const packed = value && pack(value);
  if (values.get(key) === packed) return false;
  if (packed === undefined) values.delete(key);
  else values.set(key, packed);
  return true;
}

/**
 * Internal and TCP routes are not reached through the HTTP listener, and a route that leads nowhere is as good as none:
 * its requests go where they would go without it. One that the copilot API maps before it tells of it has no host yet.
 */
function isReachable({ host, internal, protocol, processGuids }: RouteIndexFields): boolean {
  return host !== "" && !internal && protocol !== "tcp" && processGuids.length > 0;
}

function isCopilots(key: string): boolean {
  return key.startsWith(KEY_SPACES.copilotRoutes);
}

function lastWord(key: string): string {
  return key.slice(key.lastIndexOf(".") + 1);
}

/** Below 0 when `key` wins over `rival`: by its source, and within a source by its name, so that all routers agree. */
function rank(key: string, rival: string): number {
  const order = (of: string) => PRECEDENCE.findIndex((keySpace) => of.startsWith(keySpace));
  return order(key) - order(rival) || compareText(key, rival);
}

/** What it says counts beside what the route says that decides. */
function isGuard({ hasRouteService, hasPolicyScope }: Guards): boolean {
  return hasRouteService || hasPolicyScope;
}

type Guards = Pick<RouteIndexFields & RegistrationIndexFields, "hasPolicyScope" | "hasRouteService">;

function ownerOf({ tags }: Registration): Owner {
  const tag = (wanted: string) => tags.find(({ name }) => name === wanted)?.value ?? "";
  return { organizationGuid: tag("organization_id"), spaceGuid: tag("space_id") };
}
