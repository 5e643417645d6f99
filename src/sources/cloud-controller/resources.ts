/**
 * The Cloud Controller's resources, as far as routes need them, checked where they come in.
 *
 * Source  sections "Routes", "Apps", "Processes", "Spaces", "Domains", "Service Route Bindings", "Route Policies" and "Audit Events" of the Cloud Controller's API
 *         v3, and its presenters (cloud_controller_ng, app/presenters/v3).
 */
import { z } from "zod";
import { policySource } from "../../entries/route-policies.js";

/** Guids become keys of the log, and parts of queries. */
const Guid = z.string().regex(/^[\w-]{1,200}$/);
/** Seconds are the finest that the API tells: "2026-01-31T10:00:00Z". As text they sort by time. */
const Timestamp = z.iso.datetime();
const Reference = z.object({ data: z.object({ guid: Guid }) });
const RouteProtocol = z.enum(["http", "tcp"]);

export const PageSchema = z.object({
  pagination: z.object({ total_results: z.int().min(0) }),
  resources: z.array(z.unknown()),
  included: z
    .object({ domains: z.array(z.unknown()).optional(), organizations: z.array(z.unknown()).optional() })
    .optional(),
});
/** Resources are checked one by one: a malformed one must not take its page along. */
export type Page = z.infer<typeof PageSchema>;

const NamedSchema = z.object({ guid: Guid });
const TimesSchema = z.object({ created_at: Timestamp, updated_at: Timestamp.nullish() });

export const RouteSchema = z.object({
  guid: Guid,
  created_at: Timestamp,
  updated_at: Timestamp.nullish(),
  protocol: RouteProtocol.optional(),
  host: z.string(),
  path: z.string(),
  port: z.int().min(0).max(65535).nullish(),
  destinations: z.array(
    z.object({
      app: z.object({ guid: Guid, process: z.object({ type: z.string().min(1) }) }),
      weight: z.int().min(1).max(65535).nullish(),
      port: z.int().min(1).max(65535),
      protocol: z.enum(["http1", "http2", "tcp"]).nullish(),
    }),
  ),
  options: z
    .object({
      loadbalancing: z.string().nullish(),
      hash_header: z.string().nullish(),
      hash_balance: z.union([z.string(), z.number()]).nullish(),
    })
    .nullish(),
  metadata: z.object({ annotations: z.record(z.string(), z.unknown()).nullish() }).nullish(),
  relationships: z.object({ space: Reference, domain: Reference }),
});
export type CcRoute = z.infer<typeof RouteSchema>;

export const DomainSchema = z.object({
  guid: Guid,
  name: z.string().min(1),
  internal: z.boolean(),
  supported_protocols: z.array(z.string()).optional(),
  enforce_route_policies: z.boolean().nullish(),
  route_policies_scope: z.string().nullish(),
});
export const AppSchema = z.object({
  guid: Guid,
  name: z.string(),
  // Needed for the scope of route policies alone: an app without one is still an app.
  relationships: z.object({ space: Reference }).optional().catch(undefined),
});
export const ProcessSchema = z.object({
  guid: Guid,
  type: z.string().min(1),
  relationships: z.object({ app: Reference }),
});
export const RouteBindingSchema = z.object({
  guid: Guid,
  // Whatever it is: a route that has one is not open to everybody.
  route_service_url: z.string().nullish().catch("unreadable"),
  relationships: z.object({ route: Reference, service_instance: Reference }),
});
export const RoutePolicySchema = z.object({
  guid: Guid,
  source: z
    .string()
    .refine((source) => policySource(source) !== undefined, "is no source that this version knows: it lets nobody in"),
  relationships: z.object({ route: Reference }),
});
export const OrganizationSchema = z.object({ guid: Guid, name: z.string() });
export const SpaceSchema = z.object({
  guid: Guid,
  name: z.string(),
  relationships: z.object({ organization: Reference }),
});
export const EventSchema = z.object({
  guid: Guid,
  type: z.string(),
  created_at: Timestamp,
  target: z.object({ guid: Guid }).nullish(),
  data: z
    .object({
      route_guid: Guid.nullish(),
      // Of many shapes: what was asked for.
      request: z
        .object({ relationships: z.object({ route: Reference }).optional(), route_guid: Guid.optional() })
        .optional()
        .catch(undefined),
    })
    .nullish(),
});
export type CcEvent = z.infer<typeof EventSchema>;

export type Checked<T> =
  | { readonly ok: true; readonly value: T }
  /** `guid` is undefined where even that can't be read; `problem` names the field. */
  | { readonly ok: false; readonly guid: string | undefined; readonly problem: string };

export function check<T>(schema: z.ZodType<T>, resource: unknown): Checked<T> {
  const parsed = schema.safeParse(resource);
  if (parsed.success) return { ok: true, value: parsed.data };
  const problem = parsed.error.issues.map(({ path, message }) => `${path.join(".")}: ${message}`).join("; ");
  return { ok: false, guid: guidOf(resource), problem };
}

/** undefined where it can't be read. */
export function guidOf(resource: unknown): string | undefined {
  return NamedSchema.safeParse(resource).data?.guid;
}

/** undefined where it can't be read. */
export function createdAt(resource: unknown): string | undefined {
  return TimesSchema.safeParse(resource).data?.created_at;
}

/** The creation time for what was never updated; undefined where it can't be read. */
export function updatedAt(resource: unknown): string | undefined {
  const times = TimesSchema.safeParse(resource).data;
  return times?.updated_at ?? times?.created_at;
}
