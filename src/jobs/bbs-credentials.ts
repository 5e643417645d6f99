import type { DiegoConfig } from "../config/config.js";
import type { BbsCredentials } from "../sources/diego/endpoint.js";
import type { Credentials } from "./credentials.js";

type Followed = Promise<() => BbsCredentials>;

/** Several jobs of a process read the BBS; each replacement of a file is to be taken, counted and logged once. */
const followed = new WeakMap<Credentials, WeakMap<DiegoConfig, Followed>>();

/** The PEM texts of the files that the section names, as they are now; followed once, however many ask. */
export function bbsCredentials(config: DiegoConfig, credentials: Credentials): Followed {
  const ofConfig = followed.get(credentials) ?? new WeakMap<DiegoConfig, Followed>();
  followed.set(credentials, ofConfig);
  const known = ofConfig.get(config);
  if (known) return known;
  const { caFile, certificateFile, keyFile } = config;
  const one = credentials.follow({
    section: "diego",
    files: { caFile, certificateFile, keyFile },
    make: (texts) => ({ ca: texts.caFile, certificate: texts.certificateFile, key: texts.keyFile }),
  });
  ofConfig.set(config, one);
  return one;
}
