/** An operator's certificates on their way to Envoy: checked, then written where it reads them, each time they change. */
import type { Secret, SecretFile } from "../envoy/bootstrap/secrets.js";
import { asError } from "../lib/errors.js";
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
    make: secretsOf,
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
