import type { DesiredProcess, HealthCheck } from "../diego/diego.js";
import { systemPath } from "../staging/environment.js";
import { openPorts } from "./process-ports.js";
import type { App, Destination, Domain, Droplet, Process, Route } from "./records.js";
import { protocolOf, type Store } from "./store.js";

/** The LRP's process guid: process guid, "-", version. */
export function lrpProcessGuid(process: Process, version: string): string {
  return `${process.guid}-${version}`;
}

/**
 * What Diego is to run for one version of a process.
 *
 * Source  AppRecipeBuilder and Protocol::RoutingInfo of cloud_controller_ng: the routes carry no weights.
 */
export function desiredProcess(store: Store, apiUrl: string, process: Process, version: string): DesiredProcess {
  const app = store.apps.require(process.appGuid);
  const droplet = store.droplets.require(app.dropletGuid ?? "");
  const mapped = mappedRoutes(store, process);
  return {
    lrpProcessGuid: lrpProcessGuid(process, version),
    appGuid: app.guid,
    instances: version === process.version ? (process.canaryInstances ?? process.instances) : process.instances,
    ports: openPorts(process),
    command: commandOf(process, droplet),
    workingDirectory: droplet.workingDirectory,
    environment: environmentOf(process, app, droplet),
    healthCheck: healthCheckOf(process),
    vcapApplication: vcapApplication(store, apiUrl, process, version),
    routes: routesJson(store, mapped),
    metricTags: metricTags(store, app, process),
    annotation: process.updatedAt.toFixed(1),
    placementTags: [],
  };
}

interface Mapped {
  readonly route: Route;
  readonly destination: Destination;
}

function mappedRoutes(store: Store, process: Process): readonly Mapped[] {
  return store
    .destinationsOfApp(process.appGuid)
    .filter((destination) => destination.processType === process.type)
    .map((destination) => ({ destination, route: store.routes.require(destination.routeGuid) }))
    .sort((a, b) => (sortKey(store, a) < sortKey(store, b) ? -1 : 1));
}

function sortKey(store: Store, mapped: Mapped): string {
  return `${store.urlOf(mapped.route)} ${mapped.destination.port}`;
}

function routesJson(store: Store, mapped: readonly Mapped[]): Readonly<Record<string, unknown>> {
  const kinds = mapped.map((one) => ({ ...one, domain: store.domains.require(one.route.domainGuid) }));
  const isTcp = (kind: (typeof kinds)[number]) => protocolOf(kind.domain) === "tcp";
  return {
    "cf-router": kinds
      .filter((kind) => !kind.domain.internal && !isTcp(kind))
      .map(({ route, destination, domain }) => ({
        hostnames: [store.urlOf(route)],
        port: destination.port,
        route_service_url: store.bindingsOfRoute(route.guid)[0]?.routeServiceUrl ?? null,
        isolation_segment: null,
        protocol: destination.protocol,
        ...optionsOf(store, route, domain),
      })),
    "internal-router": kinds
      .filter((kind) => kind.domain.internal)
      .map(({ route }) => ({ hostname: store.hostnameOf(route) })),
    "tcp-router": kinds.filter(isTcp).map(({ route, destination, domain }) => ({
      router_group_guid: domain.routerGroupGuid,
      external_port: route.port,
      container_port: destination.port,
    })),
  };
}

/** Those of the route; and its policies, which clients of the API do not see there. */
function optionsOf(store: Store, route: Route, domain: Domain): object {
  const sources = store.policiesOfRoute(route.guid).map(({ source }) => source);
  const options = {
    ...route.options,
    ...(domain.routePoliciesScope !== null && { route_policy_scope: domain.routePoliciesScope }),
    ...(domain.routePoliciesScope !== null && sources.length > 0 && { route_policy_sources: sources.join(",") }),
  };
  return Object.keys(options).length > 0 ? { options } : {};
}

/**
 * The shell stays, and waits for what it runs after a SIGTERM, which its whole process group gets: an app that drains
 * would lose its group's leader too early otherwise.
 */
const SHELL = ["/bin/sh", "-c", 'trap "exit 143" TERM; eval "$1"', "sh"];
const NO_COMMAND = 'echo "no start command: name one in a Procfile, or push with -c" >&2; exit 1';

function commandOf(process: Process, droplet: Droplet): readonly string[] {
  const command = process.command ?? droplet.processTypes[process.type] ?? NO_COMMAND;
  return typeof command === "string" ? [...SHELL, command] : command;
}

function environmentOf(process: Process, app: App, droplet: Droplet): Readonly<Record<string, string>> {
  const variables: Record<string, string> = {
    VCAP_SERVICES: "{}",
    MEMORY_LIMIT: `${process.memoryMb}m`,
    ...app.environmentVariables,
  };
  if (droplet.path.length === 0) return variables;
  return { ...variables, PATH: [...droplet.path, variables["PATH"] ?? systemPath()].join(":") };
}

function healthCheckOf({ healthCheck: { type, data } }: Process): HealthCheck {
  const timeout = typeof data["timeout"] === "number" ? { timeoutMs: data["timeout"] * 1000 } : {};
  const endpoint = typeof data["endpoint"] === "string" ? data["endpoint"] : "/";
  if (type === "http") return { type, endpoint, ...timeout };
  return { type: type === "process" ? "process" : "port", ...timeout };
}

/** VCAP_APPLICATION, without what differs by instance. */
export function vcapApplication(
  store: Store,
  apiUrl: string,
  process: Process,
  version: string,
): Readonly<Record<string, unknown>> {
  const app = store.apps.require(process.appGuid);
  const organization = store.organizationOf(app.spaceGuid);
  const uris = mappedRoutes(store, process).map(({ route }) => store.urlOf(route));
  return {
    cf_api: apiUrl,
    limits: { fds: 16384, mem: process.memoryMb, disk: process.diskMb },
    application_name: app.name,
    application_uris: uris,
    name: app.name,
    space_name: store.spaces.require(app.spaceGuid).name,
    space_id: app.spaceGuid,
    organization_id: organization.guid,
    organization_name: organization.name,
    uris,
    process_id: process.guid,
    process_type: process.type,
    application_id: app.guid,
    version,
    application_version: version,
  };
}

function metricTags(store: Store, app: App, process: Process): Readonly<Record<string, string>> {
  const organization = store.organizationOf(app.spaceGuid);
  return {
    source_id: app.guid,
    process_id: process.guid,
    process_type: process.type,
    organization_id: organization.guid,
    organization_name: organization.name,
    space_id: app.spaceGuid,
    space_name: store.spaces.require(app.spaceGuid).name,
    app_id: app.guid,
    app_name: app.name,
  };
}
