/** The emulated UAA: logs users and clients in, and gives them real tokens. */
import { randomBytes, randomUUID } from "node:crypto";
import formbody from "@fastify/formbody";
import type { FastifyInstance, FastifyRequest } from "fastify";
import type { JWTPayload } from "jose";
import { z } from "zod";
import type { Clock } from "../../lib/clock.js";
import { type SavedKey, TokenKeys } from "./tokens.js";

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
  /** Where the client reaches it whose request is being served. */
  readonly url: () => string;
  /** The name that tokens carry: the same whichever way a client came. */
  readonly issuer: () => string;
  /** How long access tokens live from now on. */
  readonly tokenLifetimeSeconds: () => number;
  /** Of an earlier run. Throws when its key is none. */
  readonly saved?: UaaState;
  /** Called when what `save` returns has changed. */
  readonly onChange?: () => void;
}

/** What stays over a restart, so that those who are logged in stay so. All of it is secret. */
export interface UaaState {
  readonly signingKey: SavedKey;
  readonly sessions: readonly {
    readonly refreshToken: string;
    readonly clientId: string;
    readonly user: Pick<UaaUser, "name" | "scopes">;
  }[];
}

export interface Uaa {
  /** Claims of a valid access token; undefined for any other text. */
  verify(token: string): Promise<JWTPayload | undefined>;
  /** A token of an administrator, who need not be among the users. */
  adminToken(lifetimeSeconds: number): Promise<string>;
  /** Makes every access token that is out invalid. Refresh tokens stay. */
  revokeTokens(): Promise<void>;
  save(): Promise<UaaState>;
}

/** The oldest one ends when there are more. */
const MAX_SESSIONS = 1_000;

export const ADMIN_SCOPES: readonly string[] = [
  "cloud_controller.admin",
  "cloud_controller.read",
  "cloud_controller.write",
  "doppler.firehose",
  "network.admin",
  "openid",
  "routing.router_groups.read",
  "routing.router_groups.write",
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
  const { saved, onChange = () => undefined } = options;
  const keys = await TokenKeys.create(options.clock, saved?.signingKey);
  const sessions = new Map<string, Session>(
    saved?.sessions.map(({ refreshToken, ...session }) => [refreshToken, session]),
  );
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
      const refreshToken = granted.kind === "user" ? openSession(sessions, granted) : undefined;
      if (refreshToken !== undefined) onChange();
      return {
        access_token: await issue(granted, lifetimeSeconds),
        token_type: "bearer",
        ...(refreshToken === undefined ? {} : { refresh_token: refreshToken }),
        expires_in: lifetimeSeconds,
        scope: scopesOf(granted).join(" "),
        jti: granted.tokenId,
      };
    });
  });

  return {
    verify: (token) => keys.verify(token, issuerOf(options)),
    adminToken: (lifetimeSeconds) => issue(userIdentity(ADMINISTRATOR, "cf", "password"), lifetimeSeconds),
    async revokeTokens() {
      await keys.replace();
      onChange();
    },
    save: async () => ({
      signingKey: await keys.save(),
      sessions: [...sessions].map(([refreshToken, session]) => ({ refreshToken, ...session })),
    }),
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
  const { name, scopes } = identity.user;
  sessions.set(token, { user: { name, scopes }, clientId: identity.clientId });
  const [oldest] = sessions.keys();
  if (oldest !== undefined && sessions.size > MAX_SESSIONS) sessions.delete(oldest);
  return token;
}

function scopesOf(identity: Identity): readonly string[] {
  return identity.kind === "user" ? identity.user.scopes : identity.authorities;
}

function issuerOf(options: UaaOptions): string {
  return `${options.issuer()}/oauth/token`;
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
export function userGuid(name: string): string {
  return `user-${Buffer.from(name).toString("hex")}`;
}
