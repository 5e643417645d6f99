import { X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createSecureContext } from "node:tls";
import type { AppTls } from "../compile/app-tls.js";
import { APPS_CA_SECRET, ROUTER_CERTIFICATE_SECRET } from "../compile/names.js";
import type { RouterConfig } from "../config/router.js";
import type { Secret } from "../envoy/bootstrap/secrets.js";
import { asError, MeshError } from "../lib/errors.js";

export interface RouterTls {
  /** undefined where no CA is configured: apps are reached in plain text. */
  readonly appTls: AppTls | undefined;
  /** For Envoy's bootstrap, by the names that clusters use. */
  readonly secrets: readonly Secret[];
}

/**
 * How a router reaches apps by TLS.
 *
 * Throws  MESH_CONFIG_INVALID when a file can't be read or holds something else: Envoy would refuse to start with it,
 *         in words that name no key.
 */
export async function readRouterTls(backends: RouterConfig["backends"]): Promise<RouterTls> {
  if (!backends) return { appTls: undefined, secrets: [] };
  const { caFile, certificateFile, keyFile } = backends;
  await check(`backends.caFile: ${caFile}`, "a CA's certificate", async () => {
    new X509Certificate(await readFile(caFile));
  });
  const ca = { name: APPS_CA_SECRET, caFile };
  if (certificateFile === undefined || keyFile === undefined) {
    return { appTls: { showsCertificate: false }, secrets: [ca] };
  }
  await check(
    `backends.certificateFile: ${certificateFile}, keyFile: ${keyFile}`,
    "a certificate and its key",
    async () => {
      createSecureContext({ cert: await readFile(certificateFile), key: await readFile(keyFile) });
    },
  );
  const certificate = { name: ROUTER_CERTIFICATE_SECRET, certificateFile, keyFile };
  return { appTls: { showsCertificate: true }, secrets: [ca, certificate] };
}

async function check(place: string, wanted: string, read: () => Promise<void>): Promise<void> {
  try {
    await read();
  } catch (error) {
    throw new MeshError(
      "MESH_CONFIG_INVALID",
      `router.${place}: can't be used: ${asError(error).message}`,
      `name ${wanted}, in PEM, that this process can read`,
      { cause: asError(error) },
    );
  }
}
