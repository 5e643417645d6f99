/** The emulated foundation's own certificate authority, and the certificates it issues: EC P-256, in PEM. */
import "reflect-metadata";
import { randomBytes, webcrypto } from "node:crypto";
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  PemConverter,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  type X509Certificate,
  X509CertificateGenerator,
} from "@peculiar/x509";

/** A certificate and its private key (PKCS #8), both PEM. */
export interface KeyPair {
  readonly certificate: string;
  readonly key: string;
}

export interface CertificateRequest {
  readonly commonName: string;
  /** Diego's instance identities say here whose they are: "app:GUID", "space:GUID", "organization:GUID". */
  readonly organizationalUnits?: readonly string[];
  /** As Diego writes them: one part of the name with several units in it. Default: a part of its own for each. */
  readonly joinsUnits?: boolean;
  readonly dnsNames?: readonly string[];
  readonly ipAddresses?: readonly string[];
  /** What it may be shown as in a TLS handshake. Default: both. */
  readonly usages?: readonly ("server" | "client")[];
  /** How long it is valid from now on, in milliseconds. Default: 30 days. */
  readonly validMs?: number;
}

export interface Certificates {
  /** Certificate of the authority, PEM. */
  readonly ca: string;
  /** The BBS's: 127.0.0.1, localhost and bbs.service.cf.internal. */
  readonly server: KeyPair;
  /** What the mesh's control job shows to the BBS. */
  readonly client: KeyPair;
  readonly issue: (request: CertificateRequest) => Promise<KeyPair>;
}

const KEY_ALGORITHM = { name: "ECDSA", namedCurve: "P-256" };
const SIGNING_ALGORITHM = { name: "ECDSA", hash: "SHA-256" };
const DAY_MS = 24 * 60 * 60 * 1_000;
const AUTHORITY_VALID_MS = 365 * DAY_MS;
const DEFAULT_VALID_MS = 30 * DAY_MS;
/** Clocks of a client in a virtual machine may be behind. */
const BACKDATED_MS = 5 * 60 * 1_000;

/** Makes an authority that lives as long as the returned object, and the certificates that a foundation starts with. */
export async function createCertificates(): Promise<Certificates> {
  const authority = await createAuthority("cf-mesh emulated foundation CA");
  const issue = (request: CertificateRequest): Promise<KeyPair> => issueBy(authority, request);
  return {
    ca: authority.certificate.toString("pem"),
    server: await issue({
      commonName: "bbs.service.cf.internal",
      dnsNames: ["bbs.service.cf.internal", "localhost"],
      ipAddresses: ["127.0.0.1"],
    }),
    client: await issue({ commonName: "cf-mesh control", usages: ["client"] }),
    issue,
  };
}

interface Authority {
  readonly certificate: X509Certificate;
  readonly keys: webcrypto.CryptoKeyPair;
}

async function createAuthority(commonName: string): Promise<Authority> {
  const keys = await generateKeys();
  const certificate = await X509CertificateGenerator.createSelfSigned(
    {
      serialNumber: serialNumber(),
      name: [{ CN: [commonName] }],
      ...validity(AUTHORITY_VALID_MS),
      signingAlgorithm: SIGNING_ALGORITHM,
      keys,
      extensions: [
        new BasicConstraintsExtension(true, 0, true),
        new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
        await SubjectKeyIdentifierExtension.create(keys.publicKey, false, webcrypto),
      ],
    },
    webcrypto,
  );
  return { certificate, keys };
}

async function issueBy(authority: Authority, request: CertificateRequest): Promise<KeyPair> {
  const { commonName, organizationalUnits = [], joinsUnits = false, dnsNames = [], ipAddresses = [] } = request;
  const { usages = ["server", "client"], validMs = DEFAULT_VALID_MS } = request;
  const keys = await generateKeys();
  const names = [
    ...dnsNames.map((value) => ({ type: "dns" as const, value })),
    ...ipAddresses.map((value) => ({ type: "ip" as const, value })),
  ];
  const certificate = await X509CertificateGenerator.create(
    {
      serialNumber: serialNumber(),
      subject: [
        ...(joinsUnits ? [{ OU: [...organizationalUnits] }] : organizationalUnits.map((unit) => ({ OU: [unit] }))),
        { CN: [commonName] },
      ],
      issuer: authority.certificate.subjectName,
      ...validity(validMs),
      signingAlgorithm: SIGNING_ALGORITHM,
      publicKey: keys.publicKey,
      signingKey: authority.keys.privateKey,
      extensions: [
        new BasicConstraintsExtension(false, undefined, true),
        new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
        new ExtendedKeyUsageExtension(
          usages.map((usage) => (usage === "server" ? ExtendedKeyUsage.serverAuth : ExtendedKeyUsage.clientAuth)),
        ),
        ...(names.length > 0 ? [new SubjectAlternativeNameExtension(names)] : []),
        await SubjectKeyIdentifierExtension.create(keys.publicKey, false, webcrypto),
        await AuthorityKeyIdentifierExtension.create(authority.keys.publicKey, false, webcrypto),
      ],
    },
    webcrypto,
  );
  const key = PemConverter.encode(await webcrypto.subtle.exportKey("pkcs8", keys.privateKey), "PRIVATE KEY");
  return { certificate: certificate.toString("pem"), key };
}

async function generateKeys(): Promise<webcrypto.CryptoKeyPair> {
  return await webcrypto.subtle.generateKey(KEY_ALGORITHM, true, ["sign", "verify"]);
}

function validity(validMs: number): { notBefore: Date; notAfter: Date } {
  const now = Date.now();
  return { notBefore: new Date(now - BACKDATED_MS), notAfter: new Date(now + validMs) };
}

/** 16 random bytes as hex; a leading 01 keeps the number positive and without a leading zero. */
function serialNumber(): string {
  return `01${randomBytes(15).toString("hex")}`;
}
