/** Files of certificates and keys for Envoy, within the run directory: each is whole at any time. */
import { rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Secret, secretFileContent, type SecretFile } from "../envoy/bootstrap/secrets.js";

/** Writes it, in the place of one that is there: Envoy, which may have it already, takes the new one. */
export async function writeSecretFile(directory: string, secret: Secret): Promise<SecretFile> {
  const path = join(directory, `${secret.name}.json`);
  const temporary = `${path}.new`;
  await writeFile(temporary, secretFileContent(secret), { mode: 0o600 });
  // Envoy looks at a file again when another one is moved to its place.
  await rename(temporary, path);
  return { name: secret.name, path };
}
