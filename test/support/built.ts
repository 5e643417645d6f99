import { existsSync } from "node:fs";
import { join } from "node:path";
import { PACKAGE_ROOT } from "../../src/lib/package-root.js";

/**
 * The compiled form of a source file, for tests that run it as a process of its own: `built("src/cli/main.ts")`.
 *
 * Throws   a plain Error when it is not compiled.
 */
export function built(source: string): string {
  const path = join(PACKAGE_ROOT, "dist", source.replace(/\.ts$/, ".js"));
  if (!existsSync(path)) throw new Error(`${source} is not compiled: run npm run build`);
  return path;
}
