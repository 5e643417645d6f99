/** The configuration file: one schema gives its type, its defaults and its checks. */
import { open, readFile } from "node:fs/promises";
import { parse, YAMLParseError } from "yaml";
import { z } from "zod";
import { asError, MeshError, systemCode } from "../lib/errors.js";
import { LOG_LEVELS } from "../lib/logger.js";

const file = z.string().min(1, "name a file");
const httpUrl = z.url({ protocol: /^https?$/, error: "must be an http:// or https:// URL" });
const address = z.union([z.ipv4(), z.ipv6()], "must be an IP address");
const port = z.int().min(1, "must be a port, 1 to 65535").max(65_535, "must be a port, 1 to 65535");
const durationMs = (least: number) => z.int().min(least, `must be at least ${least} (milliseconds)`);

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
});

export const LogSchema = z.strictObject({
  directory: file.describe("the mesh log of one machine (LMDB); all jobs on it name the same"),
});

export const CloudControllerSchema = z.strictObject({
  url: httpUrl.describe("https://api.<system domain>"),
  uaaUrl: httpUrl.optional().describe("default: as Cloud Controller's root says"),
  clientId: z.string().min(1).describe("UAA client of the syncer"),
  clientSecret: z.string().min(1).optional().describe("better: clientSecretFile"),
  clientSecretFile: file.optional().describe("file that holds its secret"),
  caFile: file.optional().describe("CA that signed the API's certificate, in PEM"),
  pollIntervalMs: durationMs(100).default(500).describe("pause between looks for changes"),
  resyncIntervalMs: durationMs(1_000).default(60_000).describe("pause between full reads"),
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
});
export type Config = z.infer<typeof ConfigSchema>;
export type RouterConfig = z.infer<typeof RouterSchema>;
export type CloudControllerConfig = z.infer<typeof CloudControllerSchema>;
export type DiegoConfig = z.infer<typeof DiegoSchema>;

/** Sections of the file that a job can't do without. */
export type Section = "router" | "cloudController" | "diego";
export type ConfigWith<Needed extends Section> = Config & Required<Pick<Config, Needed>>;

/** Throws MESH_CONFIG_INVALID with every problem at once, each by its path in the file. */
export function parseConfig<Needed extends Section>(
  raw: unknown,
  path: string,
  needed: readonly Needed[],
): ConfigWith<Needed> {
  const parsed = ConfigSchema.safeParse(raw, { error: (issue) => inWords(issue) });
  const given = typeof raw === "object" && raw !== null ? raw : {};
  const missing = needed.filter((section) => !(section in given));
  const problems = [
    ...(parsed.error?.issues ?? []).map((issue) => `${issue.path.join(".") || "top level"}: ${issue.message}`),
    ...missing.map((section) => `${section}: this job needs the section`),
    ...secretProblems(parsed.data),
  ];
  if (problems.length > 0) {
    const list = problems.map((problem) => `\n    ${problem}`).join("");
    throw new MeshError("MESH_CONFIG_INVALID", `${path}:${list}`, "see docs/config.md for every key");
  }
  return parsed.data as ConfigWith<Needed>;
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

function secretProblems(config: Config | undefined): string[] {
  const section = config?.cloudController;
  if (!section || (section.clientSecret === undefined) !== (section.clientSecretFile === undefined)) return [];
  return ["cloudController: give clientSecretFile or clientSecret, one of them"];
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
export async function readConfig<Needed extends Section>(
  path: string,
  needed: readonly Needed[],
): Promise<ConfigWith<Needed>> {
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
