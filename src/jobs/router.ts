/** The istio-router: an Envoy, and the agent that feeds it from the mesh log. */
import { mkdir } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { loggedHeaders } from "../access-log/logged-headers.js";
import { SEARCH_STEPS } from "../compile/filters.js";
import { CLUSTER_STAT_NAME, ROUTE_SERVICE_CLUSTER, SEARCH_FILTER } from "../compile/names.js";
import type { RouterConfig } from "../config/router.js";
import { bootstrap } from "../envoy/bootstrap/bootstrap.js";
import { type Envoy, superviseEnvoy } from "../envoy/envoy.js";
import { findEnvoy } from "../envoy/find-envoy.js";
import type { Logger } from "../lib/logger.js";
import { type MirrorStatus, openMirror } from "../log/mirror.js";
import { type RouteProblem, RoutingTable } from "../model/routing-table.js";
import { type ProxyStatus, serveXds, type XdsServer } from "../xds/server.js";
import { type AccessLog, type AccessLogStatus, startAccessLog } from "./access-log.js";
import { startAppLog } from "./app-log.js";
import { followAppTls } from "./app-tls.js";
import type { Credentials } from "./credentials.js";
import { followDownstreamTls } from "./downstream-tls.js";
import { readErrorPages } from "./error-pages.js";
import { httpOptions } from "./http-options.js";
import { instanceFilters } from "./instance-filters.js";
import type { OpenLog } from "./open-log.js";
import { meshResources } from "./mesh-resources.js";
import { type RouteServices, startRouteServices } from "./route-services.js";
import { routerMetrics } from "./router-metrics.js";
import { followWildcards, WildcardHosts } from "./wildcard-hosts.js";
import { sweepClusters } from "./sweep-clusters.js";
import { feedTable } from "./table-feed.js";

/** How many annotations that can't be followed are shown. */
const MAX_SHOWN_PROBLEMS = 100;

export interface RouterStatus {
  readonly node: string;
  /** Routes that can be reached from outside. */
  readonly routeCount: number;
  /** The newest write of the mesh log that the table holds. */
  readonly sequence: number;
  /** How the log is mirrored; undefined for a log of this machine alone. */
  readonly mirror: MirrorStatus | undefined;
  /** Envoy has confirmed a complete table: what it does not know does not exist. */
  readonly isReady: boolean;
  readonly isDraining: boolean;
  /** How many annotations of routes can't be followed, and the first of them. */
  readonly annotationProblemCount: number;
  readonly annotationProblems: readonly RouteProblem[];
  readonly envoy: { readonly isRunning: boolean; readonly failureCount: number };
  readonly proxies: readonly ProxyStatus[];
  /** What became of the records of requests; undefined where Envoy writes none. */
  readonly requestLog: AccessLogStatus | undefined;
}

export interface Router {
  readonly envoy: Envoy;
  readonly table: RoutingTable;
  readonly status: RouterStatus;
  /** Of its requests and its table, in Prometheus' text format. */
  metrics(): Promise<string>;
  /** The access log goes on in a new file: for whoever renamed the one before. */
  reopenAccessLog(): void;
  /**
   * Lets traffic move away, then stops: the health check fails, drainWaitMs later Envoy takes no more connections,
   * and it ends when its requests have, or after drainTimeMs. Then the agent.
   */
  stop(): Promise<void>;
  /** Ends the agent alone: Envoy goes on serving, for the next agent to take over. */
  detach(): Promise<void>;
}

/** Resolves when Envoy serves. */
export async function startRouter(
  config: RouterConfig,
  { log, isShared }: Pick<OpenLog, "isShared" | "log">,
  credentials: Credentials,
  logger: Logger,
): Promise<Router> {
  await mkdir(config.runDirectory, { recursive: true, mode: 0o700 });
  const { path: envoyPath } = await findEnvoy(config.envoyPath === undefined ? {} : { path: config.envoyPath });
  const appTls = await followAppTls(config.backends, config.runDirectory, credentials, logger);
  const tls = await followDownstreamTls(config.tls, config.runDirectory, credentials, logger);
  const errorPages = await readErrorPages(config.http.errorPages);
  const table = new RoutingTable({
    dialsTls: appTls !== undefined,
    algorithm: config.balancing.algorithm,
    ...(config.sharding && { sharding: config.sharding }),
  });
  const { maxAttempts, maxConnectionsPerBackend, azPreference, availabilityZone } = config.balancing;
  const wildcardHosts = new WildcardHosts();
  const resources = meshResources(table, wildcardHosts, {
    appTls,
    maxAttempts,
    requestTimeoutMs: config.http.requestTimeoutMs,
    backends: config.http.backends,
    maxConnectionsPerBackend,
    preferredZone: azPreference === "none" ? undefined : availabilityZone,
    clientDomains: config.tls?.domains.map(({ name }) => name) ?? [],
    routeServiceCluster: config.routeServices && ROUTE_SERVICE_CLUSTER,
  });
  const appLog = await startAppLog(config.accessLog, table, credentials, logger);
  const ending = new AbortController();
  const mirror =
    isShared && config.mirrorDirectory !== undefined
      ? await openMirror({
          directory: config.mirrorDirectory,
          log,
          staleAfterMs: config.staleAfterMs,
          logger,
        })
      : undefined;
  let xds: XdsServer | undefined;
  let requestLog: AccessLog | undefined;
  let routeServices: RouteServices | undefined;
  let running: Envoy | undefined;
  let sweeping = Promise.resolve();
  let isReady = false;
  let isDraining = false;
  let failureCount = 0;
  const metrics = routerMetrics(
    config.requestMetrics,
    () =>
      running && {
        routeCount: table.routeCount,
        // One that never had all of it is as far behind as can be.
        currentMs: mirror && (mirror.status.currentMs ?? 0),
        envoyPid: running.pid,
        admin: running.admin,
        requestLog: requestLog?.status,
      },
  );
  const feed = feedTable(
    table,
    mirror ?? log,
    ending.signal,
    logger,
    (groups) => {
      resources.invalidate(groups);
      appLog?.moved(groups);
      xds?.changed(groups);
    },
    metrics.countEndpoint,
  );

  const wildcards = followWildcards(wildcardHosts, table, (hosts) => xds?.changed(hosts));

  async function end(): Promise<void> {
    ending.abort();
    wildcards.stop();
    await Promise.all([feed.ended, sweeping]);
    await xds?.close();
    await requestLog?.close();
    await appLog?.close();
    await routeServices?.close();
    await mirror?.close();
  }

  try {
    // A proxy that asks before the table is complete would be told that what was not read yet is gone.
    await feed.complete;
    const xdsSocketPath = join(config.runDirectory, "xds.sock");
    const adminSocketPath = join(config.runDirectory, "admin.sock");
    const server = await serveXds({ socketPath: xdsSocketPath, types: resources.types, logger });
    xds = server;
    if (config.accessLog || config.requestMetrics.enabled) {
      requestLog = await startAccessLog({
        socketPath: join(config.runDirectory, "log.sock"),
        config: config.accessLog && {
          ...config.accessLog,
          extraHeaders: loggedHeaders(config.accessLog.extraHeaders, config.http.traceHeaders),
        },
        appLog,
        onRecord: metrics.count,
        onWildcard: wildcards.count,
        proxyProtocol: config.http.proxyProtocol,
        clusters: config.requestMetrics.routes > 0 || config.routeServices !== undefined || appLog !== undefined,
        logger,
      });
    }
    routeServices = await startRouteServices(config, table, credentials, logger);
    const envoy = await superviseEnvoy({
      runDirectory: config.runDirectory,
      envoyPath,
      adminSocketPath,
      bootstrap: bootstrap({
        nodeId: config.nodeId,
        listenAddress: config.listenAddress,
        listenPort: tls && config.tls?.disableHttp === true ? undefined : config.port,
        tls,
        adminSocketPath,
        xdsSocketPath,
        ...httpOptions(config.http, errorPages),
        search: { name: SEARCH_FILTER, steps: SEARCH_STEPS },
        clusterStatName: CLUSTER_STAT_NAME,
        instances: instanceFilters(config.stickySessions),
        routeServices: routeServices?.options,
        ...(requestLog && { accessLog: requestLog }),
      }),
      concurrency: config.concurrency ?? availableParallelism(),
      orphanTimeoutMs: config.orphanTimeoutMs,
      drainWaitMs: config.drainWaitMs,
      drainTimeMs: config.drainTimeMs,
      logger,
      onState({ kind }) {
        if (kind === "restarting" || kind === "keeper-lost") failureCount += 1;
      },
    });
    running = envoy;
    await envoy.whenReady(ending.signal);
    sweeping = sweepClusters(server, envoy.admin, config.sweepIntervalMs, ending.signal);
    return {
      envoy,
      table,
      get status() {
        const proxies = server.proxies();
        // It stays ready while Envoy comes back: what it answers until then is right, and health tells whether it does.
        isReady ||= proxies.some(({ types }) => types.some(({ wasComplete }) => wasComplete));
        return {
          node: config.nodeId,
          routeCount: table.routeCount,
          sequence: feed.sequence,
          mirror: mirror?.status,
          isReady,
          isDraining,
          annotationProblemCount: table.problemCount,
          annotationProblems: first(table.problems(), MAX_SHOWN_PROBLEMS),
          envoy: { isRunning: envoy.state.kind === "running", failureCount },
          proxies,
          requestLog: requestLog?.status,
        };
      },
      metrics: () => metrics.text(),
      reopenAccessLog: () => requestLog?.reopen(),
      async stop() {
        isDraining = true;
        await envoy.drain();
        await envoy.stop();
        await end();
      },
      async detach() {
        await envoy.detach();
        await end();
      },
    };
  } catch (error) {
    await end();
    throw error;
  }
}

function first<T>(items: Iterable<T>, most: number): readonly T[] {
  const found: T[] = [];
  for (const item of items) {
    if (found.length === most) break;
    found.push(item);
  }
  return found;
}
