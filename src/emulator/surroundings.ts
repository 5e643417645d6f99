/** What stands around Cloud Controller: Log Cache and what feeds it, policy server, routing API, route-emitter, and the door for faults. */
import type { FastifyInstance } from "fastify";
import type { Clock } from "../lib/clock.js";
import type { Logger } from "../lib/logger.js";
import type { Certificates } from "./certificates.js";
import type { Api, Caller } from "./cloud-controller/api.js";
import type { VerifyToken } from "./cloud-controller/authentication.js";
import { readBodiesAsText } from "./cloud-controller/body.js";
import { lrpProcessGuid } from "./cloud-controller/desired-process.js";
import { notFound, unprocessable } from "./cloud-controller/errors.js";
import { serveControlApi } from "./control/control-api.js";
import type { FaultTargets } from "./control/fault-kinds.js";
import type { DiegoFaults } from "./diego/faults.js";
import type { LrpFeed } from "./diego/lrp-feed.js";
import { serveLogCache } from "./log-cache/log-cache.js";
import { type EmulatedLoggregatorAgent, startLoggregatorAgent } from "./log-cache/loggregator-agent.js";
import { serveExternalPolicyApi } from "./networking/external-api.js";
import { type InternalPolicyApi, startInternalPolicyApi } from "./networking/internal-api.js";
import { Policies } from "./networking/policies.js";
import type { NatsOptions } from "./route-emitter/nats-link.js";
import { type EmitterFaults, type RouteEmitter, startRouteEmitter } from "./route-emitter/route-emitter.js";
import type { SystemRoutes } from "./route-emitter/route-registrar.js";
import { EventStreams, type RoutingApiFaults } from "./routing-api/event-streams.js";
import { HttpRoutes } from "./routing-api/http-routes.js";
import { serveRoutingApi } from "./routing-api/routing-api.js";
import { TcpRoutes } from "./routing-api/tcp-routes.js";

export interface SurroundingsOptions {
  readonly api: Api;
  readonly verifyToken: VerifyToken;
  readonly lrps: LrpFeed | undefined;
  readonly diegoFaults: DiegoFaults | undefined;
  readonly nats: NatsOptions | undefined;
  /** For the policy server's internal API and the loggregator agent; without them there is neither. */
  readonly certificates: Certificates | undefined;
  /** 0 for a free one. */
  readonly policyServerPort: number;
  readonly controlToken: string;
  readonly httpTargets: Pick<FaultTargets, "injectHttp" | "setRateLimit" | "setTokenLifetime" | "revokeTokens">;
  readonly clock: Clock;
  readonly logger: Logger;
}

export interface Surroundings {
  readonly policies: Policies;
  /** undefined until it has started, and without NATS. */
  readonly emitterFaults: EmitterFaults | undefined;
  readonly routingApiFaults: RoutingApiFaults;
  /** Of the policy server's internal API; undefined until it has started, and without certificates. */
  readonly policyServerUrl: string | undefined;
  /** Of the loggregator agent; likewise. */
  readonly loggregatorAddress: string | undefined;
  /** Starts what needs to know where the foundation listens. Throws MESH_PORT_TAKEN. */
  start(host: string, systemRoutes: SystemRoutes | undefined): Promise<void>;
  close(): Promise<void>;
}

const ALL_LOGS = [
  "cloud_controller.admin",
  "cloud_controller.admin_read_only",
  "cloud_controller.global_auditor",
  "doppler.firehose",
  "logs.admin",
];
const SPACE_READERS = ["space_auditor", "space_developer", "space_manager", "space_supporter"];
const POLICY_CLEANUP_INTERVAL_MS = 60_000;

/** Adds their paths to a server that does not listen yet. */
export async function serveSurroundings(root: FastifyInstance, options: SurroundingsOptions): Promise<Surroundings> {
  const { api, verifyToken, clock, logger } = options;
  const { store } = api;
  const policies = new Policies(clock);
  const tcpRoutes = new TcpRoutes(clock);
  const streams = new EventStreams();
  let emitter: RouteEmitter | undefined;
  let policyServer: InternalPolicyApi | undefined;
  let loggregatorAgent: EmulatedLoggregatorAgent | undefined;
  let cleanup: NodeJS.Timeout | undefined;

  const mayRead = (caller: Caller, appGuid: string) =>
    ALL_LOGS.some((scope) => caller.scopes.has(scope)) || hasSpaceRole(api, caller, appGuid, SPACE_READERS);

  await root.register(async (server) => {
    readBodiesAsText(server);
    serveLogCache(server, {
      ...{ logs: api.logs, clock, verifyToken, mayRead },
      appsOf: (caller) => store.apps.all().flatMap(({ guid }) => (mayRead(caller, guid) ? [guid] : [])),
      tagsOf: (appGuid) => tagsOf(api, appGuid),
    });
    serveExternalPolicyApi(server, {
      ...{ policies, verifyToken },
      mayConnect: (caller, appGuid) => hasSpaceRole(api, caller, appGuid, ["space_developer"]),
    });
    await serveRoutingApi(server, { tcpRoutes, httpRoutes: new HttpRoutes(clock), streams, verifyToken });
    await serveControlApi(server, {
      ...{ verifyToken, controlToken: options.controlToken },
      targets: {
        ...options.httpTargets,
        diego: options.diegoFaults,
        routingApi: streams,
        get emitter() {
          return emitter?.faults;
        },
        lrpProcessGuid: (app, processType) => findLrp(api, app, processType),
      },
    });
  });

  return {
    policies,
    routingApiFaults: streams,
    get emitterFaults() {
      return emitter?.faults;
    },
    get policyServerUrl() {
      return policyServer?.url;
    },
    get loggregatorAddress() {
      return loggregatorAgent?.address;
    },
    async start(host, systemRoutes) {
      const { nats, lrps, certificates, policyServerPort } = options;
      if (certificates !== undefined) {
        policyServer = await startInternalPolicyApi(host, policyServerPort, certificates, policies);
        loggregatorAgent = await startLoggregatorAgent(host, certificates, api.logs);
      }
      cleanup = setInterval(() => {
        policies.forget((appGuid) => store.apps.get(appGuid) === undefined);
      }, POLICY_CLEANUP_INTERVAL_MS);
      emitter = startRouteEmitter({
        ...{ tcpRoutes, logger },
        ...(nats !== undefined && { nats }),
        ...(lrps !== undefined && { lrps }),
        ...(systemRoutes !== undefined && { systemRoutes }),
      });
    },
    async close() {
      clearInterval(cleanup);
      await emitter?.close();
      await policyServer?.close();
      loggregatorAgent?.close();
    },
  };
}

/** Roles name their user by guid, or as the CLI does. */
function hasSpaceRole({ store }: Api, caller: Caller, appGuid: string, types: readonly string[]): boolean {
  const app = store.apps.get(appGuid);
  if (app === undefined) return false;
  const { organizationGuid } = store.spaces.require(app.spaceGuid);
  return store.roles
    .all()
    .filter(({ userGuid }) => userGuid === caller.guid || userGuid === caller.name)
    .some(
      (role) =>
        (role.spaceGuid === app.spaceGuid && types.includes(role.type)) ||
        (role.organizationGuid === organizationGuid && role.type === "organization_manager"),
    );
}

function tagsOf({ store }: Api, appGuid: string): Readonly<Record<string, string>> {
  const app = store.apps.get(appGuid);
  if (app === undefined) return {};
  const space = store.spaces.require(app.spaceGuid);
  const organization = store.organizations.require(space.organizationGuid);
  return {
    app_id: app.guid,
    app_name: app.name,
    space_id: space.guid,
    space_name: space.name,
    organization_id: organization.guid,
    organization_name: organization.name,
  };
}

function findLrp({ store }: Api, nameOrGuid: string, processType: string): string {
  const byGuid = store.apps.get(nameOrGuid);
  const found = byGuid === undefined ? store.apps.all().filter(({ name }) => name === nameOrGuid) : [byGuid];
  const [app] = found;
  if (app === undefined) throw notFound("App");
  if (found.length > 1) throw unprocessable(`several apps are named "${nameOrGuid}": say which one by its guid`);
  const process = store.process(app.guid, processType);
  if (process === undefined) throw notFound("Process");
  return lrpProcessGuid(process, process.version);
}
