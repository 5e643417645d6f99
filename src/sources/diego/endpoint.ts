/** One BBS, and what is needed to be let in: TLS with certificates on both sides. */
import { createSecureContext, type SecureContext } from "node:tls";
import { asError, MeshError } from "../../lib/errors.js";

export interface BbsEndpoint {
  /** For messages: as the configuration says it. */
  readonly url: string;
  readonly host: string;
  readonly port: number;
  /** By the credentials as they are now: to be asked for at each connection. */
  readonly secureContext: SecureContext;
}

/** PEM texts: the CA that issued the BBS's certificate, our client certificate, and its key. */
export interface BbsCredentials {
  readonly ca: string;
  readonly certificate: string;
  readonly key: string;
}

/**
 * @param credentials  asked at each connection; another object where they changed
 *
 * Throws MESH_CONFIG_INVALID for what can never connect: no URL, a URL that is not https, PEMs that do not fit.
 */
export function bbsEndpoints(urls: readonly string[], credentials: () => BbsCredentials): readonly BbsEndpoint[] {
  let made = { of: credentials(), context: secureContextOf(credentials()) };
  const current = () => {
    const of = credentials();
    if (of !== made.of) made = { of, context: secureContextOf(of) };
    return made.context;
  };
  if (urls.length === 0) throw invalid("no URL of a Diego BBS is given", "set diego.urls");
  return urls.map((url) => {
    const parsed = URL.canParse(url) ? new URL(url) : undefined;
    if (parsed?.protocol !== "https:") {
      throw invalid(`${url} is no https:// URL`, "the BBS accepts only mTLS: https://bbs.service.cf.internal:8889");
    }
    // The brackets of an IPv6 address belong to the URL only.
    const host = parsed.hostname.replace(/^\[|\]$/g, "");
    return {
      url,
      host,
      port: Number(parsed.port || 443),
      get secureContext() {
        return current();
      },
    };
  });
}

function secureContextOf({ ca, certificate, key }: BbsCredentials): SecureContext {
  try {
    return createSecureContext({ ca, cert: certificate, key, minVersion: "TLSv1.2" });
  } catch (thrown) {
    const cause = asError(thrown);
    throw invalid(
      `the certificates for the Diego BBS can't be used (${cause.message})`,
      "check that diego.caFile, certificateFile and keyFile are PEM files, and that the key belongs to the certificate",
      { cause },
    );
  }
}

function invalid(message: string, fix: string, options?: ErrorOptions): MeshError {
  return new MeshError("MESH_CONFIG_INVALID", message, fix, options);
}
