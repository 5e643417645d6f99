/**
 * The policy server's API for the platform's own parts, over mTLS: who may talk to whom, with tags.
 *
 * Source   handlers of policy-server-internal in cf-networking-release.
 */
import type { AddressInfo } from "node:net";
import { fastify } from "fastify";
import { z } from "zod";
import { asError, MeshError, systemCode } from "../../lib/errors.js";
import type { Certificates } from "../certificates.js";
import type { Policies } from "./policies.js";
import { idsOf, presentPolicies } from "./policy-json.js";

export interface InternalPolicyApi {
  /** "https://127.0.0.1:4003" */
  readonly url: string;
  close(): Promise<void>;
}

const BASE = "/networking/v1/internal";
const DNS_NAME = "policy-server.service.cf.internal";

const groupSchema = z.object({ id: z.string().default(""), type: z.string().default("") });

/** Throws MESH_PORT_TAKEN when something else listens on the port; 0 takes a free one. */
export async function startInternalPolicyApi(
  host: string,
  port: number,
  certificates: Certificates,
  policies: Policies,
): Promise<InternalPolicyApi> {
  const { certificate, key } = await certificates.issue({
    commonName: DNS_NAME,
    dnsNames: [DNS_NAME, "localhost"],
    ipAddresses: ["127.0.0.1"],
    usages: ["server"],
  });
  const server = fastify({
    https: {
      ...{ ca: certificates.ca, cert: certificate, key },
      ...{ requestCert: true, rejectUnauthorized: true, minVersion: "TLSv1.2" },
    },
    forceCloseConnections: true,
  });

  server.get<{ Querystring: { id?: string } }>(`${BASE}/policies`, (request) => {
    const ids = idsOf(request.query.id);
    const shown =
      ids.size === 0 ? policies.all() : policies.matching({ sourceIds: ids, destinationIds: ids, both: false });
    return presentPolicies(shown, policies);
  });
  server.get(`${BASE}/policies_last_updated`, () => String(policies.lastUpdated));
  server.put(`${BASE}/tags`, (request, reply) => {
    const group = groupSchema.safeParse(request.body);
    if (!group.success) return reply.status(400).send({ error: "failed parsing request body" });
    const { id, type, tag } = policies.createTag(group.data.id, group.data.type);
    return reply.send({ ID: id, Type: type, Tag: tag });
  });
  // This foundation has no application security groups.
  server.get(`${BASE}/security_groups`, () => ({ next: 0, security_groups: [] }));

  try {
    await server.listen({ host, port });
  } catch (error) {
    if (systemCode(error) !== "EADDRINUSE") throw error;
    throw new MeshError(
      "MESH_PORT_TAKEN",
      `the emulated policy server can't listen on ${host}:${port}: something else does`,
      "stop what listens there, or choose another port",
      { cause: asError(error) },
    );
  }
  const address = server.server.address() as AddressInfo;
  return { url: `https://${host}:${address.port}`, close: () => server.close() };
}
