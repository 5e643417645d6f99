import { join } from "node:path";
import { z } from "zod";
import type { AppFiles, Buildpack } from "./buildpack.js";
import { compileFailed } from "./staging-error.js";
import { isInstalled } from "./environment.js";

const packageSchema = z.looseObject({
  scripts: z.looseObject({ start: z.string().optional() }).optional(),
  dependencies: z.record(z.string(), z.unknown()).optional(),
  optionalDependencies: z.record(z.string(), z.unknown()).optional(),
});

/** Apps with a package.json. Dependencies are installed by npm, unless the app brings its node_modules. */
export const nodejsBuildpack: Buildpack = {
  name: "nodejs_buildpack",
  detect: (files) => files.has("package.json"),
  async build({ files, environment, say, run }) {
    const manifest = await readManifest(files);
    const { scripts, dependencies = {}, optionalDependencies = {} } = manifest;
    const dependencyCount = Object.keys(dependencies).length + Object.keys(optionalDependencies).length;
    const hasModules = await files.has("node_modules");
    const needsInstall = dependencyCount > 0 && !hasModules;
    if ((needsInstall || scripts?.start !== undefined) && !isInstalled("npm", environment["PATH"] ?? "")) {
      throw compileFailed("npm is not installed", "Install Node.js with npm: https://nodejs.org");
    }
    if (needsInstall) {
      const isLocked = (await files.has("package-lock.json")) || (await files.has("npm-shrinkwrap.json"));
      const args = [isLocked ? "ci" : "install", "--omit=dev", "--no-audit", "--no-fund"];
      say(`Installing ${dependencyCount} dependencies: npm ${args.join(" ")}`);
      await run({
        program: "npm",
        args,
        fix: "When the network can't be reached, push with the folder node_modules",
      });
    } else if (dependencyCount > 0) {
      say("Using the node_modules that were pushed");
    }
    return {
      detectOutput: "nodejs",
      processTypes: await processTypes(files, scripts?.start),
      path: [join(files.directory, "node_modules", ".bin")],
    };
  },
};

async function readManifest(files: AppFiles): Promise<z.output<typeof packageSchema>> {
  const parsed = packageSchema.safeParse(parseJson((await files.read("package.json")) ?? ""));
  if (parsed.success) return parsed.data;
  throw compileFailed("package.json is no valid package.json", "Check it with: npm pkg get");
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** As npm start does: server.js when no script says otherwise. */
async function processTypes(files: AppFiles, start: string | undefined): Promise<Readonly<Record<string, string>>> {
  if (start !== undefined) return { web: "npm start" };
  return (await files.has("server.js")) ? { web: "node server.js" } : {};
}
