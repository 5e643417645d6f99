import { join, relative, resolve } from "node:path";
import { parse } from "yaml";
import { z } from "zod";
import { PACKAGE_ROOT } from "../../lib/package-root.js";
import type { AppFiles, Buildpack } from "./buildpack.js";
import { compileFailed } from "./staging-error.js";
import { shellQuote } from "./shell.js";

/** Compiled: apps run it as a process of their own. */
const SERVER = join(PACKAGE_ROOT, "dist", "src", "emulator", "staging", "static-server", "main.js");

const staticfileSchema = z.looseObject({
  root: z.string().nullish(),
  pushstate: z.enum(["enabled", "disabled"]).nullish(),
});

/** Folders of files with a Staticfile, served by the emulator's own small server. */
export const staticfileBuildpack: Buildpack = {
  name: "staticfile_buildpack",
  detect: (files) => files.has("Staticfile"),
  async build({ files, say }) {
    const { root, pushstate, ...others } = await readStaticfile(files);
    const ignored = Object.keys(others);
    if (ignored.length > 0) say(`Staticfile: not supported here, passed over: ${ignored.join(", ")}`);
    const folder = root ?? ((await files.has("public")) ? "public" : ".");
    const way = relative(files.directory, resolve(files.directory, folder));
    if (way.startsWith("..") || !(await files.has(way === "" ? "." : way))) {
      throw compileFailed(`the root "${folder}" is no folder of the app`, "Correct root in Staticfile");
    }
    // The path is told by name, so that the app's folder may move.
    const words = [
      process.execPath,
      SERVER,
      way === "" ? "." : way,
      ...(pushstate === "enabled" ? ["--pushstate"] : []),
    ];
    return {
      detectOutput: "staticfile",
      processTypes: { web: words.map(shellQuote).join(" ") },
      path: [],
    };
  },
};

async function readStaticfile(files: AppFiles): Promise<z.output<typeof staticfileSchema>> {
  const parsed = staticfileSchema.safeParse(parseYaml((await files.read("Staticfile")) ?? "") ?? {});
  if (parsed.success) return parsed.data;
  throw compileFailed("Staticfile is not understood", 'Write lines like "root: public" or "pushstate: enabled"');
}

/** Undefined for an empty text. */
function parseYaml(text: string): unknown {
  try {
    return parse(text);
  } catch {
    return "not YAML";
  }
}
