/** What can go wrong with a BBS, in words for the operator: what happened, what goes on, what to do. */
import { asError, MeshError, systemCode } from "../../lib/errors.js";
import { ProtocolViolation } from "../protocol-violation.js";

const MEANWHILE = "still serving the last known instances";

/**
 * The fault behind whatever was thrown while talking to a BBS.
 *
 * Returns  MESH_SOURCE_MALFORMED for bytes that break the protocol, MESH_SOURCE_REFUSED where the certificates don't
 *          fit, else MESH_SOURCE_UNREACHABLE; a MeshError as it is.
 */
export function bbsFault(url: string, doing: string, thrown: unknown): MeshError {
  if (thrown instanceof MeshError) return thrown;
  const cause = asError(thrown);
  if (cause instanceof ProtocolViolation) return malformed(url, doing, cause);
  if (isCertificateFault(cause)) {
    return new MeshError(
      "MESH_SOURCE_REFUSED",
      `Diego BBS at ${url}: TLS failed while ${doing} (${describe(cause)}); ${MEANWHILE}`,
      "check diego.caFile, certificateFile and keyFile: the BBS must trust the issuer of our certificate, our CA must have " +
        "issued the certificate of the BBS, the name in diego.urls must be in it, and none may have expired",
      { cause },
    );
  }
  return new MeshError(
    "MESH_SOURCE_UNREACHABLE",
    `Diego BBS at ${url}: ${doing} failed (${describe(cause)}); ${MEANWHILE}`,
    adviceFor(systemCode(cause)),
    { cause },
  );
}

export function malformed(url: string, doing: string, cause: Error): MeshError {
  return new MeshError(
    "MESH_SOURCE_MALFORMED",
    `Diego BBS at ${url}: ${doing} gave an answer that breaks the protocol (${cause.message}); ${MEANWHILE}`,
    "check that diego.urls leads to a BBS and not to a proxy or another service; if it does, its version may be too new",
    { cause },
  );
}

export function badStatus(url: string, doing: string, status: number): MeshError {
  if (status >= 500) {
    return new MeshError(
      "MESH_SOURCE_UNREACHABLE",
      `Diego BBS at ${url}: HTTP ${status} while ${doing}; ${MEANWHILE}`,
      "see the log of the BBS, and of whatever stands between it and the mesh",
    );
  }
  const fix =
    status === 404
      ? "this BBS does not know the call: check that diego.urls leads to a BBS, of a diego-release that has /v1/events/lrp_instances.r1"
      : "check that diego.urls leads to a BBS and that diego.certificateFile is one that it lets in";
  return new MeshError("MESH_SOURCE_REFUSED", `Diego BBS at ${url}: HTTP ${status} while ${doing}; ${MEANWHILE}`, fix);
}

/** The BBS answers faults of its own with HTTP 200 and an Error in the body. */
export function errorInBody(url: string, doing: string, type: number, message: string): MeshError {
  return new MeshError(
    "MESH_SOURCE_REFUSED",
    `Diego BBS at ${url}: it answered with error ${type} while ${doing} (${message}); ${MEANWHILE}`,
    "see the log of the BBS: its database is the usual reason",
  );
}

export function routerError(url: string, doing: string, header: string): MeshError {
  return new MeshError(
    "MESH_SOURCE_REFUSED",
    `Diego BBS at ${url}: a Gorouter answered while ${doing} (X-Cf-Routererror: ${header}); ${MEANWHILE}`,
    "set diego.urls to the BBS itself: https://bbs.service.cf.internal:8889",
  );
}

export function streamEnded(url: string): MeshError {
  return new MeshError(
    "MESH_SOURCE_UNREACHABLE",
    `Diego BBS at ${url}: it ended the event stream; subscribing again, ${MEANWHILE}`,
    "none needed when the BBS restarts or fails over; if it repeats, the mesh reads too slowly: give it more CPU",
  );
}

export function streamDeaf(url: string): MeshError {
  return new MeshError(
    "MESH_SOURCE_UNREACHABLE",
    `Diego BBS at ${url}: instances moved, and the event stream said nothing; subscribing again, ${MEANWHILE}`,
    "look for a proxy or firewall between the mesh and the BBS that drops idle connections",
  );
}

function describe(cause: Error): string {
  // A host with several addresses fails with all their errors at once, and without a message.
  const all = cause instanceof AggregateError ? cause.errors.map((error) => asError(error).message).join(", ") : "";
  return cause.message || all || (systemCode(cause) ?? cause.name);
}

function isCertificateFault(cause: Error): boolean {
  const code = systemCode(cause) ?? "";
  return /^(ERR_TLS_CERT|ERR_SSL_|CERT_|UNABLE_TO_|SELF_SIGNED|DEPTH_ZERO|EPROTO$|HOSTNAME_MISMATCH|INVALID_CA)/.test(
    code,
  );
}

function adviceFor(code: string | undefined): string {
  if (code === "ENOTFOUND" || code === "EAI_AGAIN") {
    return "check the host name in diego.urls, and that this machine resolves the foundation's internal names";
  }
  if (code === "ECONNREFUSED") {
    return "check that the BBS runs and that diego.urls names its port (8889): only the active BBS of a group listens";
  }
  if (code === "ECONNRESET") {
    return (
      "the BBS hung up: it may be restarting; if this stays, it may not trust diego.certificateFile (its log then says " +
      "so)"
    );
  }
  return "check the network and the firewall between the mesh and the BBS";
}
