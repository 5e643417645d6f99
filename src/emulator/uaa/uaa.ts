/** The emulated UAA: logs users and clients in, and gives them real tokens. */
import { randomBytes, randomUUID } from "node:crypto";
import formbody from "@fastify/formbody";
import type { FastifyInstance, FastifyRequest } from "fastify";
import type { JWTPayload } from "jose";
import { z } from "zod";
import type { Clock } from "../../lib/clock.js";
import { TokenKeys } from "./tokens.js";

export interface UaaUser {
  readonly name: string;
  readonly password: string;
  readonly scopes: readonly string[];
}

export interface UaaClient {
  readonly id: string;
  readonly secret: string;
  /** What its own tokens allow. A client without any only logs users in, as "cf" does. */
  readonly authorities: readonly string[];
}

export interface UaaOptions {
  readonly clock: Clock;
  readonly users: readonly UaaUser[];
  readonly clients: readonly UaaClient[];
  /** Where clients reach it; the issuer is this and "/oauth/token". */
  readonly url: () => string;
  /** How long access tokens live from now on. */
  readonly tokenLifetimeSeconds: () => number;
}

export interface Uaa {
  /** Claims of a valid access token; undefined for any other text. */
  verify(token: string): Promise<JWTPayload | undefined>;
  /** A token of an administrator, who need not be among the users. */
  adminToken(lifetimeSeconds: number): Promise<string>;
  /** Makes every access token that is out invalid. Refresh tokens stay. */
  revokeTokens(): Promise<void>;
}

export const ADMIN_SCOPES: readonly string[] = [
  "cloud_controller.admin",
  "cloud_controller.read",
  "cloud_controller.write",
  "network.admin",
  "openid",
];
const ADMINISTRATOR: Pick<UaaUser, "name" | "scopes"> = { name: "admin", scopes: ADMIN_SCOPES };

const PROMPTS = {
  username: ["text", "Email"],
  password: ["password", "Password"],
  passcode: ["password", "Temporary Authentication Code"],
};

const formSchema = z.record(z.string(), z.string()).catch({});
type Form = Readonly<Record<string, string>>;

interface Session {
  readonly user: Pick<UaaUser, "name" | "scopes">;
  readonly clientId: string;
}

type Refusal = { readonly status: number; readonly error: string; readonly description: string };
const BAD_CREDENTIALS: Refusal = { status: 401, error: "unauthorized", description: "Bad credentials" };
const INVALID_CLIENT: Refusal = { status: 401, error: "invalid_client", description: "Bad credentials" };

/** Adds UAA's paths to a server that does not listen yet. */
export async function serveUaa(root: FastifyInstance, options: UaaOptions): Promise<Uaa> {
  const keys = await TokenKeys.create(options.clock);
  const sessions = new Map<string, Session>();
  const issue = (identity: Identity, lifetimeSeconds: number) =>
    keys.sign(claimsOf(identity, options, lifetimeSeconds));

  await root.register(async (server) => {
    await server.register(formbody);
    server.get("/login", () => ({
      app: { version: "77.0.0" },
      links: { uaa: options.url(), login: options.url() },
      zone_name: "uaa",
      entityID: "cf-mesh",
      prompts: PROMPTS,
      timestamp: new Date(options.clock.now()).toISOString(),
    }));
    server.get("/token_keys", () => ({ keys: [keys.published] }));
    server.post("/oauth/token", async (request, reply) => {
      const granted = grant(request, options, sessions);
      if ("error" in granted) {
        return reply.status(granted.status).send({ error: granted.error, error_description: granted.description });
      }
      const lifetimeSeconds = options.tokenLifetimeSeconds();
      return {
        access_token: await issue(granted, lifetimeSeconds),
        token_type: "bearer",
        ...(granted.kind === "user" ? { refresh_token: openSession(sessions, granted) } : {}),
        expires_in: lifetimeSeconds,
        scope: scopesOf(granted).join(" "),
        jti: granted.tokenId,
      };
    });
  });

  return {
    verify: (token) => keys.verify(token, issuerOf(options)),
    adminToken: (lifetimeSeconds) => issue(userIdentity(ADMINISTRATOR, "cf", "password"), lifetimeSeconds),
    revokeTokens: () => keys.replace(),
  };
}

type Identity = { readonly tokenId: string; readonly clientId: string; readonly grantType: string } & (
  | { readonly kind: "user"; readonly user: Pick<UaaUser, "name" | "scopes"> }
  | { readonly kind: "client"; readonly authorities: readonly string[] }
);

function userIdentity(
  user: Pick<UaaUser, "name" | "scopes">,
  clientId: string,
  grantType: string,
): Identity & { kind: "user" } {
  return { kind: "user", user, clientId, grantType, tokenId: randomUUID() };
}

function grant(request: FastifyRequest, options: UaaOptions, sessions: Map<string, Session>): Identity | Refusal {
  const form = formSchema.parse(request.body);
  const grantType = form["grant_type"] ?? "";
  const client = authenticateClient(request, form, options.clients);
  if (client === undefined) return INVALID_CLIENT;
  switch (grantType) {
    case "password": {
      const user = options.users.find((one) => one.name === form["username"] && one.password === form["password"]);
      return user === undefined ? BAD_CREDENTIALS : userIdentity(user, client.id, grantType);
    }
    case "client_credentials":
      return client.authorities.length === 0
        ? { status: 401, error: "unauthorized_client", description: `Unauthorized grant type: ${grantType}` }
        : { kind: "client", clientId: client.id, authorities: client.authorities, grantType, tokenId: randomUUID() };
    case "refresh_token": {
      const token = form["refresh_token"] ?? "";
      const session = sessions.get(token);
      if (session?.clientId !== client.id) {
        return { status: 401, error: "invalid_token", description: "The refresh token is not known." };
      }
      sessions.delete(token);
      return userIdentity(session.user, client.id, grantType);
    }
    default:
      return {
        status: 400,
        error: "unsupported_grant_type",
        description: `Unsupported grant type: ${grantType}`,
      };
  }
}

/** By Basic authentication, or by client_id and client_secret in the form. */
function authenticateClient(request: FastifyRequest, form: Form, clients: readonly UaaClient[]): UaaClient | undefined {
  const [, encoded] = /^basic\s+(\S*)$/i.exec(request.headers.authorization ?? "") ?? [];
  const basic = encoded === undefined ? undefined : Buffer.from(encoded, "base64").toString("utf8");
  const colon = basic?.indexOf(":") ?? -1;
  const id = basic === undefined ? form["client_id"] : decode(basic.slice(0, colon));
  const secret = basic === undefined ? (form["client_secret"] ?? "") : decode(basic.slice(colon + 1));
  return clients.find((client) => client.id === id && client.secret === secret);
}

/** OAuth asks for percent-encoded credentials, most clients send them as they are. */
function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function openSession(sessions: Map<string, Session>, identity: Identity & { kind: "user" }): string {
  const token = `${randomBytes(16).toString("hex")}-r`;
  sessions.set(token, { user: identity.user, clientId: identity.clientId });
  return token;
}

function scopesOf(identity: Identity): readonly string[] {
  return identity.kind === "user" ? identity.user.scopes : identity.authorities;
}

function issuerOf(options: UaaOptions): string {
  return `${options.url()}/oauth/token`;
}

function claimsOf(identity: Identity, options: UaaOptions, lifetimeSeconds: number): JWTPayload {
  const issuedAt = Math.floor(options.clock.now() / 1000);
  const scope = scopesOf(identity);
  const common = {
    jti: identity.tokenId,
    scope,
    client_id: identity.clientId,
    cid: identity.clientId,
    azp: identity.clientId,
    grant_type: identity.grantType,
    rev_sig: "cf-mesh",
    iat: issuedAt,
    exp: issuedAt + lifetimeSeconds,
    iss: issuerOf(options),
    zid: "uaa",
    aud: [...new Set([identity.clientId, ...scope.map((name) => name.replace(/\.[^.]*$/, ""))])],
  };
  // The CLI tells clients from users by user_name, which clients must not have.
  if (identity.kind === "client") return { ...common, sub: identity.clientId, authorities: scope };
  const { name } = identity.user;
  return {
    ...common,
    sub: userGuid(name),
    user_id: userGuid(name),
    user_name: name,
    email: name,
    origin: "uaa",
    auth_time: issuedAt,
  };
}

/** The same at each start, so that what was stored with it stays true. */
function userGuid(name: string): string {
  return `user-${Buffer.from(name).toString("hex")}`;
}
