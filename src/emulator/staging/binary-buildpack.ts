import type { Buildpack } from "./buildpack.js";

/** Anything that brings its own start command: in a Procfile, or with `cf push -c`. */
export const binaryBuildpack: Buildpack = {
  name: "binary_buildpack",
  detect: (files) => files.has("Procfile"),
  build: () => Promise.resolve({ detectOutput: "binary", processTypes: {}, path: [] }),
};
