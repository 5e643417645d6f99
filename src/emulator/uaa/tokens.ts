import { randomUUID } from "node:crypto";
import {
  type CryptoKey,
  exportJWK,
  exportSPKI,
  generateKeyPair,
  type JWK,
  type JWTPayload,
  jwtVerify,
  SignJWT,
} from "jose";
import type { Clock } from "../../lib/clock.js";

const ALGORITHM = "RS256";

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

  static async create(clock: Clock): Promise<TokenKeys> {
    return new TokenKeys(clock, await generateKey());
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
  const id = randomUUID();
  const { privateKey, publicKey } = await generateKeyPair(ALGORITHM, { extractable: true });
  const published = {
    ...(await exportJWK(publicKey)),
    kid: id,
    alg: ALGORITHM,
    use: "sig",
    value: await exportSPKI(publicKey),
  };
  return { id, privateKey, publicKey, published };
}
