/**
 * App manifests: what a user wants of apps, as YAML. Keys that only the CLI needs (path), or that nothing here knows,
 * are passed over, as Cloud Controller does.
 *
 * Source   AppManifestMessage and its parts of cloud_controller_ng, for the words of every refusal.
 */
import { parse } from "yaml";
import { type ByteSize, parseByteSize } from "./byte-sizes.js";
import { ApiError, CompoundError, unprocessable } from "./errors.js";
import { lifecycleProblems } from "./lifecycle.js";
import type { DestinationProtocol, HealthCheck } from "./records.js";

type Mapping = Readonly<Record<string, unknown>>;

export interface ManifestHealthCheck {
  readonly type: string | undefined;
  readonly data: HealthCheck["data"];
}

/** What a manifest says of one process; what it does not say is undefined. */
export interface ManifestProcess {
  readonly type: string;
  /** null goes back to the droplet's own. */
  readonly command: string | null | undefined;
  readonly instances: number | undefined;
  readonly memoryMb: number | undefined;
  readonly diskMb: number | undefined;
  readonly logRateLimitBytesPerSecond: number | undefined;
  readonly healthCheck: ManifestHealthCheck;
  readonly readinessHealthCheck: ManifestHealthCheck;
}

export interface ManifestRoute {
  /** "shop.example.com/cart", or "tcp.example.com:1024". */
  readonly route: string;
  readonly protocol: DestinationProtocol | undefined;
  readonly options: unknown;
}

export interface ManifestApp {
  readonly name: string;
  readonly processes: readonly ManifestProcess[];
  readonly environment: Readonly<Record<string, string>>;
  readonly buildpacks: readonly string[] | undefined;
  readonly stack: string | undefined;
  readonly metadata: {
    readonly labels?: Readonly<Record<string, string | null>>;
    readonly annotations?: Readonly<Record<string, string | null>>;
  };
  readonly routes: readonly ManifestRoute[];
  readonly noRoute: boolean;
  readonly randomRoute: boolean;
  readonly defaultRoute: boolean;
  readonly services: readonly string[];
  /** As it was written, with keys in the words of the manifest. */
  readonly source: Mapping;
}

/** Throws 400 or 422 with every problem of every app. */
export function parseManifest(body: unknown): readonly ManifestApp[] {
  const applications = applicationsOf(body);
  const problems: string[] = [];
  const apps = applications.map((source) => {
    const found: string[] = [];
    const app = parseApp(source, found);
    const prefix = app.name === "" ? "For application at index 0: " : `For application '${app.name}': `;
    problems.push(...found.map((problem) => `${prefix}${problem}`));
    return app;
  });
  if (problems.length > 0) throw new CompoundError(problems.map(unprocessable));
  return apps;
}

function applicationsOf(body: unknown): readonly Mapping[] {
  const document = parseYaml(body);
  const applications = isMapping(document) ? document["applications"] : undefined;
  const isRight = Array.isArray(applications) && applications.length > 0 && applications.every(isMapping);
  if (isRight) return applications;
  throw new ApiError(
    400,
    10004,
    "CF-BadRequest",
    applications === undefined ? "Invalid app manifest" : "Applications must be an array of app configurations",
  );
}

function parseYaml(body: unknown): unknown {
  try {
    // Anchors may be repeated; a document must not grow without bounds by them.
    return parse(typeof body === "string" ? body : "", { maxAliasCount: 1000, merge: true });
  } catch {
    throw new ApiError(400, 1001, "CF-MessageParseError", "Request invalid due to parse error: invalid request body");
  }
}

function parseApp(source: Mapping, problems: string[]): ManifestApp {
  const name = source["name"];
  if (name === undefined || name === null || name === "") problems.push("Name must not be empty");
  else if (typeof name !== "string") problems.push("Name must be a string");
  const routes = parseRoutes(source, problems);
  return {
    name: typeof name === "string" ? name : "",
    processes: parseProcesses(source, problems),
    environment: parseEnvironment(source["env"], problems),
    ...parseLifecycle(source, problems),
    metadata: parseMetadata(source["metadata"], problems),
    routes,
    noRoute: flag(source, "no-route", problems),
    randomRoute: flag(source, "random-route", problems),
    defaultRoute: flag(source, "default-route", problems),
    services: parseServices(source["services"], problems),
    source,
  };
}

/** What stands at the top is about the web process, unless that has an entry of its own. */
function parseProcesses(source: Mapping, problems: string[]): readonly ManifestProcess[] {
  const entries = source["processes"];
  const top = parseProcess({ ...source, type: "web" }, problems);
  if (entries === undefined) return isEmpty(top) ? [] : [top];
  if (!Array.isArray(entries) || !entries.every(isMapping)) {
    problems.push("Processes must be an array of process configurations");
    return [];
  }
  const types = entries.map((entry) => entry["type"]);
  if (!types.every((type) => typeof type === "string" && type !== "")) {
    problems.push("All Processes must specify a type");
    return [];
  }
  const repeated = new Set(types.filter((type, index) => types.indexOf(type) < index));
  problems.push(...[...repeated].map((type) => `Process "${scalarText(type)}" may only be present once`));
  const parsed = entries.map((entry) => parseProcess(entry, problems));
  return types.includes("web") || isEmpty(top) ? parsed : [top, ...parsed];
}

function parseProcess(source: Mapping, problems: string[]): ManifestProcess {
  const type = scalarText(source["type"]);
  const found: string[] = [];
  const megabytes = (size: ByteSize | undefined, subject: string) => {
    if (size === undefined) return undefined;
    if ("problem" in size) {
      found.push(`${subject} ${size.problem}`);
      return undefined;
    }
    const value = Math.floor(size.bytes / 1024 ** 2);
    if (value < 1) found.push(`${subject} must be greater than 0MB`);
    return value;
  };
  const { command, instances } = source;
  const process: ManifestProcess = {
    type,
    command:
      command === undefined
        ? undefined
        : command === null || command === "null" || command === "default"
          ? null
          : scalarText(command),
    instances: wholeNumber(instances, "Instances", 0, found),
    memoryMb: megabytes(size(source["memory"]), "Memory"),
    diskMb: megabytes(size(source["disk_quota"] ?? source["disk-quota"]), "Disk quota"),
    logRateLimitBytesPerSecond: parseLogRate(source["log-rate-limit-per-second"], found),
    healthCheck: parseHealthCheck(source, "health-check", found),
    readinessHealthCheck: parseHealthCheck(source, "readiness-health-check", found),
  };
  problems.push(...found.map((problem) => `Process "${type}": ${problem}`));
  return process;
}

const SCALARS = ["command", "instances", "memoryMb", "diskMb", "logRateLimitBytesPerSecond"] as const;

function isEmpty({ healthCheck, readinessHealthCheck, ...others }: Omit<ManifestProcess, "type">): boolean {
  const checks = [healthCheck, readinessHealthCheck];
  return (
    SCALARS.every((name) => others[name] === undefined) &&
    checks.every((check) => check.type === undefined && Object.keys(check.data).length === 0)
  );
}

function size(value: unknown): ByteSize | undefined {
  return value === undefined || value === null ? undefined : parseByteSize(value);
}

/** "-1" and "0" need no unit: no limit, and no logs. */
function parseLogRate(value: unknown, problems: string[]): number | undefined {
  if (value === undefined || value === null) return undefined;
  if (["-1", "0"].includes(scalarText(value).trim())) return Number(value);
  const parsed = parseByteSize(value);
  if ("bytes" in parsed) return parsed.bytes;
  problems.push(`Log rate limit per second ${parsed.problem}`);
  return undefined;
}

const HEALTH_CHECK_TYPES = ["port", "process", "http"];

function parseHealthCheck(source: Mapping, prefix: string, problems: string[]): ManifestHealthCheck {
  const subject = prefix === "health-check" ? "Health check" : "Readiness health check";
  const given = source[`${prefix}-type`];
  // The old word for it.
  const type = given === "none" ? "process" : given;
  if (type !== undefined && !HEALTH_CHECK_TYPES.includes(scalarText(type))) {
    problems.push(`${subject} type must be "port", "process", or "http"`);
  }
  const endpoint = source[`${prefix}-http-endpoint`];
  if (endpoint !== undefined && !/^\/\S*$/.test(scalarText(endpoint))) {
    problems.push(`${subject} http endpoint must be a valid URI path`);
  }
  const timeout = prefix === "health-check" ? wholeNumber(source["timeout"], "Timeout", 1, problems) : undefined;
  const invocation = wholeNumber(source[`${prefix}-invocation-timeout`], `${subject} invocation timeout`, 1, problems);
  const interval = wholeNumber(source[`${prefix}-interval`], `${subject} interval`, 1, problems);
  return {
    type: type === undefined ? undefined : scalarText(type),
    data: {
      ...(endpoint !== undefined && { endpoint: scalarText(endpoint) }),
      ...(timeout !== undefined && { timeout }),
      ...(invocation !== undefined && { invocation_timeout: invocation }),
      ...(interval !== undefined && { interval }),
    },
  };
}

function wholeNumber(value: unknown, subject: string, least: number, problems: string[]): number | undefined {
  if (value === undefined || value === null) return undefined;
  const number = typeof value === "string" && /^-?\d+$/.test(value) ? Number(value) : value;
  if (typeof number !== "number" || Number.isNaN(number)) problems.push(`${subject} is not a number`);
  else if (!Number.isInteger(number)) problems.push(`${subject} must be an integer`);
  else if (number < least) problems.push(`${subject} must be greater than or equal to ${least}`);
  else return number;
  return undefined;
}

function parseEnvironment(env: unknown, problems: string[]): Readonly<Record<string, string>> {
  if (env === undefined || env === null) return {};
  if (!isMapping(env)) {
    problems.push("Env must be an object of keys and values");
    return {};
  }
  for (const key of Object.keys(env)) {
    if (/^VCAP_/i.test(key)) problems.push("Env cannot start with VCAP_");
    if (/^VMC/i.test(key)) problems.push("Env cannot start with VMC_");
    if (/^PORT$/i.test(key)) problems.push("Env cannot set PORT");
  }
  return Object.fromEntries(Object.entries(env).map(([key, value]) => [key, scalarText(value ?? "")]));
}

function parseLifecycle(source: Mapping, problems: string[]): Pick<ManifestApp, "buildpacks" | "stack"> {
  const { buildpack, buildpacks, stack, docker } = source;
  if (docker !== undefined) problems.push("Docker support has not been enabled.");
  if (buildpack !== undefined && buildpacks !== undefined) {
    problems.push("Buildpack and Buildpacks fields cannot be used together.");
  }
  if (buildpacks !== undefined && !(Array.isArray(buildpacks) && buildpacks.every((one) => typeof one === "string"))) {
    problems.push("Buildpacks can only contain strings");
    return { buildpacks: undefined, stack: undefined };
  }
  const isDetected = buildpack === null || buildpack === "default" || buildpack === "null";
  const single = buildpack === undefined ? undefined : isDetected ? [] : [scalarText(buildpack)];
  const wanted = buildpacks ?? single;
  const stackName = stack === undefined || stack === null ? undefined : scalarText(stack);
  problems.push(...lifecycleProblems(wanted ?? [], stackName));
  return { buildpacks: wanted, stack: stackName };
}

function parseMetadata(metadata: unknown, problems: string[]): ManifestApp["metadata"] {
  if (metadata === undefined || metadata === null) return {};
  if (!isMapping(metadata)) {
    problems.push("Metadata must be an object");
    return {};
  }
  const pairs = (name: "labels" | "annotations") => {
    const value = metadata[name];
    if (value === undefined || value === null) return {};
    if (!isMapping(value)) {
      problems.push(`Metadata '${name}' is not an object`);
      return {};
    }
    const entries = Object.entries(value).map(([key, one]) => [key, one === null ? null : scalarText(one)] as const);
    return { [name]: Object.fromEntries(entries) };
  };
  return { ...pairs("labels"), ...pairs("annotations") };
}

const PROTOCOLS = ["http1", "http2", "tcp"];

function parseRoutes(source: Mapping, problems: string[]): readonly ManifestRoute[] {
  const { routes } = source;
  if (routes === undefined || routes === null) return [];
  if (!Array.isArray(routes) || !routes.every((one) => isMapping(one) && typeof one["route"] === "string")) {
    problems.push("Routes must be a list of route objects");
    return [];
  }
  if (source["no-route"] === true) problems.push("Cannot use the combination of properties: no-route, routes");
  return (routes as readonly (Mapping & { route: string })[]).map(({ route, protocol, options }) => {
    if (!/^[\w*-]+(\.[\w-]+)+(:\d+)?(\/\S*)?$/.test(route.replace(/^https?:\/\//, ""))) {
      problems.push(`The route '${route}' is not a properly formed URL`);
    }
    if (protocol !== undefined && !PROTOCOLS.includes(scalarText(protocol))) {
      problems.push("Route protocol must be 'http1', 'http2' or 'tcp'.");
    }
    return { route, protocol: protocol as DestinationProtocol | undefined, options };
  });
}

function parseServices(services: unknown, problems: string[]): readonly string[] {
  if (services === undefined || services === null) return [];
  if (!Array.isArray(services)) {
    problems.push("Services must be a list of service instances");
    return [];
  }
  return services.map((one: unknown) => (isMapping(one) ? scalarText(one["name"]) : scalarText(one)));
}

function flag(source: Mapping, name: string, problems: string[]): boolean {
  const value = source[name];
  if (value === undefined || value === null || typeof value === "boolean") return value === true;
  const subject = name.charAt(0).toUpperCase() + name.slice(1).replace("-", " ");
  problems.push(`${subject} must be a boolean`);
  return false;
}

function isMapping(value: unknown): value is Mapping {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** YAML's scalars as text; what is nested as JSON. */
export function scalarText(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value ?? null);
}
