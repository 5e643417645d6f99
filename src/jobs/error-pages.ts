/** The templates of error pages, read when the router starts. */
import { readFile } from "node:fs/promises";
import type { HttpConfig } from "../config/router-http.js";
import { type ErrorPages, pageFormat } from "../envoy/bootstrap/error-pages.js";
import { asError, MeshError } from "../lib/errors.js";

const SAMPLE = { status: 404, statusText: "Not Found", message: "none", routerError: "unknown_route" };

/** Throws MESH_CONFIG_INVALID for a file that can't be read, and for one with a placeholder that there is not. */
export async function readErrorPages({ file, domains }: HttpConfig["errorPages"]): Promise<ErrorPages> {
  return {
    page: file === undefined ? undefined : await readPage("file", file),
    domains: await Promise.all(
      domains.map(async (one, index) => ({
        domain: one.domain,
        page: await readPage(`domains.${index}.file`, one.file),
      })),
    ),
  };
}

async function readPage(key: string, file: string): Promise<string> {
  try {
    const page = await readFile(file, "utf8");
    pageFormat(page, SAMPLE);
    return page;
  } catch (thrown) {
    throw new MeshError(
      "MESH_CONFIG_INVALID",
      `router.http.errorPages.${key}: the template in ${file} can't be used: ${asError(thrown).message}`,
      "name a readable file with those placeholders alone, or leave the key out for plain text",
    );
  }
}
