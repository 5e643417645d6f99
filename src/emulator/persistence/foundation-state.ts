/** What of a foundation survives a restart: the shape of the file, and the ways into it and out of it. */
import { z } from "zod";
import type {
  App,
  AuditEvent,
  Build,
  Deployment,
  Destination,
  Domain,
  Droplet,
  FeatureFlag,
  HealthCheck,
  Organization,
  Package,
  Process,
  Role,
  Route,
  RouteBinding,
  RoutePolicy,
  ServiceInstance,
  Space,
} from "../cloud-controller/records.js";
import type { Store } from "../cloud-controller/store.js";
import type { Policies, PolicyState } from "../networking/policies.js";

const VERSION = 1;
/** The newest ones; Cloud Controller drops them after 31 days. */
const MAX_AUDIT_EVENTS = 2_000;

const strings = z.record(z.string(), z.string());
const unknowns = z.record(z.string(), z.unknown());
const resource = {
  guid: z.string(),
  createdAt: z.number(),
  updatedAt: z.number(),
  metadata: z.object({ labels: strings, annotations: strings }),
};
const healthCheck: z.ZodType<HealthCheck> = z.object({ type: z.string(), data: unknowns });
const party = z.object({ guid: z.string(), type: z.string(), name: z.string() });

const organization: z.ZodType<Organization> = z.object({ ...resource, name: z.string(), suspended: z.boolean() });
const space: z.ZodType<Space> = z.object({ ...resource, name: z.string(), organizationGuid: z.string() });
const domain: z.ZodType<Domain> = z.object({
  ...resource,
  name: z.string(),
  internal: z.boolean(),
  routerGroupGuid: z.string().nullable(),
  organizationGuid: z.string().nullable(),
  // States of before have none.
  routePoliciesScope: z.enum(["any", "org", "space"]).nullable().default(null),
});
const route: z.ZodType<Route> = z.object({
  ...resource,
  host: z.string(),
  path: z.string(),
  port: z.number().nullable(),
  spaceGuid: z.string(),
  domainGuid: z.string(),
  options: strings,
});
const serviceInstance: z.ZodType<ServiceInstance> = z.object({
  ...resource,
  name: z.string(),
  spaceGuid: z.string(),
  tags: z.array(z.string()),
  credentials: unknowns,
  syslogDrainUrl: z.string().nullable(),
  routeServiceUrl: z.string().nullable(),
});
const routeBinding: z.ZodType<RouteBinding> = z.object({
  ...resource,
  routeGuid: z.string(),
  serviceInstanceGuid: z.string(),
  routeServiceUrl: z.string(),
});
const routePolicy: z.ZodType<RoutePolicy> = z.object({ ...resource, routeGuid: z.string(), source: z.string() });
const destination: z.ZodType<Destination> = z.object({
  guid: z.string(),
  createdAt: z.number(),
  updatedAt: z.number(),
  routeGuid: z.string(),
  appGuid: z.string(),
  processType: z.string(),
  port: z.number(),
  weight: z.number().nullable(),
  protocol: z.enum(["http1", "http2", "tcp"]),
});
const app: z.ZodType<App> = z.object({
  ...resource,
  name: z.string(),
  state: z.enum(["STARTED", "STOPPED"]),
  spaceGuid: z.string(),
  buildpacks: z.array(z.string()),
  stack: z.string(),
  dropletGuid: z.string().nullable(),
  environmentVariables: strings,
});
const process: z.ZodType<Process> = z.object({
  ...resource,
  appGuid: z.string(),
  type: z.string(),
  version: z.string(),
  retiringVersions: z.array(z.string()),
  canaryInstances: z.number().nullable(),
  command: z.string().nullable(),
  instances: z.number(),
  memoryMb: z.number(),
  diskMb: z.number(),
  logRateLimitBytesPerSecond: z.number(),
  healthCheck,
  readinessHealthCheck: healthCheck,
  ports: z.array(z.number()).nullable(),
});
const packageRecord: z.ZodType<Package> = z.object({
  ...resource,
  appGuid: z.string(),
  state: z.enum(["AWAITING_UPLOAD", "PROCESSING_UPLOAD", "READY", "FAILED"]),
  checksum: z.string().nullable(),
  error: z.string().nullable(),
});
const build: z.ZodType<Build> = z.object({
  ...resource,
  appGuid: z.string(),
  packageGuid: z.string(),
  buildpacks: z.array(z.string()),
  stack: z.string(),
  creator: z.object({ guid: z.string(), name: z.string() }),
  state: z.enum(["STAGING", "STAGED", "FAILED"]),
  error: z.string().nullable(),
  dropletGuid: z.string().nullable(),
});
const droplet: z.ZodType<Droplet> = z.object({
  ...resource,
  appGuid: z.string().nullable(),
  packageGuid: z.string().nullable(),
  name: z.string(),
  detectOutput: z.string().nullable(),
  processTypes: z.record(z.string(), z.union([z.string(), z.array(z.string())])),
  workingDirectory: z.string(),
  path: z.array(z.string()),
});
const deployment: z.ZodType<Deployment> = z.object({
  ...resource,
  appGuid: z.string(),
  strategy: z.enum(["rolling", "canary"]),
  maxInFlight: z.number(),
  dropletGuid: z.string(),
  previousDropletGuid: z.string(),
  processGuid: z.string(),
  reason: z.enum(["DEPLOYING", "PAUSED", "DEPLOYED", "CANCELED", "SUPERSEDED"]),
});
const auditEvent: z.ZodType<AuditEvent> = z.object({
  ...resource,
  type: z.string(),
  actor: party,
  target: party,
  data: unknowns,
  spaceGuid: z.string().nullable(),
  organizationGuid: z.string().nullable(),
});
const role: z.ZodType<Role> = z.object({
  ...resource,
  type: z.string(),
  userGuid: z.string(),
  organizationGuid: z.string().nullable(),
  spaceGuid: z.string().nullable(),
});
const featureFlag: z.ZodType<FeatureFlag> = z.object({
  name: z.string(),
  enabled: z.boolean(),
  customErrorMessage: z.string().nullable(),
  updatedAt: z.number().nullable(),
});
const policies: z.ZodType<PolicyState> = z.object({
  policies: z.array(
    z.object({
      sourceId: z.string(),
      destinationId: z.string(),
      protocol: z.enum(["tcp", "udp"]),
      startPort: z.number(),
      endPort: z.number(),
    }),
  ),
  tags: z.array(z.object({ id: z.string(), tag: z.string(), type: z.string() })),
  lastUpdated: z.number(),
});

const stateSchema = z.strictObject({
  version: z.literal(VERSION, "it was written by another version of cf-mesh"),
  organizations: z.array(organization),
  spaces: z.array(space),
  domains: z.array(domain),
  routes: z.array(route),
  destinations: z.array(destination),
  // States of before have none.
  serviceInstances: z.array(serviceInstance).default([]),
  routeBindings: z.array(routeBinding).default([]),
  routePolicies: z.array(routePolicy).default([]),
  apps: z.array(app),
  processes: z.array(process),
  packages: z.array(packageRecord),
  builds: z.array(build),
  droplets: z.array(droplet),
  deployments: z.array(deployment),
  auditEvents: z.array(auditEvent),
  roles: z.array(role),
  featureFlags: z.array(featureFlag),
  policies,
});
export type FoundationState = z.output<typeof stateSchema>;

/** Records in the order of their ids. Jobs are not kept: they are done when they are answered. */
export const foundationStateSchema = stateSchema.superRefine((state, context) => {
  const miss = danglingReference(state);
  if (miss !== undefined) context.addIssue({ code: "custom", message: miss });
});

type Collections = {
  [Name in keyof FoundationState]: FoundationState[Name] extends readonly { guid: string }[] ? Name : never;
}[keyof FoundationState];

/** Fields that hold the guid of another record, which has to be there. */
const REFERENCES: readonly (readonly [from: Collections, field: string, to: Collections])[] = [
  ["spaces", "organizationGuid", "organizations"],
  ["domains", "organizationGuid", "organizations"],
  ["routes", "spaceGuid", "spaces"],
  ["routes", "domainGuid", "domains"],
  ["destinations", "routeGuid", "routes"],
  ["destinations", "appGuid", "apps"],
  ["serviceInstances", "spaceGuid", "spaces"],
  ["routeBindings", "routeGuid", "routes"],
  ["routeBindings", "serviceInstanceGuid", "serviceInstances"],
  ["routePolicies", "routeGuid", "routes"],
  ["apps", "spaceGuid", "spaces"],
  ["apps", "dropletGuid", "droplets"],
  ["processes", "appGuid", "apps"],
  ["packages", "appGuid", "apps"],
  ["droplets", "appGuid", "apps"],
];

function danglingReference(state: FoundationState): string | undefined {
  for (const [from, field, to] of REFERENCES) {
    const guids = new Set(state[to].map(({ guid }) => guid));
    const records: readonly { readonly guid: string; readonly [field: string]: unknown }[] = state[from].map(
      (record) => ({ ...record }),
    );
    const dangling = records.find((record) => typeof record[field] === "string" && !guids.has(record[field]));
    if (dangling !== undefined) return `${field} of ${dangling.guid} in ${from} is not among the ${to}`;
  }
  return undefined;
}

/** Of the state, as it is now: to be written before anything else happens. */
export function captureState(store: Store, networkPolicies: Policies): FoundationState {
  return {
    version: VERSION,
    organizations: [...store.organizations.all()],
    spaces: [...store.spaces.all()],
    domains: [...store.domains.all()],
    routes: [...store.routes.all()],
    destinations: [...store.destinations.all()],
    serviceInstances: [...store.serviceInstances.all()],
    routeBindings: [...store.routeBindings.all()],
    routePolicies: [...store.routePolicies.all()],
    apps: [...store.apps.all()],
    processes: [...store.processes.all()],
    packages: [...store.packages.all()],
    builds: [...store.builds.all()],
    droplets: [...store.droplets.all()],
    deployments: [...store.deployments.all()],
    auditEvents: [...store.auditEvents.all().slice(-MAX_AUDIT_EVENTS)],
    roles: [...store.roles.all()],
    featureFlags: [...store.featureFlags.values()],
    policies: networkPolicies.state,
  };
}

/** Fills an empty store. What was going on when the state was saved has ended since. */
export function restoreState(saved: FoundationState, store: Store, networkPolicies: Policies): void {
  const state = withDeploymentsEnded(saved);
  for (const one of state.organizations) store.organizations.add(one);
  for (const one of state.spaces) store.spaces.add(one);
  for (const one of state.domains) store.domains.add(one);
  for (const one of state.routes) store.routes.add(one);
  for (const one of state.destinations) store.destinations.add(one);
  for (const one of state.serviceInstances) store.serviceInstances.add(one);
  for (const one of state.routeBindings) store.routeBindings.add(one);
  for (const one of state.routePolicies) store.routePolicies.add(one);
  for (const one of state.apps) store.apps.add(one);
  for (const one of state.processes) store.processes.add(one);
  for (const one of state.packages) store.packages.add(settledPackage(one));
  for (const one of state.builds) store.builds.add(settledBuild(one));
  for (const one of state.droplets) store.droplets.add(one);
  for (const one of state.deployments) store.deployments.add(one);
  for (const one of state.auditEvents) store.auditEvents.add(one);
  for (const one of state.roles) store.roles.add(one);
  for (const one of state.featureFlags) {
    const flag = store.featureFlags.get(one.name);
    if (flag !== undefined) Object.assign(flag, one);
  }
  networkPolicies.restore(state.policies);
}

/**
 * The old version of a process ends with the foundation, so the new one takes over at once; but not from a canary that
 * nobody has continued: it is cancelled, and the old version comes back with its droplet.
 */
function withDeploymentsEnded(state: FoundationState): FoundationState {
  const isActive = ({ reason }: Deployment) => reason === "DEPLOYING" || reason === "PAUSED";
  const canaries = new Set(state.processes.flatMap((one) => (one.canaryInstances === null ? [] : [one.guid])));
  const isCancelled = (one: Deployment) => isActive(one) && canaries.has(one.processGuid);
  const previousDroplets = new Map(
    state.deployments.filter(isCancelled).map(({ appGuid, previousDropletGuid }) => [appGuid, previousDropletGuid]),
  );
  return {
    ...state,
    apps: state.apps.map((one) => ({ ...one, dropletGuid: previousDroplets.get(one.guid) ?? one.dropletGuid })),
    processes: state.processes.map((one) => {
      const version = canaries.has(one.guid) ? (one.retiringVersions.at(-1) ?? one.version) : one.version;
      return { ...one, version, retiringVersions: [], canaryInstances: null };
    }),
    deployments: state.deployments.map((one) =>
      isActive(one) ? { ...one, reason: isCancelled(one) ? "CANCELED" : "DEPLOYED" } : one,
    ),
  };
}

/** What a sample is made of, as this installation of cf-mesh has it. */
export interface Sample {
  readonly name: string;
  readonly command: readonly string[];
  readonly workingDirectory: string;
}

/** Samples and their copies with the files of this installation: it may have been moved since. */
export function withSamples(state: FoundationState, samples: readonly Sample[]): FoundationState {
  const droplets = state.droplets.map((one) => {
    const origin = state.droplets.find(({ appGuid, name }) => appGuid === null && name === one.name);
    const sample = samples.find(({ name }) => name === one.name);
    if (sample === undefined || one.workingDirectory !== origin?.workingDirectory) return one;
    return { ...one, processTypes: { web: sample.command }, workingDirectory: sample.workingDirectory };
  });
  return { ...state, droplets };
}

function settledPackage(one: Package): Package {
  return one.state === "PROCESSING_UPLOAD"
    ? { ...one, state: "FAILED", error: "the foundation was restarted during the upload" }
    : one;
}

function settledBuild(one: Build): Build {
  return one.state === "STAGING"
    ? { ...one, state: "FAILED", error: "StagingError - the foundation was restarted during staging" }
    : one;
}
