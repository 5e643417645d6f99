/** A foundation in one process: Cloud Controller and UAA on one HTTP listener, in front of a Diego. */
import { randomBytes, randomUUID } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fastify, type FastifyInstance } from "fastify";
import type { JWTPayload } from "jose";
import { type Clock, systemClock } from "../lib/clock.js";
import { asError, MeshError, systemCode } from "../lib/errors.js";
import type { Logger } from "../lib/logger.js";
import type { Api, BetweenPages, Caller } from "./cloud-controller/api.js";
import { assignDroplet, copyDroplet, createApp, startApp } from "./cloud-controller/app-actions.js";
import { newResource } from "./cloud-controller/api.js";
import { serveCloudController } from "./cloud-controller/cloud-controller.js";
import { createDomain } from "./cloud-controller/domains.js";
import { unknownRequest } from "./cloud-controller/errors.js";
import { createOrganization } from "./cloud-controller/organizations.js";
import { scaleProcess } from "./cloud-controller/processes.js";
import type { RateLimit } from "./cloud-controller/rate-limit.js";
import { createSpace } from "./cloud-controller/spaces.js";
import type { Certificates } from "./certificates.js";
import { CONTROL_PATH, newControlToken } from "./control/control-api.js";
import type { Diego } from "./diego/diego.js";
import type { DiegoFaults } from "./diego/faults.js";
import type { LrpFeed } from "./diego/lrp-feed.js";
import { ClientUrls } from "./http/client-urls.js";
import { type FaultRule, HttpFaults, type InjectedFault } from "./http/faults.js";
import { logRequests, RequestLog } from "./http/request-log.js";
import { FoundationFiles } from "./persistence/foundation-files.js";
import { captureState, restoreState, withSamples } from "./persistence/foundation-state.js";
import { Saver } from "./persistence/saver.js";
import type { NatsOptions } from "./route-emitter/nats-link.js";
import type { EmitterFaults } from "./route-emitter/route-emitter.js";
import type { RoutingApiFaults } from "./routing-api/event-streams.js";
import { serveSurroundings } from "./surroundings.js";
import { ADMIN_SCOPES, serveUaa, type Uaa, type UaaClient, type UaaUser, userGuid } from "./uaa/uaa.js";

export interface SampleDroplet {
  /** As in "hello". */
  readonly name: string;
  /** Program and arguments. */
  readonly command: readonly string[];
  readonly workingDirectory: string;
}

export interface FoundationOptions {
  readonly host?: string;
  /** 0 for a free one. */
  readonly port?: number;
  /**
   * As in "sys.example.com": the foundation registers api., uaa., login. and log-cache. of it over NATS. Requests that
   * come by such a name get hrefs with such names, and the port they came by; other requests get hrefs by address.
   */
  readonly systemDomain?: string;
  /** Port that routers serve the system domain on, as apps are told in VCAP_APPLICATION; left out: `port`. */
  readonly publicPort?: number;
  /** Shared HTTP domains. */
  readonly appDomains: readonly string[];
  /** With its records, routes of running instances are registered; with its faults, they can be injected over HTTP. */
  readonly diego: Diego & { readonly lrps?: LrpFeed; readonly faults?: DiegoFaults };
  /** Where routes are registered; left out: nowhere. It need not run yet. */
  readonly nats?: NatsOptions;
  /** For the policy server's internal API and the loggregator agent, which take mTLS only; left out: there is neither. */
  readonly certificates?: Certificates;
  /** Of the policy server's internal API; 0, or left out: a free one. */
  readonly policyServerPort?: number;
  /**
   * Where what users push, and all that Cloud Controller and UAA know, survives a restart. Left out: a folder of its own,
   * which goes at the end.
   */
  readonly dataDirectory?: string;
  readonly droplets?: readonly SampleDroplet[];
  /** Beside the foundation's own, and "cf". */
  readonly clients?: readonly UaaClient[];
  /** Left out: admin, with the password admin. */
  readonly users?: readonly UaaUser[];
  readonly logger: Logger;
  readonly clock?: Clock;
}

export interface PushOptions {
  readonly instances: number;
  /** By name; made when they do not exist. */
  readonly organization?: string;
  readonly space?: string;
}

export interface PushedApp {
  readonly name: string;
  readonly guid: string;
  readonly spaceGuid: string;
}

export interface FoundationFaults {
  inject(rule: FaultRule): InjectedFault;
  /** Ends all injected faults. */
  clear(): void;
  /** Called before each page but the first is read. */
  betweenPages: BetweenPages | undefined;
  /** How long access tokens live that are issued from now on. */
  tokenLifetimeSeconds: number;
  /** While set, counts the requests of all but admins, and refuses those above it. */
  rateLimit: RateLimit | undefined;
  /** Makes every access token that is out invalid. */
  revokeTokens(): Promise<void>;
  /** Of route-emitter; undefined without NATS. */
  readonly emitter: EmitterFaults | undefined;
  /** Of the routing API's event streams; its other answers fail as those of Cloud Controller do. */
  readonly routingApi: RoutingApiFaults;
}

export interface Foundation {
  /** By address, whatever the system domain. */
  readonly apiUrl: string;
  readonly uaaUrl: string;
  /** Of the policy server's internal API, as in "https://127.0.0.1:4003"; undefined without certificates. */
  readonly policyServerUrl: string | undefined;
  /** Where lines are taken for Log Cache, by gRPC: "127.0.0.1:3458"; undefined without certificates. */
  readonly loggregatorAddress: string | undefined;
  /** Whether an earlier run's state was found in the data directory. */
  readonly isRestored: boolean;
  /** A client that may read everything, and write nothing. */
  readonly clientId: string;
  readonly clientSecret: string;
  readonly faults: FoundationFaults;
  readonly requests: RequestLog;
  /** An admin's token for some hours, as the Authorization header wants it: "bearer ...". */
  adminToken(): Promise<string>;
  /**
   * An app with a copy of a sample droplet, started, by the code that serves the API. Resolves when Diego has accepted
   * it, not when it runs. An app of that name that exists gets the droplet and the instances.
   */
  pushSample(name: string, sample: string, options: PushOptions): Promise<PushedApp>;
  /** Unregisters all routes, saves the state, and ends the listener; Diego and what it runs are their owner's. */
  close(): Promise<void>;
}

const CLIENT_ID = "cf-mesh";
const ADMIN_TOKEN_LIFETIME_SECONDS = 12 * 3600;
const TOKEN_LIFETIME_SECONDS = 3600;
const BODY_LIMIT_BYTES = 256 * 1024 * 1024;
const READ_ALL = ["cloud_controller.global_auditor", "routing.router_groups.read"];
const ADMIN: UaaUser = { name: "admin", password: "admin", scopes: ADMIN_SCOPES };

/** Throws MESH_PORT_TAKEN when something else listens on the port, MESH_STATE_CORRUPT when an earlier state can't be read. */
export async function startFoundation(options: FoundationOptions): Promise<Foundation> {
  const clock = options.clock ?? systemClock;
  const host = options.host ?? "127.0.0.1";
  const { systemDomain } = options;
  const files = options.dataDirectory === undefined ? undefined : await FoundationFiles.open(options.dataDirectory);
  const clientSecret = files?.secrets?.clientSecret ?? randomBytes(24).toString("base64url");
  const urls = { own: "", public: "" };
  const clientUrls = new ClientUrls({ ownUrl: () => urls.own, systemDomain });
  const dataDirectory = options.dataDirectory ?? (await mkdtemp(join(tmpdir(), "cf-mesh-foundation-")));
  const users = options.users ?? [ADMIN];
  const httpFaults = new HttpFaults(CONTROL_PATH);
  const requests = new RequestLog();
  const server = fastify({ bodyLimit: BODY_LIMIT_BYTES, forceCloseConnections: true });
  logRequests(server, requests);
  nameRequests(server);
  httpFaults.install(server);
  clientUrls.install(server);
  server.setNotFoundHandler(async (_request, reply) => {
    await reply.status(404).send(unknownRequest().body);
  });

  // One object, so that a test's changes are seen at once.
  const faults: FoundationFaults = {
    inject: (rule) => httpFaults.inject(rule),
    clear: () => httpFaults.clear(),
    betweenPages: undefined,
    tokenLifetimeSeconds: TOKEN_LIFETIME_SECONDS,
    rateLimit: undefined,
    revokeTokens: () => uaa.revokeTokens(),
    get emitter() {
      return surroundings.emitterFaults;
    },
    get routingApi() {
      return surroundings.routingApiFaults;
    },
  };
  const uaa: Uaa = await serveUaa(server, {
    clock,
    users,
    clients: [
      { id: "cf", secret: "", authorities: [] },
      { id: CLIENT_ID, secret: clientSecret, authorities: READ_ALL },
      ...(options.clients ?? []),
    ],
    url: () => clientUrls.of("uaa"),
    issuer: () => (systemDomain === undefined ? urls.own : `http://uaa.${systemDomain}`),
    tokenLifetimeSeconds: () => faults.tokenLifetimeSeconds,
    ...(files?.secrets !== undefined && { saved: files.secrets.uaa }),
    onChange: () => saver?.changed(),
  });
  const verifyToken = async (token: string) => callerFrom(await uaa.verify(token));
  const api = await serveCloudController(server, {
    diego: options.diego,
    clock,
    logger: options.logger,
    verifyToken,
    url: () => clientUrls.of("api"),
    publicUrl: () => urls.public,
    uaaUrl: () => clientUrls.of("uaa"),
    loginUrl: () => clientUrls.of("login"),
    logCacheUrl: () => clientUrls.of("log-cache"),
    rateLimit: () => faults.rateLimit,
    betweenPages: (page) => faults.betweenPages?.(page),
    dataDirectory,
    users: () => users.map(({ name }) => ({ guid: userGuid(name), name })),
  });
  const { lrps, faults: diegoFaults } = options.diego;
  const controlToken = newControlToken();
  const surroundings = await serveSurroundings(server, {
    ...{ api, verifyToken, controlToken, lrps, diegoFaults, clock, logger: options.logger },
    nats: options.nats,
    certificates: options.certificates,
    policyServerPort: options.policyServerPort ?? 0,
    httpTargets: {
      injectHttp: (rule) => httpFaults.inject(rule),
      setRateLimit: (limit) => (faults.rateLimit = limit),
      setTokenLifetime: (seconds) => (faults.tokenLifetimeSeconds = seconds ?? TOKEN_LIFETIME_SECONDS),
      revokeTokens: () => uaa.revokeTokens(),
    },
  });
  const saver =
    files &&
    new Saver(async () => {
      const secrets = { version: 1 as const, clientSecret, uaa: await uaa.save() };
      await files.save(captureState(api.store, surroundings.policies), secrets);
    }, options.logger);
  const restored = files?.state && withSamples(files.state, options.droplets ?? []);
  if (restored !== undefined) restoreState(restored, api.store, surroundings.policies);
  furnish(api, options, restored === undefined);
  const unfollow = saver && whenChanged(server, api, lrps, () => saver.changed());

  async function close(): Promise<void> {
    httpFaults.clear();
    await surroundings.close();
    await server.close();
    await api.launcher.close();
    await api.stager.close();
    unfollow?.();
    await saver?.close();
    await files?.removeControl();
    if (options.dataDirectory === undefined) await rm(dataDirectory, { recursive: true, force: true });
  }
  try {
    await listen(server, host, options.port ?? 0);
    const { port } = server.server.address() as AddressInfo;
    urls.own = `http://${host}:${port}`;
    urls.public = systemDomain === undefined ? urls.own : `http://api.${systemDomain}:${options.publicPort ?? port}`;
    await surroundings.start(host, systemDomain === undefined ? undefined : { systemDomain, host, port });
    await files?.writeControl({ url: urls.own, token: controlToken });
  } catch (error) {
    await close();
    throw error;
  }
  saver?.changed();
  await startRestored(api, options.logger);
  await api.bits.sweep(new Set(api.store.packages.all().map(({ guid }) => guid)), api.store.droplets.all());
  options.logger.info({ apiUrl: urls.own }, "the emulated foundation is up");

  return {
    apiUrl: urls.own,
    uaaUrl: urls.own,
    policyServerUrl: surroundings.policyServerUrl,
    loggregatorAddress: surroundings.loggregatorAddress,
    isRestored: restored !== undefined,
    clientId: CLIENT_ID,
    clientSecret,
    faults,
    requests,
    adminToken: async () => `bearer ${await uaa.adminToken(ADMIN_TOKEN_LIFETIME_SECONDS)}`,
    pushSample: (name, sample, push) => pushSample(api, name, sample, push),
    close,
  };
}

async function listen(server: FastifyInstance, host: string, port: number): Promise<void> {
  try {
    await server.listen({ host, port });
  } catch (error) {
    if (systemCode(error) !== "EADDRINUSE") throw error;
    throw new MeshError(
      "MESH_PORT_TAKEN",
      `the emulated foundation can't listen on ${host}:${port}: something else does`,
      "stop what listens there, or choose another port",
      { cause: asError(error) },
    );
  }
}

/** X-VCAP-Request-ID: the client's, if it sent one, and ours. */
function nameRequests(server: FastifyInstance): void {
  server.addHook("onRequest", (request, reply, done) => {
    const theirs = request.headers["x-vcap-request-id"];
    reply.header("x-vcap-request-id", [...(typeof theirs === "string" ? [theirs] : []), randomUUID()].join("::"));
    done();
  });
}

function callerFrom(claims: JWTPayload | undefined): Caller | undefined {
  if (claims === undefined) return undefined;
  const { user_name: userName, scope, sub = "" } = claims;
  const scopes = Array.isArray(scope) ? scope.filter((name) => typeof name === "string") : [];
  return { guid: sub, name: typeof userName === "string" ? userName : sub, scopes: new Set(scopes) };
}

/** Calls `onChange` after whatever may have changed the state, until the returned function is called. */
function whenChanged(server: FastifyInstance, api: Api, lrps: LrpFeed | undefined, onChange: () => void): () => void {
  server.addHook("onResponse", (request, _reply, done) => {
    if (request.method !== "GET" && request.method !== "HEAD") onChange();
    done();
  });
  api.store.onChange(onChange);
  // Deployments end when their instances run.
  const unfollow = lrps?.follow(onChange);
  return () => {
    unfollow?.();
    api.store.onChange(() => undefined);
  };
}

/** Apps that were started run again, in the version that they had. */
async function startRestored(api: Api, logger: Logger): Promise<void> {
  for (const app of api.store.apps.all()) {
    if (app.state !== "STARTED") continue;
    for (const process of api.store.processesOfApp(app.guid)) {
      await api.launcher.refresh(process).catch((error: unknown) => {
        logger.warn({ app: app.name, process: process.type, error: asError(error).message }, "could not start an app");
      });
    }
  }
}

/** What is there from the start: an organization and a space, unless there were others before; domains and droplets. */
function furnish(api: Api, options: FoundationOptions, isNew: boolean): void {
  const { store } = api;
  if (isNew) createSpace(api, "dev", createOrganization(api, "laptop").guid);
  for (const name of options.appDomains) if (store.domainsNamed(name).length === 0) createDomain(api, { name });
  for (const droplet of options.droplets ?? []) {
    if (store.droplets.all().some(({ appGuid, name }) => appGuid === null && name === droplet.name)) continue;
    const resource = newResource(api);
    resource.metadata.labels["sample"] = droplet.name;
    api.store.droplets.add({
      ...resource,
      appGuid: null,
      packageGuid: null,
      name: droplet.name,
      detectOutput: null,
      processTypes: { web: droplet.command },
      workingDirectory: droplet.workingDirectory,
      path: [],
    });
  }
}

const PUSHER: Caller = { guid: "cf-mesh", name: "cf-mesh", scopes: new Set(["cloud_controller.admin"]) };

async function pushSample(api: Api, name: string, sample: string, options: PushOptions): Promise<PushedApp> {
  const { store } = api;
  const droplet = store.droplets.all().find((one) => one.appGuid === null && one.name === sample);
  if (droplet === undefined) throw new Error(`the emulated foundation has no sample droplet "${sample}"`);
  const organizationName = options.organization ?? "laptop";
  const spaceName = options.space ?? "dev";
  const organization =
    store.organizations.all().find((one) => one.name === organizationName) ?? createOrganization(api, organizationName);
  const space =
    store.spacesOfOrganization(organization.guid).find((one) => one.name === spaceName) ??
    createSpace(api, spaceName, organization.guid);
  const app =
    store.appsOfSpace(space.guid).find((one) => one.name === name) ??
    createApp(api, PUSHER, { name, spaceGuid: space.guid });
  assignDroplet(api, PUSHER, app, copyDroplet(api, droplet, app).guid);
  const web = store.process(app.guid, "web");
  if (web !== undefined) await scaleProcess(api, PUSHER, web, { instances: options.instances });
  await startApp(api, PUSHER, app);
  return { name, guid: app.guid, spaceGuid: space.guid };
}
