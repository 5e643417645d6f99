/** The configuration file: one schema gives its type, its defaults and its checks. */
import { open, readFile } from "node:fs/promises";
import { parse, YAMLParseError } from "yaml";
import { z } from "zod";
import { asError, MeshError, systemCode } from "../lib/errors.js";
import { LOG_LEVELS } from "../lib/logger.js";
import { address, durationMs, file, oneOrMoreUrls, port } from "./fields.js";
import { RouterSchema } from "./router.js";

const natsUrl = z
  .url({ protocol: /^(nats|tls)$/, error: "must be a nats:// or tls:// URL" })
  .refine((url) => !/\/\/[^/]*@/.test(url), "must not hold a user: give user and passwordFile")
  .refine((url) => URL.canParse(url) && new URL(url).hostname !== "", "must name a host");

export const JetStreamSchema = z.strictObject({
  servers: z
    .array(natsUrl)
    .min(1, "name at least one NATS server")
    .describe("tls://log-0.example.com:4222; servers 2.12 or later with JetStream, of which any will do"),
  stream: z
    .string()
    .regex(/^[A-Za-z0-9_-]+$/, "must be letters, digits, - and _")
    .default("cf-mesh")
    .describe("the stream that holds the log; made when it is missing, and never changed when it is there"),
  replicas: z
    .union([z.literal(1), z.literal(3), z.literal(5)], "must be 1, 3 or 5")
    .default(3)
    .describe("copies that a stream has that is made: 1, 3 or 5"),
  deleteMarkerTtlMs: durationMs(60_000)
    .default(604_800_000)
    .describe("how long a deletion is told to routers who were away; those who come later read everything anew"),
  maxBytes: z.int().min(1).optional().describe("how large a stream may become that is made; default: no limit"),
  caFile: file.optional().describe("CA of the servers' certificates, in PEM; default: those of the system"),
  certificateFile: file.optional().describe("client certificate, where the servers want one"),
  keyFile: file.optional().describe("its key"),
  user: z.string().min(1).optional().describe("user that may use the stream; docs/operations.md tells its rights"),
  passwordFile: file.optional().describe("file that holds the user's password"),
  tokenFile: file.optional().describe("file that holds a token, for servers that want one instead of a user"),
});

export const LogSchema = z
  .strictObject({
    directory: file.optional().describe("the mesh log of one machine (LMDB); all jobs on it name the same"),
    jetstream: JetStreamSchema.optional().describe("the mesh log of many machines: a stream on NATS JetStream"),
  })
  .refine(({ directory, jetstream }) => (directory === undefined) !== (jetstream === undefined), {
    error: "give directory or jetstream, one of them",
  });

export const CloudControllerSchema = z.strictObject({
  url: oneOrMoreUrls.describe("https://api.<system domain>; of several, the next is asked when one fails"),
  uaaUrl: oneOrMoreUrls.optional().describe("likewise; default: as Cloud Controller's root says"),
  clientId: z.string().min(1).describe("UAA client of the syncer"),
  clientSecret: z.string().min(1).optional().describe("better: clientSecretFile"),
  clientSecretFile: file.optional().describe("file that holds its secret"),
  caFile: file.optional().describe("CA that signed the API's certificate, in PEM"),
  certificateFile: file.optional().describe("client certificate, where the API or the UAA wants one, in PEM"),
  keyFile: file.optional().describe("its key"),
  requestsPerSecond: z
    .number()
    .min(0.1, "must be at least 0.1")
    .default(2)
    .describe("how often Cloud Controller is asked on average while nothing changes, full reads included"),
  resyncIntervalMs: durationMs(1_000)
    .default(60_000)
    .describe("pause between full reads; longer where they would take more than a quarter of requestsPerSecond"),
  secondOpinionAfterMs: durationMs(100)
    .default(5_000)
    .describe("how long Cloud Controller can't be read before routes that it did not tell of are taken from Diego"),
});

export const DiegoSchema = z.strictObject({
  urls: z
    .array(z.url({ protocol: /^https$/, error: "must be an https:// URL, the BBS accepts only mTLS" }))
    .min(1, "name at least one BBS")
    .describe("https://bbs.service.cf.internal:8889; the next is tried when one fails"),
  caFile: file.describe("CA of the BBS's certificate, in PEM"),
  certificateFile: file.describe("client certificate that the BBS accepts"),
  keyFile: file.describe("its key"),
  resyncIntervalMs: durationMs(1_000).default(30_000).describe("pause between full reads"),
});

export const NatsSchema = z.strictObject({
  servers: z
    .array(natsUrl)
    .min(1, "name at least one NATS server")
    .describe("tls://nats.service.cf.internal:4224, or nats://…:4222 without TLS; the next is tried when one fails"),
  caFile: file.optional().describe("CA of the servers' certificates, in PEM; default: those of the system"),
  certificateFile: file.optional().describe("client certificate, where the servers want one"),
  keyFile: file.optional().describe("its key"),
  user: z
    .string()
    .min(1)
    .optional()
    .describe("user that may follow router.register; docs/foundation.md tells its rights"),
  password: z.string().min(1).optional().describe("better: passwordFile"),
  passwordFile: file.optional().describe("file that holds the user's password"),
  tokenFile: file.optional().describe("file that holds a token, for servers that want one instead of a user"),
  staleThresholdMs: durationMs(1_000)
    .default(120_000)
    .describe("how long an endpoint without TLS stays that is not registered again; messages may ask for less"),
  pruneIntervalMs: durationMs(100).default(30_000).describe("pause between looks for such endpoints"),
  registerIntervalMs: durationMs(1_000).default(20_000).describe("how often publishers are asked to register again"),
  pingIntervalMs: durationMs(100)
    .default(10_000)
    .describe("pause between pings; a server that leaves two unanswered counts as gone"),
  maxRegistrations: z.int().min(1).default(1_000_000).describe("endpoints of URIs that are taken at most"),
});

export const RoutingApiSchema = z.strictObject({
  url: oneOrMoreUrls.describe(
    "https://routing-api.service.cf.internal:3001, with a client certificate, or https://api.<system domain>; of several, the next is asked when one fails",
  ),
  uaaUrl: oneOrMoreUrls.describe("https://uaa.service.cf.internal:8443; likewise"),
  clientId: z.string().min(1).describe("UAA client with the authority routing.routes.read"),
  clientSecret: z.string().min(1).optional().describe("better: clientSecretFile"),
  clientSecretFile: file.optional().describe("file that holds its secret"),
  caFile: file
    .optional()
    .describe("CAs of the certificates of API and UAA, in PEM, one after the other; default: those of the system"),
  certificateFile: file.optional().describe("client certificate that the API accepts, in PEM"),
  keyFile: file.optional().describe("its key"),
  listIntervalMs: durationMs(1_000).default(15_000).describe("pause between full lists; changes come as events"),
  maxRoutes: z.int().min(1).default(100_000).describe("routes that are taken at most"),
});

export const CopilotSchema = z.strictObject({
  listenAddress: address.default("0.0.0.0").describe("address where clients push routes: gRPC over mTLS"),
  port: port.default(9001).describe("its port"),
  vipListenAddress: address
    .default("127.0.0.1")
    .describe("address where DNS asks for the addresses of internal routes: plain text, so for trusted networks alone"),
  vipPort: port.default(9002).describe("its port"),
  caFile: file.describe("CA that issued the clients' certificates, in PEM; whom it signs may push"),
  certificateFile: file.describe("certificate of this server, in PEM"),
  keyFile: file.describe("its key"),
  vipCidr: z
    .cidrv4("must be an IPv4 network, such as 127.128.0.0/9")
    .default("127.128.0.0/9")
    .describe("addresses for internal routes whose client names none"),
});

export const ApiSchema = z.strictObject({
  listenAddress: address.default("127.0.0.1").describe("address of the listener"),
  port: port.describe("its port"),
});

export const ConfigSchema = z.strictObject({
  logLevel: z.enum(LOG_LEVELS).default("info").describe("what is logged at least"),
  api: ApiSchema.optional().describe("GET /health, /ready, /metrics and /status of this process; none when left out"),
  log: LogSchema,
  router: RouterSchema.optional(),
  cloudController: CloudControllerSchema.optional(),
  diego: DiegoSchema.optional(),
  nats: NatsSchema.optional(),
  routingApi: RoutingApiSchema.optional(),
  copilot: CopilotSchema.optional(),
});
export type Config = z.infer<typeof ConfigSchema>;
export type LogConfig = z.infer<typeof LogSchema>;
export type JetStreamConfig = z.infer<typeof JetStreamSchema>;
export type CloudControllerConfig = z.infer<typeof CloudControllerSchema>;
export type DiegoConfig = z.infer<typeof DiegoSchema>;
export type NatsConfig = z.infer<typeof NatsSchema>;
export type RoutingApiConfig = z.infer<typeof RoutingApiSchema>;
export type CopilotConfig = z.infer<typeof CopilotSchema>;

/** Sections of the file that jobs are run by. */
export type Section = "router" | "cloudController" | "diego" | "nats" | "routingApi" | "copilot";

/**
 * @param needed  sections of which the job needs one at least; none named: any file will do
 *
 * Throws MESH_CONFIG_INVALID with every problem at once, each by its path in the file.
 */
export function parseConfig(raw: unknown, path: string, needed: readonly Section[]): Config {
  const parsed = ConfigSchema.safeParse(raw, { error: (issue) => inWords(issue) });
  const given = typeof raw === "object" && raw !== null ? raw : {};
  const isMissing = needed.length > 0 && !needed.some((section) => section in given);
  const problems = [
    ...(parsed.error?.issues ?? []).map((issue) => `${issue.path.join(".") || "top level"}: ${issue.message}`),
    ...(isMissing ? [missingSection(needed)] : []),
    ...secretProblems(parsed.data),
    ...mirrorProblems(parsed.data),
  ];
  if (problems.length > 0) {
    const list = problems.map((problem) => `\n    ${problem}`).join("");
    throw new MeshError("MESH_CONFIG_INVALID", `${path}:${list}`, "see docs/config.md for every key");
  }
  return parsed.data as Config;
}

function missingSection(needed: readonly Section[]): string {
  return needed.length === 1
    ? `${needed.join("")}: this job needs the section`
    : `top level: this job needs at least one of the sections ${needed.join(", ")}`;
}

/** A problem that the schema has no words of its own for; undefined leaves it to zod's. */
function inWords(issue: z.core.$ZodRawIssue): string | undefined {
  if (issue.code === "invalid_type") {
    if (issue.input === undefined) return "is missing";
    if (issue.input === null) return "is empty";
    return `must be ${KINDS[issue.expected] ?? issue.expected}, not ${JSON.stringify(issue.input)}`;
  }
  if (issue.code === "too_small") {
    return issue.origin === "string" ? "must not be empty" : `must be at least ${issue.minimum}`;
  }
  if (issue.code === "unrecognized_keys") return `has no key ${issue.keys.map((key) => `"${key}"`).join(", ")}`;
  if (issue.code === "invalid_value") return `must be one of ${issue.values.join(", ")}`;
  return undefined;
}

const KINDS: Readonly<Record<string, string>> = {
  array: "a list",
  boolean: "true or false",
  int: "a whole number",
  number: "a number",
  object: "a section with keys",
  string: "text",
};

function mirrorProblems(config: Config | undefined): string[] {
  const isMissing = config?.log.jetstream && config.router && config.router.mirrorDirectory === undefined;
  return isMissing
    ? ["router.mirrorDirectory: is missing; a router that follows log.jetstream needs a mirror of it"]
    : [];
}

function secretProblems(config: Config | undefined): string[] {
  const problems: string[] = [];
  const count = (...values: readonly unknown[]) => values.filter((value) => value !== undefined).length;
  const { cloudController, routingApi, nats } = config ?? {};
  for (const [section, of] of Object.entries({ cloudController, routingApi })) {
    if (of && count(of.clientSecret, of.clientSecretFile) !== 1) {
      problems.push(`${section}: give clientSecretFile or clientSecret, one of them`);
    }
    if (of && count(of.certificateFile, of.keyFile) === 1) {
      problems.push(`${section}: give certificateFile and keyFile together, or neither`);
    }
  }
  if (nats && count(nats.password, nats.passwordFile) !== count(nats.user)) {
    problems.push("nats: give user together with passwordFile or password, one of them");
  }
  if (nats && count(nats.user, nats.tokenFile) > 1) problems.push("nats: give user or tokenFile, not both");
  if (nats && count(nats.certificateFile, nats.keyFile) === 1) {
    problems.push("nats: give certificateFile and keyFile together, or neither");
  }
  return problems;
}

/**
 * Throws MESH_CONFIG_INVALID with every file that the configuration names (keys that end in "File") and that this
 * process can't read, each by its key.
 */
export async function requireFiles(config: Config, path: string): Promise<void> {
  const problems: string[] = [];
  for (const { key, file } of namedFiles(config)) {
    try {
      const handle = await open(file);
      try {
        if ((await handle.stat()).isDirectory()) problems.push(`${key}: ${file} is a directory`);
      } finally {
        await handle.close();
      }
    } catch (error) {
      problems.push(`${key}: ${file} can't be read (${systemCode(error) ?? asError(error).message})`);
    }
  }
  if (problems.length === 0) return;
  const list = problems.map((problem) => `\n    ${problem}`).join("");
  throw new MeshError("MESH_CONFIG_INVALID", `${path}:${list}`, "name files that this process can read");
}

function* namedFiles(section: object, place = ""): Generator<{ key: string; file: string }> {
  for (const [name, value] of Object.entries(section) as [string, unknown][]) {
    const key = `${place}${name}`;
    if (typeof value === "string" && name.endsWith("File")) yield { key, file: value };
    else if (typeof value === "object" && value !== null) yield* namedFiles(value, `${key}.`);
  }
}

/** Reads a YAML (or JSON) file. */
export async function readConfig(path: string, needed: readonly Section[]): Promise<Config> {
  const text = await readFile(path, "utf8").catch((error: unknown) => {
    throw new MeshError(
      "MESH_CONFIG_INVALID",
      `${path}: can't be read: ${asError(error).message}`,
      "name a readable file with --config",
      { cause: error },
    );
  });
  return parseConfig(parseYaml(text, path), path, needed);
}

function parseYaml(text: string, path: string): unknown {
  try {
    return parse(text);
  } catch (error) {
    if (!(error instanceof YAMLParseError)) throw error;
    // Its lines, the caret below its place, without the blank ones between.
    const lines = error.message.split("\n").filter((line) => line.trim() !== "");
    throw new MeshError("MESH_CONFIG_INVALID", `${path}: ${lines.join("\n    ")}`, "mend the YAML at that place", {
      cause: error,
    });
  }
}
