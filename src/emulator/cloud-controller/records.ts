/** What Cloud Controller remembers. Times are Unix seconds, as its API shows no finer ones; guids never change. */

export interface Metadata {
  labels: Record<string, string>;
  annotations: Record<string, string>;
}

export interface Resource {
  readonly guid: string;
  readonly createdAt: number;
  updatedAt: number;
  metadata: Metadata;
}

export interface Organization extends Resource {
  name: string;
  suspended: boolean;
}

export interface Space extends Resource {
  name: string;
  readonly organizationGuid: string;
}

export interface Domain extends Resource {
  readonly name: string;
  readonly internal: boolean;
  /** Makes it a TCP domain. */
  readonly routerGroupGuid: string | null;
  /** The owner of a private domain; null for shared ones. */
  readonly organizationGuid: string | null;
  /** Who may call its routes at most, where it enforces route policies; null: anybody may. */
  readonly routePoliciesScope: "any" | "org" | "space" | null;
}

export type RouteOptions = Readonly<Record<string, string>>;

export interface Route extends Resource {
  /** "" for none. */
  readonly host: string;
  /** "" for none, else with a leading slash. */
  readonly path: string;
  /** Of TCP routes only. */
  readonly port: number | null;
  readonly spaceGuid: string;
  readonly domainGuid: string;
  options: RouteOptions;
}

/** A user-provided one. */
export interface ServiceInstance extends Resource {
  name: string;
  readonly spaceGuid: string;
  tags: readonly string[];
  credentials: Readonly<Record<string, unknown>>;
  syslogDrainUrl: string | null;
  routeServiceUrl: string | null;
}

/** A route has one at most. */
export interface RouteBinding extends Resource {
  readonly routeGuid: string;
  readonly serviceInstanceGuid: string;
  /** The instance's. */
  routeServiceUrl: string;
}

/** A caller whom a route of a domain that enforces route policies takes: "cf:any", "cf:app:GUID", "cf:space:GUID", "cf:org:GUID". */
export interface RoutePolicy extends Resource {
  readonly routeGuid: string;
  readonly source: string;
}

export type DestinationProtocol = "http1" | "http2" | "tcp";

export interface Destination {
  readonly guid: string;
  readonly createdAt: number;
  updatedAt: number;
  readonly routeGuid: string;
  readonly appGuid: string;
  readonly processType: string;
  readonly port: number;
  readonly weight: number | null;
  protocol: DestinationProtocol;
}

export interface App extends Resource {
  name: string;
  state: "STARTED" | "STOPPED";
  readonly spaceGuid: string;
  buildpacks: readonly string[];
  stack: string;
  dropletGuid: string | null;
  environmentVariables: Record<string, string>;
}

export interface HealthCheck {
  readonly type: string;
  readonly data: Readonly<Record<string, unknown>>;
}

export interface Process extends Resource {
  readonly appGuid: string;
  readonly type: string;
  /** Makes the LRP's process guid, together with the guid: a new version is a new LRP. */
  version: string;
  /** Versions that a rolling deployment has replaced, and that run until the new one does. */
  retiringVersions: readonly string[];
  /** How many instances the newest version has while it is a canary; null when it is none. */
  canaryInstances: number | null;
  /** What the user set; null takes the droplet's. */
  command: string | null;
  instances: number;
  memoryMb: number;
  diskMb: number;
  logRateLimitBytesPerSecond: number;
  healthCheck: HealthCheck;
  readinessHealthCheck: HealthCheck;
  /** Ports that destinations asked for; null before the first. */
  ports: readonly number[] | null;
}

/** What was uploaded: a zip file of an app's folder. */
export interface Package extends Resource {
  readonly appGuid: string;
  state: "AWAITING_UPLOAD" | "PROCESSING_UPLOAD" | "READY" | "FAILED";
  /** SHA-256 of the upload, in hexadecimal; null before it. */
  checksum: string | null;
  error: string | null;
}

/** One try to make a droplet of a package. */
export interface Build extends Resource {
  readonly appGuid: string;
  readonly packageGuid: string;
  /** Those that were asked for; none: whichever finds that the app is its own. */
  readonly buildpacks: readonly string[];
  readonly stack: string;
  readonly creator: { readonly guid: string; readonly name: string };
  state: "STAGING" | "STAGED" | "FAILED";
  /** "BuildpackCompileFailed - ..." */
  error: string | null;
  dropletGuid: string | null;
}

/** A line for a shell, or a program and its arguments. */
export type Command = string | readonly string[];

export interface Droplet extends Resource {
  /** null for the samples, which belong to nobody and are there to be copied. */
  readonly appGuid: string | null;
  /** null for those that were not made of one. */
  readonly packageGuid: string | null;
  /** The buildpack that made it; a sample's own name. */
  readonly name: string;
  /** What the buildpack found, as in "python". */
  readonly detectOutput: string | null;
  readonly processTypes: Readonly<Record<string, Command>>;
  readonly workingDirectory: string;
  /** Folders that come first in the PATH of its processes. */
  readonly path: readonly string[];
}

/** PAUSED: a canary runs, and waits for somebody to continue. */
export type DeploymentReason = "DEPLOYING" | "PAUSED" | "DEPLOYED" | "CANCELED" | "SUPERSEDED";

export interface Deployment extends Resource {
  readonly appGuid: string;
  readonly strategy: "rolling" | "canary";
  readonly maxInFlight: number;
  readonly dropletGuid: string;
  readonly previousDropletGuid: string;
  readonly processGuid: string;
  reason: DeploymentReason;
}

export interface Job extends Resource {
  readonly operation: string;
  /** What went wrong; a job without errors is complete. */
  readonly errors: readonly { readonly code: number; readonly title: string; readonly detail: string }[];
  readonly warnings: readonly string[];
}

export interface Party {
  readonly guid: string;
  readonly type: string;
  readonly name: string;
}

export interface AuditEvent extends Resource {
  readonly type: string;
  readonly actor: Party;
  readonly target: Party;
  readonly data: Readonly<Record<string, unknown>>;
  readonly spaceGuid: string | null;
  readonly organizationGuid: string | null;
}

export interface Role extends Resource {
  readonly type: string;
  readonly userGuid: string;
  readonly organizationGuid: string | null;
  readonly spaceGuid: string | null;
}

export interface FeatureFlag {
  readonly name: string;
  enabled: boolean;
  customErrorMessage: string | null;
  updatedAt: number | null;
}
