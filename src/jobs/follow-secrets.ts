/** An operator's certificates on their way to Envoy: checked, then written where it reads them, each time they change. */
import { createPublicKey } from "node:crypto";
import type { Secret, SecretFile } from "../envoy/bootstrap/secrets.js";
import { asError, MeshError } from "../lib/errors.js";
import type { Logger } from "../lib/logger.js";
import type { Credentials, Files, Texts } from "./credentials.js";
import { writeSecretFile } from "./secret-files.js";

export interface FollowedSecrets<F extends Files> {
  /** Of the configuration: "router.backends". */
  readonly section: string;
  readonly files: F;
  /** The same names each time. */
  readonly secretsOf: (texts: Texts<F>) => readonly Secret[];
}

/** Returns the files for Envoy, in the order of the secrets. Throws MESH_CONFIG_INVALID when a file can't be used now. */
export async function followSecrets<F extends Files>(
  { section, files, secretsOf }: FollowedSecrets<F>,
  runDirectory: string,
  credentials: Credentials,
  logger: Logger,
): Promise<readonly SecretFile[]> {
  /** One after the other, so that the last one stays. */
  let writing: Promise<unknown> = Promise.resolve();
  const write = (secrets: readonly Secret[]) => Promise.all(secrets.map((one) => writeSecretFile(runDirectory, one)));
  const current = await credentials.follow({
    section,
    files,
    make(texts) {
      const secrets = secretsOf(texts);
      for (const secret of secrets) if ("certificate" in secret) refuseStrangeKeys(section, secret.certificate);
      return secrets;
    },
    onReplaced: (secrets) => {
      writing = writing
        .then(() => write(secrets))
        .catch((error: unknown) => {
          logger.error({ section, error: asError(error).message }, "new certificates can't be written for Envoy");
        });
    },
  });
  return write(current());
}

const MIN_RSA_BITS = 2_048;
const CURVES: readonly (string | undefined)[] = ["prime256v1", "secp384r1", "secp521r1"];

/** Envoy would refuse these too, but tell its own log alone. */
function refuseStrangeKeys(section: string, certificate: string): void {
  const { asymmetricKeyType: type = "unknown", asymmetricKeyDetails: details = {} } = createPublicKey(certificate);
  const { modulusLength = 0, namedCurve } = details;
  const isTaken =
    (type === "rsa" && modulusLength >= MIN_RSA_BITS) ||
    (type === "ec" && CURVES.includes(namedCurve)) ||
    type === "ed25519";
  if (isTaken) return;
  const size = type === "rsa" ? ` of ${modulusLength} bits` : "";
  throw new MeshError(
    "MESH_CONFIG_INVALID",
    `${section}.certificateFile: Envoy takes no ${type}${namedCurve === undefined ? size : ` (${namedCurve})`} key`,
    "use a key of RSA with 2048 bits or more, or of ECDSA on P-256, P-384 or P-521",
  );
}
