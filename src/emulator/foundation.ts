/** A foundation in one process: Cloud Controller and UAA on one HTTP listener, in front of a Diego. */
import { randomBytes, randomUUID } from "node:crypto";
import type { AddressInfo } from "node:net";
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
import type { Diego } from "./diego/diego.js";
import { type FaultRule, HttpFaults, type InjectedFault } from "./http/faults.js";
import { logRequests, RequestLog } from "./http/request-log.js";
import { ADMIN_SCOPES, serveUaa, type Uaa, type UaaClient, type UaaUser } from "./uaa/uaa.js";

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
  /** Hrefs then say http://api.<systemDomain>:<port>; the domain has to lead to the host. */
  readonly systemDomain?: string;
  /** Shared HTTP domains. */
  readonly appDomains: readonly string[];
  readonly diego: Diego;
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
}

export interface Foundation {
  readonly apiUrl: string;
  readonly uaaUrl: string;
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
  /** Ends the listener; Diego and what it runs are their owner's. */
  close(): Promise<void>;
}

const CLIENT_ID = "cf-mesh";
const ADMIN_TOKEN_LIFETIME_SECONDS = 12 * 3600;
const TOKEN_LIFETIME_SECONDS = 3600;
const BODY_LIMIT_BYTES = 256 * 1024 * 1024;
const ADMIN: UaaUser = { name: "admin", password: "admin", scopes: ADMIN_SCOPES };

/** Throws MESH_PORT_TAKEN when something else listens on the port. */
export async function startFoundation(options: FoundationOptions): Promise<Foundation> {
  const clock = options.clock ?? systemClock;
  const host = options.host ?? "127.0.0.1";
  const clientSecret = randomBytes(24).toString("base64url");
  const urls = { api: "", uaa: "" };
  const httpFaults = new HttpFaults();
  const requests = new RequestLog();
  const server = fastify({ bodyLimit: BODY_LIMIT_BYTES, forceCloseConnections: true });
  logRequests(server, requests);
  nameRequests(server);
  httpFaults.install(server);
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
  };
  const uaa: Uaa = await serveUaa(server, {
    clock,
    users: options.users ?? [ADMIN],
    clients: [
      { id: "cf", secret: "", authorities: [] },
      { id: CLIENT_ID, secret: clientSecret, authorities: ["cloud_controller.global_auditor"] },
      ...(options.clients ?? []),
    ],
    url: () => urls.uaa,
    tokenLifetimeSeconds: () => faults.tokenLifetimeSeconds,
  });
  const api = await serveCloudController(server, {
    diego: options.diego,
    clock,
    logger: options.logger,
    verifyToken: async (token) => callerFrom(await uaa.verify(token)),
    url: () => urls.api,
    uaaUrl: () => urls.uaa,
    rateLimit: () => faults.rateLimit,
    betweenPages: (page) => faults.betweenPages?.(page),
  });
  await listen(server, host, options.port ?? 0);
  const { port } = server.server.address() as AddressInfo;
  const { systemDomain } = options;
  urls.api = `http://${systemDomain === undefined ? host : `api.${systemDomain}`}:${port}`;
  urls.uaa = `http://${systemDomain === undefined ? host : `uaa.${systemDomain}`}:${port}`;
  furnish(api, options);
  options.logger.info({ apiUrl: urls.api }, "the emulated foundation is up");

  return {
    apiUrl: urls.api,
    uaaUrl: urls.uaa,
    clientId: CLIENT_ID,
    clientSecret,
    faults,
    requests,
    adminToken: async () => `bearer ${await uaa.adminToken(ADMIN_TOKEN_LIFETIME_SECONDS)}`,
    pushSample: (name, sample, push) => pushSample(api, name, sample, push),
    async close() {
      httpFaults.clear();
      await server.close();
      await api.launcher.close();
    },
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

/** What is there from the start: an organization, a space, domains and droplets. */
function furnish(api: Api, options: FoundationOptions): void {
  createSpace(api, "dev", createOrganization(api, "laptop").guid);
  for (const name of options.appDomains) createDomain(api, { name });
  for (const droplet of options.droplets ?? []) {
    const resource = newResource(api);
    resource.metadata.labels["sample"] = droplet.name;
    api.store.droplets.add({ ...resource, appGuid: null, ...droplet });
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
