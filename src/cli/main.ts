#!/usr/bin/env node
/** The command line: one file per command; this one joins them, and turns errors into words and exit codes. */
import { Command } from "commander";
import { asError, MeshError } from "../lib/errors.js";
import { packageVersion } from "./package-version.js";
import { devCommand } from "./dev.js";
import { faultCommand } from "./fault.js";
import { jobCommand } from "./job.js";
import { statusCommand } from "./status.js";

/** What the control job follows: all of them that the file has. */
const CONTROL = ["diego", "nats", "routingApi", "copilot"] as const;

// Whoever reads the output may have enough of it: `cf-mesh fault list | head`.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") throw error;
  process.exit();
});

const program = new Command("cf-mesh")
  .description("A service mesh for Cloud Foundry: weighted routes through real Envoy proxies.")
  .version(packageVersion())
  .showHelpAfterError("(cf-mesh --help tells the commands)")
  .addCommand(devCommand())
  .addCommand(faultCommand())
  .addCommand(jobCommand("up", "all jobs of one machine in one process", ["router", "cloudController", ...CONTROL]))
  .addCommand(jobCommand("router", "the router: Envoy, and the agent that feeds it from the mesh log", ["router"]))
  .addCommand(
    jobCommand(
      "control",
      "instances from Diego, registrations from NATS and the routing API, and copilot pushes into the mesh log",
      CONTROL,
    ),
  )
  .addCommand(
    jobCommand("route-syncer", "routes from Cloud Controller into the mesh log", ["cloudController"], ["diego"]),
  )
  .addCommand(statusCommand());

try {
  await program.parseAsync();
} catch (thrown) {
  const error = asError(thrown);
  process.stderr.write(`cf-mesh: ${error instanceof MeshError ? error.message : (error.stack ?? error.message)}\n`);
  process.exitCode = 1;
}
