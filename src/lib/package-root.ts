import { existsSync } from "node:fs";
import { dirname, join } from "node:path";

/** The folder of this package's package.json: the same one for the sources and for what is compiled from them. */
export const PACKAGE_ROOT = packageRootAbove(import.meta.dirname);

function packageRootAbove(folder: string): string {
  if (existsSync(join(folder, "package.json"))) return folder;
  const parent = dirname(folder);
  if (parent === folder) throw new Error(`no package.json above ${import.meta.dirname}`);
  return packageRootAbove(parent);
}
