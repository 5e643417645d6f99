/** What programs that the emulator starts see of our own environment: it may hold secrets. */
import { accessSync, constants } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { tmpdir } from "node:os";

/** Where programs find their caches, registries and proxies; the names are those of npm, pip, Go and curl. */
const NEEDED_BY_BUILDS =
  /^(HOME|USER|LANG|LC_ALL|(https?|all|no)_proxy|npm_config_.+|PIP_.+|GO.+|SSL_CERT_.+|NODE_EXTRA_CA_CERTS|XDG_CACHE_HOME)$/i;

/** Our PATH, and the Node.js that runs this at its end: Node.js apps can always run. */
export function systemPath(): string {
  return [process.env["PATH"] ?? "", dirname(process.execPath)].filter((part) => part !== "").join(delimiter);
}

/** For the tools that staging runs, with the user's variables above ours. */
export function buildEnvironment(variables: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  const needed = Object.entries(process.env).filter(
    (pair): pair is [string, string] => pair[1] !== undefined && NEEDED_BY_BUILDS.test(pair[0]),
  );
  return { TMPDIR: tmpdir(), ...Object.fromEntries(needed), PATH: systemPath(), ...variables };
}

/** Whether a program of this name is in one of the folders of a PATH. */
export function isInstalled(program: string, path: string): boolean {
  return path.split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}
