/** How requests come in. */
import type { ClientCertificates } from "./downstream-tls.js";

export interface Entrance {
  readonly isTls: boolean;
  /** undefined where they show no certificates */
  readonly clients: ClientCertificates | undefined;
}
