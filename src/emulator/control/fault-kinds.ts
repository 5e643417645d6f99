/** Every fault that can be injected by a command: its name, its parameters, and what it does. */
import { z } from "zod";
import type { DiegoFaults } from "../diego/faults.js";
import type { Fault, FaultRule, InjectedFault } from "../http/faults.js";
import type { RoutingApiFaults } from "../routing-api/event-streams.js";
import type { EmitterFaults } from "../route-emitter/route-emitter.js";

/** The parts of a foundation that can fail. */
export interface FaultTargets {
  readonly injectHttp: (rule: FaultRule) => InjectedFault;
  readonly setRateLimit: (limit: { readonly requestCount: number; readonly intervalMs: number } | undefined) => void;
  /** undefined: as long as ever. */
  readonly setTokenLifetime: (seconds: number | undefined) => void;
  readonly revokeTokens: () => Promise<void>;
  /** undefined where Diego has no BBS. */
  readonly diego: DiegoFaults | undefined;
  /** undefined without NATS. */
  readonly emitter: EmitterFaults | undefined;
  readonly routingApi: RoutingApiFaults;
  /** Diego's guid of a process of an app, which is given by name or guid. Throws what the API answers. */
  readonly lrpProcessGuid: (app: string, processType: string) => string;
}

/** Ends a fault that stands; undefined for one that happened once. */
export type EndFault = (() => void | Promise<void>) | undefined;

export interface FaultKind {
  readonly name: string;
  readonly description: string;
  /** Every parameter is described. */
  readonly parameters: z.ZodObject;
  /** Throws the ZodError of `parameters`, or an Error that says why it can't be. */
  readonly inject: (targets: FaultTargets, parameters: unknown) => Promise<EndFault>;
}

const INDEX = z.int().min(0).default(0).describe("index of the instance");
const COUNT = z.int().min(1).max(100_000).default(10).describe("how many");
const CELL = z.string().default("cell-1").describe("id of the cell: cell-1 or cell-2");
const INSTANCE = z.strictObject({
  app: z.string().describe("name or guid of the app"),
  process: z.string().default("web").describe("type of the process"),
  index: INDEX,
});
const REQUESTS = z.strictObject({
  path: z.string().default("*").describe('path of the requests; a "*" at its end stands for any rest'),
  method: z.string().optional().describe("as in GET; left out: any"),
  times: z.int().min(1).optional().describe("how many requests it hits; left out: all, until it is cleared"),
});
const NONE = z.strictObject({});

export const FAULT_KINDS: readonly FaultKind[] = [
  http("http-invalid-token", "401 CF-InvalidAuthToken, as for a token that expired", REQUESTS, () => ({
    kind: "invalid-token",
  })),
  http(
    "http-rate-limited",
    "429 with Retry-After",
    REQUESTS.extend({ retryAfterSeconds: z.int().min(0).default(5).describe("of the Retry-After header") }),
    ({ retryAfterSeconds }) => ({ kind: "rate-limited", retryAfterSeconds }),
  ),
  http(
    "http-status",
    "an error of Cloud Controller, UAA or routing API",
    REQUESTS.extend({ status: z.int().min(400).max(599).default(503).describe("HTTP status") }),
    ({ status }) => ({ kind: "status", status }),
  ),
  http("http-garbage", "200 with a body that is no JSON", REQUESTS, () => ({ kind: "garbage" })),
  http("http-truncated", "200 with a body that is cut off", REQUESTS, () => ({ kind: "truncated" })),
  http("http-slow", "no answer until the fault is cleared", REQUESTS, () => ({ kind: "slow" })),
  http("http-drop", "the connection is cut without an answer", REQUESTS, () => ({ kind: "drop" })),
  kind(
    "rate-limit",
    "counts the requests of all but administrators, and refuses those above the limit",
    z.strictObject({
      requestCount: z.int().min(1).default(100).describe("requests in an interval"),
      intervalSeconds: z.int().min(1).default(60).describe("length of the interval"),
    }),
    (targets, { requestCount, intervalSeconds }) => {
      targets.setRateLimit({ requestCount, intervalMs: intervalSeconds * 1_000 });
      return () => targets.setRateLimit(undefined);
    },
  ),
  kind(
    "token-lifetime",
    "access tokens that are issued from now on live this long",
    z.strictObject({ seconds: z.int().min(1).default(60).describe("lifetime") }),
    (targets, { seconds }) => {
      targets.setTokenLifetime(seconds);
      return () => targets.setTokenLifetime(undefined);
    },
  ),
  kind("tokens-revoked", "every access token that is out becomes invalid; happens once", NONE, async (targets) => {
    await targets.revokeTokens();
  }),
  kind("bbs-cut-streams", "ends every event stream of the BBS; happens once", NONE, (targets) => {
    diegoOf(targets).cutEventStreams();
  }),
  kind(
    "bbs-stall",
    "the BBS writes nothing more, with connections open",
    z.strictObject({
      what: z.enum(["events", "everything"]).default("events").describe("event streams, or all calls"),
    }),
    (targets, { what }) => {
      diegoOf(targets).stall(what);
      return () => diegoOf(targets).resume();
    },
  ),
  kind("bbs-down", "the BBS refuses connections, like one that is not the active one", NONE, async (targets) => {
    await diegoOf(targets).refuseConnections();
    return () => diegoOf(targets).acceptConnections();
  }),
  kind(
    "bbs-bad-answers",
    "calls to the BBS go wrong",
    z.strictObject({
      answer: z.enum(["status 500", "error", "garbage", "truncated"]).default("error").describe("what comes instead"),
      path: z.string().default("*").describe("path of the calls; * for all"),
    }),
    (targets, { answer, path }) => {
      diegoOf(targets).answerBadly(answer, path);
      return () => diegoOf(targets).answerWell(path);
    },
  ),
  kind("bbs-stale-domain", "Diego's lists may be incomplete, as when Cloud Controller is gone", NONE, (targets) => {
    diegoOf(targets).setDomainFresh(false);
    return () => diegoOf(targets).setDomainFresh(true);
  }),
  kind(
    "bbs-duplicate-events",
    "sends each of the next events twice; happens once",
    z.strictObject({ count: COUNT }),
    (targets, { count }) => diegoOf(targets).duplicateEvents(count),
  ),
  kind(
    "bbs-reverse-events",
    "holds the next events back, then sends them in reverse; happens once",
    z.strictObject({ count: COUNT }),
    (targets, { count }) => diegoOf(targets).reverseEvents(count),
  ),
  kind(
    "bbs-odd-event",
    "sends an event that can't be used; happens once",
    z.strictObject({
      event: z
        .enum(["unknown", "broken-protobuf", "broken-base64", "empty", "hollow"])
        .default("unknown")
        .describe("what is odd about it"),
    }),
    (targets, { event }) => sendOddEvent(diegoOf(targets), event),
  ),
  kind(
    "cell-evacuation",
    "moves the instances of a cell to the other one; happens once",
    z.strictObject({ cell: CELL }),
    (targets, { cell }) => diegoOf(targets).evacuateCell(cell),
  ),
  kind(
    "cell-suspect",
    "Diego loses sight of a cell: its instances are replaced, and serve as suspects; happens once",
    z.strictObject({ cell: CELL }),
    (targets, { cell }) => diegoOf(targets).suspectCell(cell),
  ),
  onInstance("instance-evacuation", "moves an instance to the other cell; happens once", (diego, guid, index) =>
    diego.evacuate(guid, index),
  ),
  onInstance("instance-suspect", "Diego loses sight of an instance; happens once", (diego, guid, index) =>
    diego.suspect(guid, index),
  ),
  onInstance("instance-crash", "kills an instance; happens once", (diego, guid, index) => diego.crash(guid, index)),
  onInstance("instance-unroutable", "the readiness check of an instance fails", (diego, guid, index) => {
    diego.setRoutable(guid, index, false);
    return () => diego.setRoutable(guid, index, true);
  }),
  onInstance(
    "instance-host-port-0",
    "an instance shows no host ports, as without unproxied ports; happens once",
    (diego, guid, index) => diego.hideHostPorts(guid, index),
  ),
  kind("nats-silence", "nothing is registered any more, with the connection to NATS open", NONE, (targets) => {
    emitterOf(targets).silence(true);
    return () => emitterOf(targets).silence(false);
  }),
  kind(
    "nats-duplicates",
    "sends each of the next registrations twice; happens once",
    z.strictObject({ count: COUNT }),
    (targets, { count }) => emitterOf(targets).duplicateNext(count),
  ),
  kind(
    "nats-reverse",
    "holds the next registrations back, then sends them in reverse; when cleared, at once",
    z.strictObject({ count: COUNT }),
    (targets, { count }) => {
      emitterOf(targets).reverseNext(count);
      return () => emitterOf(targets).reverseNext(0);
    },
  ),
  kind("nats-disconnect", "the foundation has no connection to NATS", NONE, async (targets) => {
    await emitterOf(targets).cut();
    return () => emitterOf(targets).mend();
  }),
  kind("routing-api-cut-streams", "ends every event stream of the routing API; happens once", NONE, (targets) => {
    targets.routingApi.cutStreams();
  }),
  kind(
    "routing-api-stall",
    "the routing API's event streams say nothing more, with connections open; what they miss is never told",
    NONE,
    (targets) => {
      targets.routingApi.stall();
      return () => targets.routingApi.resume();
    },
  ),
  kind(
    "routing-api-odd-event",
    "the routing API's event streams send an event that can't be used; happens once",
    z.strictObject({
      event: z.enum(["unknown", "no-json", "bad-route", "huge"]).default("unknown").describe("what is odd about it"),
    }),
    (targets, { event }) => targets.routingApi.sendOdd(event),
  ),
];

type Ends = EndFault | void; // eslint-disable-line @typescript-eslint/no-invalid-void-type -- a fault that happens once returns nothing

function kind<Schema extends z.ZodObject>(
  name: string,
  description: string,
  parameters: Schema,
  inject: (targets: FaultTargets, parameters: z.output<Schema>) => Ends | Promise<Ends>,
): FaultKind {
  return {
    name,
    description,
    parameters,
    async inject(targets, given) {
      const end = await inject(targets, parameters.parse(given));
      return end ?? undefined;
    },
  };
}

function http<Schema extends typeof REQUESTS>(
  name: string,
  description: string,
  parameters: Schema,
  fault: (parameters: z.output<Schema>) => Fault,
): FaultKind {
  return kind(name, description, parameters, (targets, given) => {
    const { path, method, times } = given as z.output<typeof REQUESTS>;
    const injected = targets.injectHttp({
      path: path.endsWith("*") ? beginningWith(path.slice(0, -1)) : path,
      ...(method !== undefined && { method }),
      ...(times !== undefined && { times }),
      fault: fault(given),
    });
    return () => injected.clear();
  });
}

function beginningWith(text: string): RegExp {
  return new RegExp(`^${text.replaceAll(/[\\^$.*+?()[\]{}|]/g, "\\$&")}`);
}

function onInstance(
  name: string,
  description: string,
  inject: (diego: DiegoFaults, lrpProcessGuid: string, index: number) => Ends,
): FaultKind {
  return kind(name, description, INSTANCE, (targets, { app, process, index }) =>
    inject(diegoOf(targets), targets.lrpProcessGuid(app, process), index),
  );
}

function sendOddEvent(diego: DiegoFaults, event: string): void {
  switch (event) {
    case "broken-protobuf":
      diego.sendBrokenProtobuf();
      return;
    case "broken-base64":
      diego.sendBrokenBase64();
      return;
    case "empty":
      diego.sendEmptyEvent();
      return;
    case "hollow":
      diego.sendHollowEvent();
      return;
    default:
      diego.sendUnknownEvent();
  }
}

function diegoOf({ diego }: FaultTargets): DiegoFaults {
  if (diego === undefined) throw new Error("this foundation has no BBS");
  return diego;
}

function emitterOf({ emitter }: FaultTargets): EmitterFaults {
  if (emitter === undefined) throw new Error("this foundation has no NATS");
  return emitter;
}
