/**
 * The signature by which a request that comes back from a route service proves that it passed this router before.
 *
 * Source   Gorouter's route services: AES-128-GCM over JSON, with a key that PBKDF2 makes of the shared secret. Existing
 *          route services copy the headers as they are, and other routers with the same secret read them.
 */
import { createCipheriv, createDecipheriv, pbkdf2Sync, randomBytes } from "node:crypto";
import { z } from "zod";

export const SIGNATURE_HEADER = "x-cf-proxy-signature";
export const METADATA_HEADER = "x-cf-proxy-metadata";
export const FORWARDED_URL_HEADER = "x-cf-forwarded-url";

/** What a route service sends back as it got it, and no app sees. */
export const PROOF_HEADERS = [SIGNATURE_HEADER, METADATA_HEADER, FORWARDED_URL_HEADER] as const;

/** What the router said of the request when it sent it to the route service. */
export interface Signed {
  /** Scheme, host without port, and path with query, as the client asked for them. */
  readonly forwardedUrl: string;
  /** Unix time in milliseconds. */
  readonly requestedMs: number;
}

export interface SignatureHeaders {
  readonly signature: string;
  readonly metadata: string;
}

/** Secrets as AES keys. */
export interface SignatureKeys {
  readonly current: Buffer;
  /** Reads what routers signed that have the former secret still. */
  readonly former: Buffer | undefined;
}

const ALGORITHM = "aes-128-gcm";
const KEY_BYTES = 16;
const KEY_ROUNDS = 100_001;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;

const ContentsSchema = z.object({ forwarded_url: z.string(), requested_time: z.iso.datetime({ offset: true }) });
const MetadataSchema = z.object({ nonce: z.base64() });

/** Takes some 30 ms. */
export function deriveKey(secret: string): Buffer {
  return pbkdf2Sync(secret, "", KEY_ROUNDS, KEY_BYTES, "sha256");
}

export function sign({ forwardedUrl, requestedMs }: Signed, key: Buffer): SignatureHeaders {
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv(ALGORITHM, key, nonce);
  const contents = JSON.stringify({
    forwarded_url: forwardedUrl,
    requested_time: new Date(requestedMs).toISOString(),
  });
  const sealed = Buffer.concat([cipher.update(contents, "utf8"), cipher.final(), cipher.getAuthTag()]);
  return {
    signature: urlSafe(sealed),
    metadata: urlSafe(Buffer.from(JSON.stringify({ nonce: nonce.toString("base64") }))),
  };
}

/** What was signed; undefined for what none of the keys signed. */
export function readSignature({ signature, metadata }: SignatureHeaders, keys: SignatureKeys): Signed | undefined {
  const nonce = nonceOf(metadata);
  const sealed = Buffer.from(signature, "base64url");
  if (nonce === undefined || sealed.length <= TAG_BYTES) return undefined;
  for (const key of [keys.current, keys.former]) {
    const contents = key && open(sealed, nonce, key);
    if (contents !== undefined) return contents;
  }
  return undefined;
}

function nonceOf(metadata: string): Buffer | undefined {
  const parsed = MetadataSchema.safeParse(parseJson(Buffer.from(metadata, "base64url").toString()));
  const nonce = parsed.data && Buffer.from(parsed.data.nonce, "base64");
  return nonce?.length === NONCE_BYTES ? nonce : undefined;
}

function open(sealed: Buffer, nonce: Buffer, key: Buffer): Signed | undefined {
  const decipher = createDecipheriv(ALGORITHM, key, nonce);
  decipher.setAuthTag(sealed.subarray(-TAG_BYTES));
  let text: string;
  try {
    text = decipher.update(sealed.subarray(0, -TAG_BYTES), undefined, "utf8") + decipher.final("utf8");
  } catch {
    // The tag does not fit: another key, or somebody changed it.
    return undefined;
  }
  const parsed = ContentsSchema.safeParse(parseJson(text));
  if (!parsed.data) return undefined;
  return { forwardedUrl: parsed.data.forwarded_url, requestedMs: Date.parse(parsed.data.requested_time) };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Base64 as Go's URLEncoding writes it: with padding. */
function urlSafe(bytes: Buffer): string {
  return bytes.toString("base64").replaceAll("+", "-").replaceAll("/", "_");
}
