/** HTTPS from clients. Names of Gorouter's settings are in the descriptions. */
import { z } from "zod";
import { file, port } from "./fields.js";

/** As Go and OpenSSL name them, by BoringSSL's name. TLS 1.3 has ciphers of its own, which nobody sets. */
const CIPHERS: Readonly<Record<string, readonly string[]>> = {
  "ECDHE-RSA-AES128-GCM-SHA256": ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"],
  "ECDHE-RSA-AES256-GCM-SHA384": ["TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"],
  "ECDHE-ECDSA-AES128-GCM-SHA256": ["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"],
  "ECDHE-ECDSA-AES256-GCM-SHA384": ["TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"],
  "ECDHE-RSA-CHACHA20-POLY1305": [
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
  ],
  "ECDHE-ECDSA-CHACHA20-POLY1305": [
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
  ],
  "ECDHE-RSA-AES128-SHA": ["TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA"],
  "ECDHE-RSA-AES256-SHA": ["TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA"],
  "ECDHE-ECDSA-AES128-SHA": ["TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA"],
  "ECDHE-ECDSA-AES256-SHA": ["TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA"],
  "AES128-GCM-SHA256": ["TLS_RSA_WITH_AES_128_GCM_SHA256"],
  "AES256-GCM-SHA384": ["TLS_RSA_WITH_AES_256_GCM_SHA384"],
  "AES128-SHA": ["TLS_RSA_WITH_AES_128_CBC_SHA"],
  "AES256-SHA": ["TLS_RSA_WITH_AES_256_CBC_SHA"],
};
const BORINGSSL_NAMES = new Map(
  Object.entries(CIPHERS).flatMap(([name, others]) => [name, ...others].map((one) => [one, name] as const)),
);

const cipherSuite = z.string().transform((name, context) => {
  const known = BORINGSSL_NAMES.get(name);
  if (known !== undefined) return known;
  context.addIssue({
    code: "custom",
    message: `is no cipher suite that the router has; it has ${[...BORINGSSL_NAMES.keys()].join(", ")}`,
  });
  return z.NEVER;
});
const version = z.enum(["1.0", "1.1", "1.2", "1.3"]);

const KeypairSchema = z.strictObject({
  certificateFile: file.describe("certificate with its chain, in PEM"),
  keyFile: file.describe("its key"),
});

const NameSchema = z
  .strictObject({
    country: z.array(z.string()).optional(),
    organization: z.array(z.string()).optional(),
    organizationalUnit: z.array(z.string()).optional(),
    locality: z.array(z.string()).optional(),
    province: z.array(z.string()).optional(),
    streetAddress: z.array(z.string()).optional(),
    postalCode: z.array(z.string()).optional(),
    commonName: z.string().optional(),
    serialNumber: z.string().optional(),
  })
  .refine((name) => Object.keys(name).length > 0, { error: "must have a part at least" });

const RuleSchema = z.strictObject({
  issuer: NameSchema.describe("a CA of caFile (issuer_in_chain)"),
  subjects: z.array(NameSchema).min(1, "name at least one").describe("names that it may sign (valid_cert_subjects)"),
});

const ClientCertificatesSchema = z.strictObject({
  validation: z
    .enum(["request", "require"])
    .default("request")
    .describe(
      "clients may show a certificate, which must then be good, or have to (client_cert_validation); without this section none is asked for",
    ),
  caFile: file.describe("CAs of clients' certificates, in PEM (client_ca_certs)"),
  rules: z
    .array(RuleSchema)
    .default([])
    .describe(
      "whole names that certificates of a CA must have, else 403 (verify_client_certificate_metadata); with rules, CAs must be in caFile that sign clients' certificates themselves",
    ),
});

const DomainSchema = z.strictObject({
  name: z
    .string()
    .toLowerCase()
    .regex(
      /^(\*\.)?[0-9a-z_]([0-9a-z_-]*[0-9a-z_])?(\.[0-9a-z_]([0-9a-z_-]*[0-9a-z_])?)*$/,
      "must be a host, or a wildcard as *.apps.identity",
    )
    .describe(
      "a host, or all hosts below a domain, at any level: *.apps.identity; clients that ask for such a name in their handshake must show a certificate, and no other requests reach such hosts",
    ),
  caFile: file.describe("CAs of its clients' certificates, in PEM (ca_certs); on Diego, the instance identity CA"),
  forwardedClientCert: z
    .enum(["always_forward", "forward", "sanitize_set"])
    .default("sanitize_set")
    .describe("as http.forwardedClientCert, of the requests to this domain (forwarded_client_cert)"),
  xfccFormat: z
    .enum(["raw", "envoy"])
    .default("raw")
    .describe('by sanitize_set, X-Forwarded-Client-Cert is the certificate, or Hash=…;Subject="…" of it (xfcc_format)'),
});

export const TlsSchema = z
  .strictObject({
    port: port.default(8443).describe("where HTTPS requests from outside come in"),
    keypairs: z
      .array(KeypairSchema)
      .min(1, "name at least one certificate")
      .describe(
        "certificates of the router (frontend_tls_keypairs): the one for the name that a client asks for is shown, or the first",
      ),
    minVersion: version.default("1.2").describe("lowest version of TLS (min_tls_version)"),
    maxVersion: version.default("1.3").describe("highest version of TLS (max_tls_version)"),
    cipherSuites: z
      .array(cipherSuite)
      .min(1)
      .optional()
      .describe("cipher suites up to TLS 1.2, by Go's or OpenSSL's names (cipher_suites); default: Envoy's"),
    http2: z.boolean().default(true).describe("offer HTTP/2 to clients (enable_http2)"),
    clientCertificates: ClientCertificatesSchema.optional().describe("certificates of clients; default: not asked for"),
    domains: z
      .array(DomainSchema)
      .default([])
      .superRefine((domains, context) => {
        for (const [index, { name }] of domains.entries()) {
          if (domains.findIndex((other) => other.name === name) === index) continue;
          context.addIssue({ code: "custom", path: [index, "name"], message: `${name} is named twice: join the two` });
        }
      })
      .describe(
        "domains whose clients must show certificates of CAs of their own (router.domains); docs/identity-aware-domains.md",
      ),
    disableHttp: z.boolean().default(false).describe("HTTPS alone (disable_http)"),
  })
  .refine(({ minVersion, maxVersion }) => minVersion <= maxVersion, { error: "minVersion is above maxVersion" });

export type TlsConfig = z.infer<typeof TlsSchema>;
