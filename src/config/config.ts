/** The configuration file: one schema gives its type, its defaults and its checks. */
import { open, readFile } from "node:fs/promises";
import { parse, YAMLParseError } from "yaml";
import { z } from "zod";
import { asError, MeshError, systemCode } from "../lib/errors.js";
import { LOG_LEVELS } from "../lib/logger.js";

const file = z.string().min(1, "name a file");
const httpUrl = z.url({ protocol: /^https?$/, error: "must be an http:// or https:// URL" });
const oneOrMoreUrls = z.union([httpUrl, z.array(httpUrl).min(1, "name at least one URL")], {
  error: ({ input }) => (input === undefined ? "is missing" : "must be an http:// or https:// URL, or a list of them"),
});
const address = z.union([z.ipv4(), z.ipv6()], "must be an IP address");
const port = z.int().min(1, "must be a port, 1 to 65535").max(65_535, "must be a port, 1 to 65535");
const durationMs = (least: number) => z.int().min(least, `must be at least ${least} (milliseconds)`);

const BackendsSchema = z
  .strictObject({
    caFile: file.describe("CA that signs the certificates of apps (on Diego: the instance identity CA), in PEM"),
    certificateFile: file.optional().describe("certificate that the router shows to apps that ask for one, in PEM"),
    keyFile: file.optional().describe("its key"),
  })
  .refine(({ certificateFile, keyFile }) => (certificateFile === undefined) === (keyFile === undefined), {
    error: "give certificateFile and keyFile together, or neither",
  });

const ShardingSchema = z
  .strictObject({
    mode: z
      .enum(["all", "shared-and-segments", "segments"])
      .describe(
        "serve all apps, those in no isolation segment and in isolationSegments, or in isolationSegments alone",
      ),
    isolationSegments: z.array(z.string().min(1, "name a segment")).default([]).describe("names of isolation segments"),
  })
  .refine(({ mode, isolationSegments }) => mode !== "segments" || isolationSegments.length > 0, {
    error: "name at least one of isolationSegments: without one nothing would be served",
  });

export const RouterSchema = z.strictObject({
  nodeId: z.string().min(1).default("router").describe("name of this router in logs and to Envoy"),
  listenAddress: address.default("0.0.0.0").describe("address of the router's listener"),
  port: port.default(8080).describe("where requests from outside come in"),
  runDirectory: file.describe("sockets and logs of this router; made with mode 0700"),
  envoyPath: file.optional().describe("the Envoy to run; default: one on PATH, else the one that scripts/setup got"),
  concurrency: z.int().min(1).optional().describe("Envoy's worker threads; default: the number of cores"),
  drainWaitMs: durationMs(0)
    .default(20_000)
    .describe(
      "how long the router goes on as before when it is to stop, but for its health check, which fails at once",
    ),
  drainTimeMs: durationMs(0)
    .default(900_000)
    .describe("how long requests may then take to end; no new connection is taken meanwhile"),
  health: z
    .strictObject({
      listenAddress: address.default("0.0.0.0").describe("address of the health listener"),
      port: port.describe(
        "GET /health here: 200 while requests should come, 503 before and after; nothing else is served",
      ),
    })
    .optional()
    .describe("where load balancers ask whether to send requests"),
  sweepIntervalMs: durationMs(100)
    .default(30_000)
    .describe("how often Envoy is rid of what removed routes used, once no request uses it"),
  orphanTimeoutMs: durationMs(100)
    .default(60_000)
    .describe("how long Envoy serves without an agent before it is stopped"),
  backends: BackendsSchema.optional().describe(
    "how apps are reached by TLS; without it they are reached in plain text",
  ),
  mirrorDirectory: file
    .optional()
    .describe(
      "the router's own copy of a log on JetStream, to serve from while that is away; needed with log.jetstream",
    ),
  staleAfterMs: durationMs(1_000)
    .default(60_000)
    .describe("after so long without hearing from the log, the router says that it may be stale; it serves on"),
  sharding: ShardingSchema.optional().describe("which isolation segments are served; default: all"),
});

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
  copilot: CopilotSchema.optional(),
});
export type Config = z.infer<typeof ConfigSchema>;
export type LogConfig = z.infer<typeof LogSchema>;
export type JetStreamConfig = z.infer<typeof JetStreamSchema>;
export type RouterConfig = z.infer<typeof RouterSchema>;
export type CloudControllerConfig = z.infer<typeof CloudControllerSchema>;
export type DiegoConfig = z.infer<typeof DiegoSchema>;
export type NatsConfig = z.infer<typeof NatsSchema>;
export type CopilotConfig = z.infer<typeof CopilotSchema>;

/** Sections of the file that jobs are run by. */
export type Section = "router" | "cloudController" | "diego" | "nats" | "copilot";

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
  const { cloudController, nats } = config ?? {};
  if (cloudController && count(cloudController.clientSecret, cloudController.clientSecretFile) !== 1) {
    problems.push("cloudController: give clientSecretFile or clientSecret, one of them");
  }
  if (cloudController && count(cloudController.certificateFile, cloudController.keyFile) === 1) {
    problems.push("cloudController: give certificateFile and keyFile together, or neither");
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
