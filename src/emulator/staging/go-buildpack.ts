import { basename, join } from "node:path";
import type { Buildpack } from "./buildpack.js";
import { compileFailed } from "./staging-error.js";
import { isInstalled } from "./environment.js";

/** Apps with a go.mod. GO_INSTALL_PACKAGE_SPEC in the app's environment names the package of its main, as on CF. */
export const goBuildpack: Buildpack = {
  name: "go_buildpack",
  detect: (files) => files.has("go.mod"),
  async build({ files, dependencies, environment, say, run }) {
    if (!isInstalled("go", environment["PATH"] ?? "")) {
      throw compileFailed("go is not installed", "Install Go: https://go.dev/dl");
    }
    const module = /^\s*module\s+"?([^\s"]+)/m.exec((await files.read("go.mod")) ?? "")?.[1];
    if (module === undefined) throw compileFailed("go.mod names no module", "Make one with: go mod init NAME");
    const target = environment["GO_INSTALL_PACKAGE_SPEC"] ?? ".";
    // The version suffix of a module path ("/v2") is no name.
    const program = basename(module.replace(/\/v\d+$/, ""));
    const folder = join(dependencies, "bin");
    say(`Building ${target} of ${module}: go build`);
    await run({
      program: "go",
      args: ["build", "-buildvcs=false", "-o", join(folder, program), target],
      fix: "When modules can't be downloaded, push with the folder vendor (go mod vendor)",
    });
    return { detectOutput: "go", processTypes: { web: program }, path: [folder] };
  },
};
