/** Certificates that Envoy reads from files when it starts. */

/** A CA, or a certificate with its key, under a name; PEM files. */
export type Secret =
  | { readonly name: string; readonly caFile: string }
  | { readonly name: string; readonly certificateFile: string; readonly keyFile: string };

export function secret(of: Secret) {
  if ("caFile" in of) return { name: of.name, validation_context: { trusted_ca: { filename: of.caFile } } };
  const { name, certificateFile, keyFile } = of;
  return {
    name,
    tls_certificate: { certificate_chain: { filename: certificateFile }, private_key: { filename: keyFile } },
  };
}
