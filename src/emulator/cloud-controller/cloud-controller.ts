/** The emulated Cloud Controller: its v3 API over HTTP, with what it tells Diego. */
import type { FastifyInstance } from "fastify";
import type { Clock } from "../../lib/clock.js";
import { asError } from "../../lib/errors.js";
import type { Logger } from "../../lib/logger.js";
import type { Diego } from "../diego/diego.js";
import type { Api, BetweenPages, User } from "./api.js";
import { serveAbsent } from "./absent.js";
import { serveAppEnvironment } from "./app-environment.js";
import { serveApps } from "./apps.js";
import { serveAuditEvents } from "./audit-events.js";
import { Bits } from "./bits.js";
import { serveBuilds } from "./builds.js";
import { requireToken, type VerifyToken } from "./authentication.js";
import { readBodiesAsText } from "./body.js";
import { serveDeployments } from "./deployments.js";
import { serveDestinations } from "./destinations.js";
import { serveDomains } from "./domains.js";
import { serveDroplets } from "./droplets.js";
import { ApiError, unknownError } from "./errors.js";
import { serveFeatureFlags } from "./feature-flags.js";
import { serveJobs } from "./jobs.js";
import { Launcher } from "./launcher.js";
import { serveManifests } from "./manifests.js";
import { serveOrganizations } from "./organizations.js";
import { servePackages } from "./packages.js";
import { servePlatform } from "./platform.js";
import { serveProcesses } from "./processes.js";
import { limitRate, type RateLimit } from "./rate-limit.js";
import { serveRoles } from "./roles.js";
import { serveRoot } from "./root.js";
import { serveRouteBindings } from "./route-bindings.js";
import { serveRoutePolicies } from "./route-policies.js";
import { serveRoutes } from "./routes.js";
import { serveServiceInstances } from "./service-instances.js";
import { serveSpaces } from "./spaces.js";
import { Stager } from "../staging/stager.js";
import { Store } from "./store.js";
import { serveUsers } from "./users.js";

export interface CloudControllerOptions {
  readonly diego: Diego;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly verifyToken: VerifyToken;
  /** As the client of the request that is being served reaches it. */
  readonly url: () => string;
  /** As apps are told: VCAP_APPLICATION's cf_api. */
  readonly publicUrl: () => string;
  readonly uaaUrl: () => string;
  readonly loginUrl: () => string;
  readonly logCacheUrl: () => string;
  readonly rateLimit: () => RateLimit | undefined;
  readonly betweenPages: BetweenPages;
  readonly users: () => readonly User[];
  /** For packages and droplets. */
  readonly dataDirectory: string;
}

/** Adds the API's paths to a server that does not listen yet. The caller closes the Api's launcher and stager. */
export async function serveCloudController(root: FastifyInstance, options: CloudControllerOptions): Promise<Api> {
  const { clock, url, publicUrl, uaaUrl, loginUrl, logCacheUrl, betweenPages } = options;
  const store = new Store();
  const api: Api = {
    store,
    launcher: new Launcher(store, options.diego, publicUrl),
    bits: new Bits(options.dataDirectory),
    stager: new Stager(),
    clock,
    logger: options.logger,
    logs: options.diego.logs,
    url,
    uaaUrl,
    loginUrl,
    logCacheUrl,
    betweenPages,
    users: options.users,
  };
  await root.register((server, _options, done) => {
    readBodiesAsText(server);
    requireToken(server, options.verifyToken);
    limitRate(server, clock, options.rateLimit);
    answerErrors(server, options.logger);
    serveRoot(server, api);
    serveOrganizations(server, api);
    serveSpaces(server, api);
    serveManifests(server, api);
    serveDomains(server, api);
    serveRoutes(server, api);
    serveDestinations(server, api);
    serveServiceInstances(server, api);
    serveRouteBindings(server, api);
    serveRoutePolicies(server, api);
    serveApps(server, api);
    servePackages(server, api);
    serveBuilds(server, api);
    serveDroplets(server, api);
    serveProcesses(server, api);
    serveDeployments(server, api);
    serveJobs(server, api);
    serveAuditEvents(server, api);
    serveRoles(server, api);
    serveFeatureFlags(server, api);
    serveUsers(server, api);
    servePlatform(server, api);
    serveAppEnvironment(server, api);
    serveAbsent(server, api);
    done();
  });
  return api;
}

function answerErrors(server: FastifyInstance, logger: Logger): void {
  server.setErrorHandler(async (thrown, request, reply) => {
    if (!(thrown instanceof ApiError)) {
      const { method, url } = request;
      logger.error({ method, url, error: asError(thrown).message }, "emulated Cloud Controller failed on a request");
    }
    const error = thrown instanceof ApiError ? thrown : unknownError();
    await reply.status(error.status).send(error.body);
  });
}
