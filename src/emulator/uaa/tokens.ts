import { randomUUID } from "node:crypto";
import {
  type CryptoKey,
  exportJWK,
  exportPKCS8,
  exportSPKI,
  generateKeyPair,
  importJWK,
  importPKCS8,
  type JWK,
  type JWTPayload,
  jwtVerify,
  SignJWT,
} from "jose";
import type { Clock } from "../../lib/clock.js";

const ALGORITHM = "RS256";

/** A signing key as it is stored: PKCS #8, PEM. */
export interface SavedKey {
  readonly id: string;
  readonly pem: string;
}

interface SigningKey {
  readonly id: string;
  readonly privateKey: CryptoKey;
  readonly publicKey: CryptoKey;
  readonly published: JWK & { readonly value: string };
}

/** Signs and verifies the JWTs of one UAA. Replacing its key makes all tokens invalid that are out. */
export class TokenKeys {
  readonly #clock: Clock;
  #current: SigningKey;

  private constructor(clock: Clock, key: SigningKey) {
    this.#clock = clock;
    this.#current = key;
  }

  /** With the key that was saved, or a new one. Throws when what was saved is no key. */
  static async create(clock: Clock, saved?: SavedKey): Promise<TokenKeys> {
    return new TokenKeys(clock, saved === undefined ? await generateKey() : await importKey(saved));
  }

  async save(): Promise<SavedKey> {
    return { id: this.#current.id, pem: await exportPKCS8(this.#current.privateKey) };
  }

  /** As /token_keys shows it: a JWK, with the PEM as "value". */
  get published(): object {
    return this.#current.published;
  }

  async replace(): Promise<void> {
    this.#current = await generateKey();
  }

  sign(claims: JWTPayload): Promise<string> {
    const { id, privateKey } = this.#current;
    return new SignJWT(claims).setProtectedHeader({ alg: ALGORITHM, kid: id, typ: "JWT" }).sign(privateKey);
  }

  /** The claims; undefined for a token that is expired, or that this key did not sign. */
  async verify(token: string, issuer: string): Promise<JWTPayload | undefined> {
    const options = { issuer, algorithms: [ALGORITHM], currentDate: new Date(this.#clock.now()) };
    return jwtVerify(token, this.#current.publicKey, options).then(
      (verified) => verified.payload,
      () => undefined,
    );
  }
}

async function generateKey(): Promise<SigningKey> {
  const { privateKey, publicKey } = await generateKeyPair(ALGORITHM, { extractable: true });
  return signingKey(randomUUID(), privateKey, publicKey);
}

async function importKey({ id, pem }: SavedKey): Promise<SigningKey> {
  const privateKey = await importPKCS8(pem, ALGORITHM, { extractable: true });
  const { kty, n, e } = await exportJWK(privateKey);
  if (kty !== "RSA" || n === undefined || e === undefined) throw new Error("not an RSA key");
  const publicKey = (await importJWK({ kty, n, e }, ALGORITHM)) as CryptoKey;
  return signingKey(id, privateKey, publicKey);
}

async function signingKey(id: string, privateKey: CryptoKey, publicKey: CryptoKey): Promise<SigningKey> {
  const published = {
    ...(await exportJWK(publicKey)),
    kid: id,
    alg: ALGORITHM,
    use: "sig",
    value: await exportSPKI(publicKey),
  };
  return { id, privateKey, publicKey, published };
}
