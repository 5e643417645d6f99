import { readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { z } from "zod";
import { CONTROL_FILE, CONTROL_PATH, describeFaults, type FaultDescription } from "../emulator/control/control-api.js";
import { stateFiles } from "../jobs/state-directory.js";
import { asError, MeshError } from "../lib/errors.js";

export interface FaultFlags {
  /** The state directory of cf-mesh dev. */
  readonly directory: string;
}

const ControlSchema = z.object({ url: z.url(), token: z.string() });
const FaultSchema = z.object({
  id: z.string().nullable(),
  name: z.string(),
  parameters: z.record(z.string(), z.unknown()),
});
type InjectedFault = z.infer<typeof FaultSchema>;
const ListSchema = z.object({ active: z.array(FaultSchema) });
const ErrorSchema = z.object({ errors: z.array(z.object({ detail: z.string() })).min(1) });

const print = (line: string) => void process.stdout.write(`${line}\n`);

/** The kinds are told whether or not a foundation runs. */
export async function listFaults({ directory }: FaultFlags): Promise<void> {
  for (const kind of describeFaults()) print(describeKind(kind));
  const { active } = ListSchema.parse(await call(directory, "GET", ""));
  print(
    active.length === 0 ? "\nnone is active" : `\nactive:\n${active.map((fault) => `  ${inWords(fault)}`).join("\n")}`,
  );
}

export async function injectFault(name: string, given: readonly string[], { directory }: FaultFlags): Promise<void> {
  const kind = describeFaults().find((one) => one.name === name);
  if (!kind) throw refused(`there is no fault "${name}"`);
  const parameters = Object.fromEntries(given.map((text) => parseParameter(text, kind)));
  const fault = FaultSchema.parse(await call(directory, "POST", "", { name, parameters }));
  print(
    fault.id === null
      ? `${name}: it happened`
      : `${inWords(fault)}\nit stands until: cf-mesh fault clear ${fault.id} -d ${resolve(directory)}`,
  );
}

export async function clearFaults(id: string | undefined, { directory }: FaultFlags): Promise<void> {
  await call(directory, "DELETE", id === undefined ? "" : `/${encodeURIComponent(id)}`);
  print("cleared");
}

function describeKind({ name, description, parameters }: FaultDescription): string {
  const lines = parameters.map((parameter) => {
    const values = parameter.values ? ` (${parameter.values.join(", ")})` : "";
    const fallback = parameter.default === undefined ? "" : `; left out: ${parameter.default}`;
    const what = `${parameter.description}${values}${parameter.required ? "; needed" : fallback}`;
    return `    ${`${parameter.name}=`.padEnd(20)}${what}`;
  });
  return [`${name.padEnd(24)}${description}`, ...lines].join("\n");
}

function inWords({ id, name, parameters }: InjectedFault): string {
  const words = Object.entries(parameters).map(([key, value]) => `${key}=${String(value)}`);
  return [id ?? "", name, ...words].join(" ");
}

function parseParameter(text: string, kind: FaultDescription): readonly [string, string | number] {
  const place = text.indexOf("=");
  if (place < 1) throw refused(`"${text}" is no parameter, which is a name, "=" and a value`);
  const [name, value] = [text.slice(0, place), text.slice(place + 1)];
  const isInteger = kind.parameters.some((parameter) => parameter.name === name && parameter.type === "integer");
  return [name, isInteger && /^\d+$/.test(value) ? Number(value) : value];
}

/** The body of the answer; undefined where it has none. */
async function call(directory: string, method: string, path: string, body?: unknown): Promise<unknown> {
  const { url, token } = await readControl(directory);
  const response = await fetch(`${url}${CONTROL_PATH}${path}`, {
    method,
    headers: { authorization: `bearer ${token}`, "content-type": "application/json" },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  }).catch((error: unknown) => {
    throw notRunning(directory, error);
  });
  const text = await response.text();
  const answer: unknown = text === "" ? undefined : JSON.parse(text);
  if (response.ok) return answer;
  const errors = ErrorSchema.safeParse(answer);
  throw refused(errors.data?.errors.map(({ detail }) => detail).join("; ") ?? `status ${response.status}`);
}

async function readControl(directory: string): Promise<z.infer<typeof ControlSchema>> {
  try {
    const file = join(stateFiles(resolve(directory)).dataDirectory, CONTROL_FILE);
    return ControlSchema.parse(JSON.parse(await readFile(file, "utf8")));
  } catch (error) {
    throw notRunning(directory, error);
  }
}

const refused = (reason: string) =>
  new MeshError(
    "MESH_CONFIG_INVALID",
    `${reason}; nothing was changed`,
    "cf-mesh fault list tells names, parameters, and which faults are active",
  );

const notRunning = (directory: string, cause: unknown) =>
  new MeshError(
    "MESH_STATUS_UNAVAILABLE",
    `no foundation of cf-mesh dev runs in ${resolve(directory)} (${asError(cause).message})`,
    "start one, or name its --state with --directory",
    { cause },
  );
