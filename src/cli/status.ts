import { existsSync } from "node:fs";
import { request } from "node:http";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { Command } from "commander";
import { DEV_DEFAULTS } from "../jobs/dev-defaults.js";
import { asError, MeshError } from "../lib/errors.js";

/** Prints what a running job tells of itself, as JSON. */
export function statusCommand(): Command {
  return new Command("status")
    .description("what a running router has: routes, the place in the log, what Envoy accepted and refused (JSON)")
    .option(
      "-d, --directory <directory>",
      "the router's run directory, or the state directory of cf-mesh dev",
      DEV_DEFAULTS.stateDirectory,
    )
    .action(async ({ directory }: { directory: string }) => {
      const ofState = join(directory, "run", "api.sock");
      const body = await read(existsSync(ofState) ? ofState : join(directory, "api.sock"));
      process.stdout.write(`${JSON.stringify(JSON.parse(body), undefined, 2)}\n`);
    });
}

function read(socketPath: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const call = request({ socketPath, path: "/status" }, (response) => {
      text(response).then(resolve, reject);
    });
    call.once("error", (error) => {
      reject(
        new MeshError(
          "MESH_STATUS_UNAVAILABLE",
          `no job answers on ${socketPath} (${asError(error).message})`,
          "start one, or name its router.runDirectory (cf-mesh dev: its --state) with --directory",
          { cause: error },
        ),
      );
    });
    call.end();
  });
}
