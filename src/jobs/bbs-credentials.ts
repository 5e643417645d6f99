import { readFile } from "node:fs/promises";
import type { DiegoConfig } from "../config/config.js";

/** The PEM texts of the files that the section names. */
export async function bbsCredentials(
  config: DiegoConfig,
): Promise<Readonly<Record<"ca" | "certificate" | "key", string>>> {
  const [ca = "", certificate = "", key = ""] = await Promise.all(
    [config.caFile, config.certificateFile, config.keyFile].map((file) => readFile(file, "utf8")),
  );
  return { ca, certificate, key };
}
