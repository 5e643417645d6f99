/** The foundation of a laptop: Cloud Controller, UAA, Diego and NATS, and the files that a mesh needs to follow them. */
import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { createCertificates } from "../emulator/certificates.js";
import { startDiego } from "../emulator/diego/emulated-diego.js";
import { type Foundation, startFoundation } from "../emulator/foundation.js";
import { startNatsServer } from "../emulator/nats/nats-server.js";
import type { Logger } from "../lib/logger.js";
import type { StateDirectory } from "./state-directory.js";

export interface LaptopFoundationOptions {
  readonly host: string;
  /** Of Cloud Controller and UAA. */
  readonly apiPort: number;
  /** The router's, which clients see. */
  readonly routerPort: number;
  /** Shared app domains. */
  readonly domains: readonly string[];
  readonly systemDomain: string;
  readonly state: StateDirectory;
  readonly logger: Logger;
}

export interface LaptopFoundation {
  readonly foundation: Foundation;
  readonly bbsUrl: string;
  readonly natsUrl: string;
  readonly natsUser: string;
  /** Paths of files that their owner alone may read. */
  readonly files: Readonly<Record<keyof typeof FILES, string>>;
  /** The configuration's sections for its sources. */
  readonly sections: Readonly<Record<"cloudController" | "diego" | "nats", object>>;
  /** The router's section for the lines that cf logs shows of requests. */
  readonly accessLog: object;
  close(): Promise<void>;
}

const NATS_USER = "cf-mesh";
const STOP_GRACE_MS = 1_000;

const SAMPLE_APP = fileURLToPath(new URL("../emulator/sample-app/main.js", import.meta.url));

const FILES = {
  bbsCa: "bbs-ca.crt",
  bbsCertificate: "bbs-client.crt",
  bbsKey: "bbs-client.key",
  clientSecret: "client-secret",
  natsPassword: "nats-password",
} as const;

/** Throws MESH_PORT_TAKEN, MESH_NATS_MISSING or MESH_STATE_CORRUPT; what was started is stopped then. */
export async function startLaptopFoundation(options: LaptopFoundationOptions): Promise<LaptopFoundation> {
  const { host, apiPort, routerPort, domains, systemDomain, state, logger } = options;
  const cleanups: (() => Promise<void>)[] = [];
  async function close(): Promise<void> {
    for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
  }

  try {
    const natsPassword = randomBytes(24).toString("base64url");
    const nats = await startNatsServer({
      host,
      directory: state.natsDirectory,
      settings: { authorization: { user: NATS_USER, password: natsPassword } },
    });
    cleanups.push(() => nats.close());
    const natsUrl = `nats://${host}:${nats.port}`;
    const certificates = await createCertificates();
    const diego = await startDiego({ host, bbsPort: 0, certificates, stopGraceMs: STOP_GRACE_MS, logger });
    cleanups.push(() => diego.close());
    const foundation = await startFoundation({
      host,
      port: apiPort,
      publicPort: routerPort,
      appDomains: domains,
      systemDomain,
      dataDirectory: state.dataDirectory,
      nats: { servers: [natsUrl], user: NATS_USER, password: natsPassword },
      diego,
      certificates,
      droplets: ["hello", "hola"].map((greeting) => ({
        name: greeting,
        command: [process.execPath, SAMPLE_APP, greeting],
        workingDirectory: dirname(SAMPLE_APP),
      })),
      logger,
    });
    cleanups.push(() => foundation.close());
    const files = await writeSecrets(state.secretsDirectory, {
      bbsCa: certificates.ca,
      bbsCertificate: certificates.client.certificate,
      bbsKey: certificates.client.key,
      clientSecret: foundation.clientSecret,
      natsPassword,
    });
    return {
      foundation,
      bbsUrl: diego.bbsUrl,
      natsUrl,
      natsUser: NATS_USER,
      files,
      sections: {
        cloudController: {
          url: foundation.apiUrl,
          clientId: foundation.clientId,
          clientSecretFile: files.clientSecret,
        },
        diego: {
          urls: [diego.bbsUrl],
          caFile: files.bbsCa,
          certificateFile: files.bbsCertificate,
          keyFile: files.bbsKey,
        },
        nats: { servers: [natsUrl], user: NATS_USER, passwordFile: files.natsPassword },
      },
      // One CA signs all certificates of the foundation.
      accessLog: {
        loggregator: {
          address: foundation.loggregatorAddress,
          caFile: files.bbsCa,
          certificateFile: files.bbsCertificate,
          keyFile: files.bbsKey,
        },
      },
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Returns the paths by name. */
async function writeSecrets(
  directory: string,
  secrets: Readonly<Record<keyof typeof FILES, string>>,
): Promise<Readonly<Record<keyof typeof FILES, string>>> {
  const paths: Record<keyof typeof FILES, string> = { ...FILES };
  for (const name of Object.keys(FILES) as (keyof typeof FILES)[]) {
    paths[name] = join(directory, FILES[name]);
    await writeFile(paths[name], secrets[name], { mode: 0o600 });
  }
  return paths;
}
