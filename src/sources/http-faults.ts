/** What can go wrong with a server that is read over HTTP, in words for operators. */
import { MeshError, systemCode } from "../lib/errors.js";

/** What goes on while the platform can't be read. */
export const MEANWHILE = "the routes in the mesh log stay as they are, and it is tried again";

/** What to do about what a server refuses: it depends on what it was asked for. */
export interface Remedies {
  readonly refused: string;
  readonly rateLimited: string;
}

/** The platform wants us to wait; it is well otherwise. */
export class RateLimited extends MeshError {
  readonly retryAfterMs: number;

  constructor(server: string, what: string, retryAfterMs: number, { rateLimited }: Remedies) {
    super(
      "MESH_SOURCE_REFUSED",
      `${server}: ${what} answered 429, too many requests; it may be asked again in ${Math.ceil(retryAfterMs / 1000)} s, ` +
        "until then the routes in the mesh log stay as they are",
      rateLimited,
    );
    this.retryAfterMs = retryAfterMs;
  }
}

export function unreachable(server: string, what: string, cause: Error): MeshError {
  const code = systemCode(cause);
  const reason = [code, cause.message].filter((part) => part !== undefined && part !== "").join(": ");
  return new MeshError(
    "MESH_SOURCE_UNREACHABLE",
    `${server}: ${what} failed (${reason === "" ? cause.name : reason}); ${MEANWHILE}`,
    code !== undefined && /CERT|TLS|SELF_SIGNED|VERIFY/.test(code)
      ? "check that its certificate names this host and is signed by the configured ca"
      : "check the URL, and that the server runs and can be reached from here",
    { cause },
  );
}

export const serverFailed = (server: string, what: string, status: number, detail: string) =>
  new MeshError(
    "MESH_SOURCE_UNREACHABLE",
    `${server}: ${what} answered ${status}${detail}; ${MEANWHILE}`,
    "look into the server's logs; nothing is wrong with the request as far as one can tell",
  );

export const requestRefused = (server: string, what: string, status: number, detail: string, { refused }: Remedies) =>
  new MeshError("MESH_SOURCE_REFUSED", `${server}: ${what} answered ${status}${detail}; ${MEANWHILE}`, refused);

export const clientRefused = (server: string, clientId: string, status: number, detail: string) =>
  new MeshError(
    "MESH_SOURCE_REFUSED",
    `${server}: no token for client ${JSON.stringify(clientId)}, it answered ${status}${detail}; ${MEANWHILE}`,
    "check the client's id and secret, and that the client may use the grant type client_credentials",
  );

/** @param without  what the client can't do with the scopes that it has. */
export const scopeMissing = (server: string, clientId: string, scope: string, without: string, remedy: string) =>
  new MeshError(
    "MESH_SOURCE_REFUSED",
    `${server}: client ${JSON.stringify(clientId)} ${without}, its scopes are ${JSON.stringify(scope)}; ${MEANWHILE}`,
    remedy,
  );

export const malformedAnswer = (server: string, what: string, problem: string) =>
  new MeshError(
    "MESH_SOURCE_MALFORMED",
    `${server}: ${what} gave an answer that can't be read (${problem}); ${MEANWHILE}`,
    "check that the URL leads to the server itself, with no proxy or error page in between",
  );
