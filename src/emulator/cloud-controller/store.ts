import { Collection } from "./collection.js";
import type {
  App,
  AuditEvent,
  Build,
  Deployment,
  Destination,
  Domain,
  Droplet,
  FeatureFlag,
  Job,
  Organization,
  Package,
  Process,
  Role,
  Route,
  RouteBinding,
  RoutePolicy,
  ServiceInstance,
  Space,
} from "./records.js";

const FEATURE_FLAGS = {
  app_scaling: true,
  diego_docker: false,
  hash_based_routing: false,
  route_creation: true,
  route_sharing: false,
  user_org_creation: false,
} as const;

/** Cloud Controller's database. */
export class Store {
  readonly organizations = new Collection<Organization>();
  readonly spaces = new Collection<Space>();
  readonly domains = new Collection<Domain>();
  readonly routes = new Collection<Route>();
  readonly destinations = new Collection<Destination>();
  readonly serviceInstances = new Collection<ServiceInstance>();
  readonly routeBindings = new Collection<RouteBinding>();
  readonly routePolicies = new Collection<RoutePolicy>();
  readonly apps = new Collection<App>();
  readonly processes = new Collection<Process>();
  readonly packages = new Collection<Package>();
  readonly builds = new Collection<Build>();
  readonly droplets = new Collection<Droplet>();
  readonly deployments = new Collection<Deployment>();
  readonly jobs = new Collection<Job>();
  readonly auditEvents = new Collection<AuditEvent>();
  readonly roles = new Collection<Role>();
  readonly featureFlags: ReadonlyMap<string, FeatureFlag> = new Map(
    Object.entries(FEATURE_FLAGS).map(([name, enabled]) => [
      name,
      { name, enabled, customErrorMessage: null, updatedAt: null },
    ]),
  );

  readonly spacesOfOrganization = this.spaces.indexBy((space) => space.organizationGuid);
  readonly domainsNamed = this.domains.indexBy((domain) => domain.name);
  readonly routesOfSpace = this.routes.indexBy((route) => route.spaceGuid);
  readonly destinationsOfRoute = this.destinations.indexBy((destination) => destination.routeGuid);
  readonly destinationsOfApp = this.destinations.indexBy((destination) => destination.appGuid);
  readonly instancesOfSpace = this.serviceInstances.indexBy((instance) => instance.spaceGuid);
  readonly bindingsOfRoute = this.routeBindings.indexBy((binding) => binding.routeGuid);
  readonly policiesOfRoute = this.routePolicies.indexBy((policy) => policy.routeGuid);
  readonly bindingsOfInstance = this.routeBindings.indexBy((binding) => binding.serviceInstanceGuid);
  readonly appsOfSpace = this.apps.indexBy((app) => app.spaceGuid);
  readonly processesOfApp = this.processes.indexBy((process) => process.appGuid);
  readonly packagesOfApp = this.packages.indexBy((one) => one.appGuid);
  readonly buildsOfApp = this.builds.indexBy((build) => build.appGuid);
  readonly dropletsOfApp = this.droplets.indexBy((droplet) => droplet.appGuid ?? "");
  readonly deploymentsOfApp = this.deployments.indexBy((deployment) => deployment.appGuid);
  readonly #routesByHost = this.routes.indexBy((route) => hostKey(route.domainGuid, route.host));

  /** Calls the listener when a record of any kind came or went. */
  onChange(listener: () => void): void {
    for (const collection of Object.values(this)) {
      if (collection instanceof Collection) collection.onChange(listener);
    }
  }

  /** Routes of one host of a domain; they differ by path, or by port. */
  routesOfHost(domainGuid: string, host: string): readonly Route[] {
    return this.#routesByHost(hostKey(domainGuid, host));
  }

  organizationOf(spaceGuid: string): Organization {
    return this.organizations.require(this.spaces.require(spaceGuid).organizationGuid);
  }

  process(appGuid: string, type: string): Process | undefined {
    return this.processesOfApp(appGuid).find((process) => process.type === type);
  }

  isEnabled(flag: keyof typeof FEATURE_FLAGS): boolean {
    return this.featureFlags.get(flag)?.enabled === true;
  }

  /** "shop.example.com": host and domain, without the path. */
  hostnameOf(route: Pick<Route, "host" | "domainGuid">): string {
    const domain = this.domains.require(route.domainGuid).name;
    return route.host === "" ? domain : `${route.host}.${domain}`;
  }

  /** "shop.example.com/cart", or "tcp.example.com:1024". */
  urlOf(route: Route): string {
    return route.port === null
      ? `${this.hostnameOf(route)}${route.path}`
      : `${this.domains.require(route.domainGuid).name}:${route.port}`;
  }
}

export function protocolOf(domain: Domain): "http" | "tcp" {
  return domain.routerGroupGuid === null ? "http" : "tcp";
}

export function isUsableBy(domain: Domain, organizationGuid: string): boolean {
  return domain.organizationGuid === null || domain.organizationGuid === organizationGuid;
}

function hostKey(domainGuid: string, host: string): string {
  return `${domainGuid}/${host}`;
}
