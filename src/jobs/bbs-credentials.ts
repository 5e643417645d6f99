import type { DiegoConfig } from "../config/config.js";
import type { BbsCredentials } from "../sources/diego/endpoint.js";
import type { Credentials } from "./credentials.js";

/** The PEM texts of the files that the section names, as they are now. */
export function bbsCredentials(config: DiegoConfig, credentials: Credentials): Promise<() => BbsCredentials> {
  const { caFile, certificateFile, keyFile } = config;
  return credentials.follow({
    section: "diego",
    files: { caFile, certificateFile, keyFile },
    make: (texts) => ({ ca: texts.caFile, certificate: texts.certificateFile, key: texts.keyFile }),
  });
}
