import { join } from "node:path";
import type { Buildpack } from "./buildpack.js";
import { compileFailed } from "./staging-error.js";
import { isInstalled } from "./environment.js";

/** Apps with a requirements.txt or a setup.py. Packages are installed into a venv by pip. */
export const pythonBuildpack: Buildpack = {
  name: "python_buildpack",
  async detect(files) {
    return (await files.has("requirements.txt")) || (await files.has("setup.py"));
  },
  async build({ files, dependencies, environment, say, run }) {
    if (!isInstalled("python3", environment["PATH"] ?? "")) {
      throw compileFailed("python3 is not installed", "Install Python 3: https://www.python.org/downloads");
    }
    const requirements = (await files.read("requirements.txt")) ?? "";
    // There is no default start command: a Procfile or `cf push -c` names it.
    const built = { detectOutput: "python", processTypes: {} };
    if (!requirements.split("\n").some((line) => /^\s*[^#\s]/.test(line))) return { ...built, path: [] };
    const venv = join(dependencies, "venv");
    say("Making a virtual environment, and installing requirements.txt with pip");
    await run({
      program: "python3",
      args: ["-m", "venv", venv],
      fix: "Install Python's venv module; on Debian and Ubuntu it is the package python3-venv",
    });
    await run({
      program: join(venv, "bin", "python"),
      args: ["-m", "pip", "install", "--disable-pip-version-check", "--requirement", "requirements.txt"],
      fix: "Check requirements.txt, and that the network can be reached",
    });
    return { ...built, path: [join(venv, "bin")] };
  },
};
