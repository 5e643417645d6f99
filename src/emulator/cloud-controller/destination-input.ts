/** The body that inserts or replaces destinations. Source: RouteUpdateDestinationsMessage of cloud_controller_ng. */
import { unknownFields } from "./body.js";
import { unprocessable } from "./errors.js";
import type { DestinationProtocol } from "./records.js";

export interface DestinationInput {
  readonly appGuid: string;
  readonly processType: string;
  readonly port: number | undefined;
  readonly weight: number | undefined;
  readonly protocol: DestinationProtocol | undefined;
}

export const DESTINATION_PROTOCOLS: readonly DestinationProtocol[] = ["http1", "http2", "tcp"];

const MAX_DESTINATIONS = 100;
const MAX_PORTS_PER_APP = 10;
const WEIGHT_SUM = 100;

/** Throws 422 with every problem, in Cloud Controller's words. Weights are for replacing only. */
export function parseDestinations(
  body: Readonly<Record<string, unknown>>,
  mode: "insert" | "replace",
): readonly DestinationInput[] {
  const { destinations, ...others } = body;
  const unknown = Object.keys(others);
  const least = mode === "replace" ? 0 : 1;
  const isArray =
    Array.isArray(destinations) && destinations.length >= least && destinations.length <= MAX_DESTINATIONS;
  const parsed = isArray ? destinations.map((one: unknown) => parseDestination(one, mode)) : [];
  const problems = [
    ...(unknown.length > 0 ? [unknownFields(unknown)] : []),
    ...(isArray ? [] : [`Destinations must be an array containing between ${least} and 100 destination objects.`]),
    ...parsed.flatMap((one, index) => one.problems.map((problem) => `Destinations[${index}]: ${problem}`)),
    ...(hasTooManyPorts(parsed) ? ["Process must have at most 10 exposed ports."] : []),
  ];
  if (problems.length > 0) throw unprocessable(problems.join(", "));
  const inputs = parsed.flatMap((one) => (one.input === undefined ? [] : [one.input]));
  checkWeights(inputs);
  return inputs;
}

interface Parsed {
  readonly input?: DestinationInput;
  readonly problems: readonly string[];
}

function parseDestination(value: unknown, mode: "insert" | "replace"): Parsed {
  if (!isObject(value)) return { problems: ["must be an object."] };
  if (!("app" in value)) return { problems: ['must have an "app".'] };
  const { app, weight, port, protocol, ...others } = value;
  if (Object.keys(others).length > 0) {
    return { problems: ['must have only "app" and optionally "weight", "port" or "protocol".'] };
  }
  const process = isObject(app) ? app["process"] : undefined;
  const appGuid = isObject(app) ? app["guid"] : undefined;
  const isApp = typeof appGuid === "string" && appGuid.length >= 1 && appGuid.length < 200;
  const problems = [
    ...(isApp ? [] : ['app must have the structure {"guid": "app_guid"}']),
    ...(isApp && process != null && !isProcess(process)
      ? ['process must have the structure {"type": "process_type"}']
      : []),
    ...(weight != null ? weightProblems(weight, mode) : []),
    ...(port != null && !isIntegerBetween(port, 1024, 65535)
      ? ["port must be a positive integer between 1024 and 65535 inclusive."]
      : []),
    ...(protocol != null && !isDestinationProtocol(protocol) ? ["protocol must be 'http1', 'http2' or 'tcp'."] : []),
  ];
  if (problems.length > 0 || !isApp) return { problems };
  const input: DestinationInput = {
    appGuid,
    processType: isProcess(process) ? process.type : "web",
    port: typeof port === "number" ? port : undefined,
    weight: typeof weight === "number" ? weight : undefined,
    protocol: isDestinationProtocol(protocol) ? protocol : undefined,
  };
  return { input, problems };
}

function weightProblems(weight: unknown, mode: "insert" | "replace"): string[] {
  if (mode === "insert") return ["weighted destinations can only be used when replacing all destinations."];
  return isIntegerBetween(weight, 1, 100) ? [] : ["weight must be a positive integer between 1 and 100."];
}

function hasTooManyPorts(parsed: readonly Parsed[]): boolean {
  const counts = new Map<string, number>();
  for (const { input } of parsed) {
    if (input === undefined) continue;
    const key = JSON.stringify([input.appGuid, input.processType]);
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  return [...counts.values()].some((count) => count > MAX_PORTS_PER_APP);
}

function checkWeights(inputs: readonly DestinationInput[]): void {
  const weights = inputs.flatMap((input) => (input.weight === undefined ? [] : [input.weight]));
  if (weights.length === 0) return;
  if (weights.length < inputs.length) {
    throw unprocessable("Destinations cannot contain both weighted and unweighted destinations.");
  }
  if (weights.reduce((sum, weight) => sum + weight, 0) !== WEIGHT_SUM) {
    throw unprocessable("Destinations must have weights that sum to 100.");
  }
}

export function isDestinationProtocol(value: unknown): value is DestinationProtocol {
  return DESTINATION_PROTOCOLS.some((protocol) => protocol === value);
}

function isProcess(value: unknown): value is { type: string } {
  return (
    isObject(value) && Object.keys(value).length === 1 && typeof value["type"] === "string" && value["type"] !== ""
  );
}

function isIntegerBetween(value: unknown, least: number, most: number): boolean {
  return Number.isInteger(value) && Number(value) >= least && Number(value) <= most;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
