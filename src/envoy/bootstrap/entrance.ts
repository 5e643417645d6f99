/** How requests come in. */
import type { ClientDomain } from "./client-domains.js";
import type { ClientCertificates } from "./downstream-tls.js";

export interface Entrance {
  readonly isTls: boolean;
  /** undefined where they show no certificates, or those of a domain's own CA */
  readonly clients: ClientCertificates | undefined;
  /** For connections of one domain alone, whose clients show certificates for it. */
  readonly domain: ClientDomain | undefined;
}
