/** The emulated Cloud Controller: its v3 API over HTTP, with what it tells Diego. */
import type { FastifyInstance } from "fastify";
import type { Clock } from "../../lib/clock.js";
import { asError } from "../../lib/errors.js";
import type { Logger } from "../../lib/logger.js";
import type { Diego } from "../diego/diego.js";
import type { Api, BetweenPages } from "./api.js";
import { serveApps } from "./apps.js";
import { serveAuditEvents } from "./audit-events.js";
import { requireToken, type VerifyToken } from "./authentication.js";
import { serveDeployments } from "./deployments.js";
import { serveDestinations } from "./destinations.js";
import { serveDomains } from "./domains.js";
import { serveDroplets } from "./droplets.js";
import { ApiError, unknownError } from "./errors.js";
import { serveFeatureFlags } from "./feature-flags.js";
import { serveJobs } from "./jobs.js";
import { Launcher } from "./launcher.js";
import { emptyList } from "./list.js";
import { serveOrganizations } from "./organizations.js";
import { serveProcesses } from "./processes.js";
import { limitRate, type RateLimit } from "./rate-limit.js";
import { serveRoles } from "./roles.js";
import { serveRoot } from "./root.js";
import { serveRoutes } from "./routes.js";
import { serveSpaces } from "./spaces.js";
import { Store } from "./store.js";

export interface CloudControllerOptions {
  readonly diego: Diego;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly verifyToken: VerifyToken;
  readonly url: () => string;
  readonly uaaUrl: () => string;
  readonly rateLimit: () => RateLimit | undefined;
  readonly betweenPages: BetweenPages;
}

/** Adds the API's paths to a server that does not listen yet. The caller closes the Api's launcher. */
export async function serveCloudController(root: FastifyInstance, options: CloudControllerOptions): Promise<Api> {
  const { clock, url, uaaUrl, betweenPages } = options;
  const store = new Store();
  const api: Api = { store, launcher: new Launcher(store, options.diego, url), clock, url, uaaUrl, betweenPages };
  await root.register((server, _options, done) => {
    readBodiesAsText(server);
    requireToken(server, options.verifyToken);
    limitRate(server, clock, options.rateLimit);
    answerErrors(server, options.logger);
    serveRoot(server, api);
    serveOrganizations(server, api);
    serveSpaces(server, api);
    serveDomains(server, api);
    serveRoutes(server, api);
    serveDestinations(server, api);
    serveApps(server, api);
    serveDroplets(server, api);
    serveProcesses(server, api);
    serveDeployments(server, api);
    serveJobs(server, api);
    serveAuditEvents(server, api);
    serveRoles(server, api);
    serveFeatureFlags(server, api);
    // This foundation has no services; the CLI asks all the same.
    server.get("/v3/service_route_bindings", (request) => emptyList(api, request));
    done();
  });
  return api;
}

function readBodiesAsText(server: FastifyInstance): void {
  server.removeAllContentTypeParsers();
  server.addContentTypeParser("*", { parseAs: "string" }, (_request, body, done) => {
    done(null, body);
  });
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
