import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

/**
 * The compiled form of a source file, for tests that run it as a process of its own: `built("src/cli/main.ts")`.
 *
 * Throws   a plain Error when it is not compiled.
 */
export function built(source: string): string {
  const path = fileURLToPath(new URL(`../../dist/${source.replace(/\.ts$/, ".js")}`, import.meta.url));
  if (!existsSync(path)) throw new Error(`${source} is not compiled: run npm run build`);
  return path;
}
