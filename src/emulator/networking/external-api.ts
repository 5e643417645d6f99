/**
 * The policy server's API for developers: {api}/networking/v1/external.
 *
 * Source   handlers of policy-server in cf-networking-release.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { Caller } from "../cloud-controller/api.js";
import type { VerifyToken } from "../cloud-controller/authentication.js";
import { bearerToken } from "../http/bearer-token.js";
import type { Policies, Policy } from "./policies.js";
import { idsOf, parsePolicies, presentPolicies } from "./policy-json.js";

export interface ExternalPolicyApiOptions {
  readonly policies: Policies;
  readonly verifyToken: VerifyToken;
  /** Whether a caller is a developer in the app's space; false for an app that does not exist. */
  readonly mayConnect: (caller: Caller, appGuid: string) => boolean;
}

const NETWORK_ADMIN = "network.admin";
const SCOPES = [NETWORK_ADMIN, "network.write"];
const BASE = "/networking/v1/external";
/** Of the source apps of one space's developer; administrators have none. */
const MAX_POLICIES_PER_SOURCE = 150;

interface Query {
  readonly id?: string;
  readonly source_id?: string;
  readonly dest_id?: string;
}

/** Adds the paths to a server that does not listen yet, and that reads bodies as text. */
export function serveExternalPolicyApi(server: FastifyInstance, options: ExternalPolicyApiOptions): void {
  const { policies, mayConnect } = options;
  const mayUse = (caller: Caller, { sourceId, destinationId }: Policy) =>
    isNetworkAdmin(caller) || [sourceId, destinationId].every((appGuid) => mayConnect(caller, appGuid));

  server.get<{ Querystring: Query }>(`${BASE}/policies`, async (request, reply) => {
    const caller = await authorize(request, reply, options, SCOPES);
    if (caller === undefined) return reply;
    return presentPolicies(chosen(policies, request.query).filter((policy) => mayUse(caller, policy)));
  });
  server.post(`${BASE}/policies`, async (request, reply) => {
    const given = await givenPolicies(request, reply, options, mayUse);
    if (given === undefined) return reply;
    const isOverQuota = (sourceId: string) =>
      policies.all().filter((policy) => policy.sourceId === sourceId).length >= MAX_POLICIES_PER_SOURCE;
    if (!isNetworkAdmin(given.caller) && given.policies.some(({ sourceId }) => isOverQuota(sourceId))) {
      return reply.status(403).send({ error: "policy quota exceeded" });
    }
    policies.create(given.policies);
    return {};
  });
  server.post(`${BASE}/policies/delete`, async (request, reply) => {
    const given = await givenPolicies(request, reply, options, mayUse);
    if (given === undefined) return reply;
    policies.delete(given.policies);
    return {};
  });
  server.get(`${BASE}/tags`, async (request, reply) => {
    const caller = await authorize(request, reply, options, [NETWORK_ADMIN]);
    return caller === undefined ? reply : { tags: policies.tags() };
  });
}

function chosen(policies: Policies, query: Query): readonly Policy[] {
  const ids = idsOf(query.id);
  if (ids.size > 0) return policies.matching({ sourceIds: ids, destinationIds: ids, both: false });
  const [sourceIds, destinationIds] = [idsOf(query.source_id), idsOf(query.dest_id)];
  if (sourceIds.size + destinationIds.size === 0) return policies.all();
  return policies.matching({ sourceIds, destinationIds, both: sourceIds.size > 0 && destinationIds.size > 0 });
}

/** The body's policies; undefined when the request has been refused. */
async function givenPolicies(
  request: FastifyRequest,
  reply: FastifyReply,
  options: ExternalPolicyApiOptions,
  mayUse: (caller: Caller, policy: Policy) => boolean,
): Promise<{ readonly caller: Caller; readonly policies: readonly Policy[] } | undefined> {
  const caller = await authorize(request, reply, options, SCOPES);
  if (caller === undefined) return undefined;
  const policies = parsePolicies(request.body);
  if ("error" in policies) {
    await reply.status(400).send(policies);
    return undefined;
  }
  if (!policies.every((policy) => mayUse(caller, policy))) {
    await reply.status(403).send({ error: "one or more applications cannot be found or accessed" });
    return undefined;
  }
  return { caller, policies };
}

/** undefined when the request has been refused. */
async function authorize(
  request: FastifyRequest,
  reply: FastifyReply,
  options: ExternalPolicyApiOptions,
  allowed: readonly string[],
): Promise<Caller | undefined> {
  if ((request.headers.authorization ?? "") === "") {
    await reply.status(401).send({ error: "missing authorization header" });
    return undefined;
  }
  const token = bearerToken(request);
  const caller = token === undefined ? undefined : await options.verifyToken(token);
  if (caller === undefined) {
    await reply.status(403).send({ error: "failed to verify token with uaa" });
    return undefined;
  }
  if (allowed.some((scope) => caller.scopes.has(scope))) return caller;
  const scopes = [...caller.scopes].join(" ");
  await reply.status(403).send({
    error: `provided scopes [${scopes}] do not include allowed scopes [${allowed.join(" ")}]`,
  });
  return undefined;
}

function isNetworkAdmin(caller: Caller): boolean {
  return caller.scopes.has(NETWORK_ADMIN);
}
