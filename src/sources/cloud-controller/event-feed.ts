/** What audit events point to. They are hints: what became of it is read from the resources themselves. */
import type { FetchList } from "./lookups.js";
import { readWholeList } from "./list.js";
import type { Refusals } from "./refusals.js";
import { type CcEvent, check, EventSchema } from "./resources.js";
import { OVERLAP_MS, timestampOf } from "./timestamps.js";

export interface EventHints {
  readonly routeGuids: readonly string[];
  readonly appGuids: readonly string[];
  /** Bindings of routes, and service instances, whose routes may go first to another service now, or to none. */
  readonly bindingGuids: readonly string[];
  /** Route policies that are gone, whose routes take other callers now. */
  readonly policyGuids: readonly string[];
  readonly serviceInstanceGuids: readonly string[];
  /** Routes and apps whose deletion was asked for; it may be still under way. */
  readonly leaving: { readonly routeGuids: readonly string[]; readonly appGuids: readonly string[] };
}

const ROUTE_TYPES = ["create", "update", "delete-request", "share", "unshare", "transfer-owner"];
/** Those after which an app may have another name, other processes, or be gone. */
const APP_TYPES = [
  "map-route",
  "unmap-route",
  "create",
  "update",
  "delete-request",
  "start",
  "restart",
  "apply_manifest",
  "droplet.mapped",
  "process.create",
  "process.delete",
  "deployment.create",
  "deployment.cancel",
  "deployment.continue",
];
const BINDING_TYPES = ["create", "delete"].map((type) => `audit.service_route_binding.${type}`);
const POLICY_TYPES = ["create", "delete"].map((type) => `audit.route_policy.${type}`);
/** Of user-provided services by API v3; and of clients of API v2. */
const SERVICE_TYPES = [
  "audit.user_provided_service_instance.update",
  "audit.service_instance.bind_route",
  "audit.service_instance.unbind_route",
];
const TYPES = [
  ...ROUTE_TYPES.map((type) => `audit.route.${type}`),
  ...APP_TYPES.map((type) => `audit.app.${type}`),
  ...BINDING_TYPES,
  ...POLICY_TYPES,
  ...SERVICE_TYPES,
];
const PAGE_SIZE = 1000;

export class EventFeed {
  #sinceMs: number;
  /** Creation times by guid of the events that were told of and that the overlap shows again. */
  readonly #told = new Map<string, string>();

  /** Begins at a time of the Cloud Controller's clock, Unix ms. */
  constructor(sinceMs: number) {
    this.#sinceMs = sinceMs;
  }

  /**
   * Returns  what the events point to that came up since the last read.
   * Throws   what `fetch` throws: the next read tells of the same events then.
   */
  async read(fetch: FetchList, serverMs: () => number | undefined, refusals: Refusals): Promise<EventHints> {
    // The time before the question: what is stamped after it may be missing in the answer.
    const askedAtMs = serverMs();
    // It may have gone back: what was told of a time to come was wrong.
    this.#sinceMs = Math.min(this.#sinceMs, askedAtMs ?? Infinity);
    const since = timestampOf(this.#sinceMs - OVERLAP_MS);
    const fresh = new Map<string, CcEvent>();
    await readWholeList(
      (query) => fetch("/v3/audit_events", query),
      { query: { types: TYPES.join(","), "created_ats[gte]": since }, pageSize: PAGE_SIZE, concurrency: 1 },
      (page) => {
        for (const resource of page.resources) {
          const event = refusals.accept("audit event", check(EventSchema, resource));
          if (event && !this.#told.has(event.guid)) fresh.set(event.guid, event);
        }
      },
    );
    for (const [guid, createdAt] of this.#told) if (createdAt < since) this.#told.delete(guid);
    for (const event of fresh.values()) this.#told.set(event.guid, event.created_at);
    this.#sinceMs = askedAtMs ?? this.#sinceMs;
    return hintsOf([...fresh.values()]);
  }
}

function hintsOf(events: readonly CcEvent[]): EventHints {
  const hints = {
    routeGuids: [] as string[],
    appGuids: [] as string[],
    bindingGuids: [] as string[],
    policyGuids: [] as string[],
    serviceInstanceGuids: [] as string[],
    leaving: { routeGuids: [] as string[], appGuids: [] as string[] },
  };
  for (const { type, target, data } of events) {
    const leaves = type.endsWith(".delete-request");
    const aboutRoute = type.startsWith("audit.route.");
    const mapped = type === "audit.app.map-route" || type === "audit.app.unmap-route" ? data?.route_guid : undefined;
    const bound = data?.request?.relationships?.route.data.guid;
    if (POLICY_TYPES.includes(type)) {
      const policed = data?.request?.route_guid;
      if (policed !== undefined) hints.routeGuids.push(policed);
      else if (target) hints.policyGuids.push(target.guid);
    } else if (BINDING_TYPES.includes(type)) {
      if (bound) hints.routeGuids.push(bound);
      else if (target) hints.bindingGuids.push(target.guid);
    } else if (SERVICE_TYPES.includes(type)) {
      if (target) hints.serviceInstanceGuids.push(target.guid);
    } else if (mapped) hints.routeGuids.push(mapped);
    else if (target && aboutRoute) (leaves ? hints.leaving : hints).routeGuids.push(target.guid);
    else if (target) (leaves ? hints.leaving : hints).appGuids.push(target.guid);
  }
  return hints;
}
