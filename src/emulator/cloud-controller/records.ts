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

export interface Droplet extends Resource {
  /** null for the samples, which belong to nobody and are there to be copied. */
  readonly appGuid: string | null;
  readonly name: string;
  readonly command: readonly string[];
  readonly workingDirectory: string;
}

export type DeploymentReason = "DEPLOYING" | "DEPLOYED" | "CANCELED" | "SUPERSEDED";

export interface Deployment extends Resource {
  readonly appGuid: string;
  readonly strategy: string;
  readonly dropletGuid: string;
  readonly previousDropletGuid: string;
  readonly processGuid: string;
  reason: DeploymentReason;
}

export interface Job extends Resource {
  readonly operation: string;
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
