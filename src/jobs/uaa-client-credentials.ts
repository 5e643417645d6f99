import type { CloudControllerConfig, RoutingApiConfig } from "../config/config.js";
import type { HttpCredentials } from "../sources/http.js";
import type { Credentials } from "./credentials.js";

/** The secret and the PEM texts of the files that a section names, as they are now. */
export function uaaClientCredentials(
  section: "cloudController" | "routingApi",
  config: CloudControllerConfig | RoutingApiConfig,
  credentials: Credentials,
): Promise<() => HttpCredentials & { readonly clientSecret: string }> {
  const { caFile, certificateFile, keyFile, clientSecretFile } = config;
  return credentials.follow({
    section,
    files: { caFile, certificateFile, keyFile, clientSecretFile },
    make: ({ caFile: ca, certificateFile: certificate, keyFile: key, clientSecretFile: secret }) => ({
      clientSecret: secret ?? config.clientSecret ?? "",
      ...(ca !== undefined && { ca }),
      ...(certificate !== undefined && key !== undefined && { clientCertificate: { certificate, key } }),
    }),
  });
}
