import { Command, InvalidArgumentError } from "commander";
import { DEV_DEFAULTS } from "../jobs/dev-defaults.js";
import type { DevFlags } from "./run-dev.js";

export function devCommand(): Command {
  return new Command("dev")
    .description("a laptop foundation with two sample apps, and the mesh before it")
    .option("--host <address>", "address to listen on", DEV_DEFAULTS.host)
    .option("-p, --port <port>", "the router's port", parsePort, DEV_DEFAULTS.routerPort)
    .option("--api-port <port>", "Cloud Controller's port", parsePort, DEV_DEFAULTS.apiPort)
    .option(
      "--domain <name...>",
      "app domains; the sample routes are made on the first",
      // commander hands the default over as the first value.
      (name: string, before: readonly string[]) => (before === DEV_DEFAULTS.domains ? [name] : [...before, name]),
      DEV_DEFAULTS.domains as readonly string[],
    )
    .option("--state <directory>", "sockets, logs and certificates; emptied at the start", DEV_DEFAULTS.stateDirectory)
    .option("--concurrency <threads>", "Envoy's worker threads", parseCount, DEV_DEFAULTS.concurrency)
    .option("--envoy <file>", "the Envoy to run")
    .action(async (flags: DevFlags) => {
      // Loaded when needed: a router has no use for a foundation.
      const { runDev } = await import("./run-dev.js");
      await runDev(flags);
    });
}

function parsePort(text: string): number {
  const port = Number(text);
  if (!Number.isInteger(port) || port < 1 || port > 65_535) throw new InvalidArgumentError("a port is 1 to 65535");
  return port;
}

function parseCount(text: string): number {
  const count = Number(text);
  if (!Number.isInteger(count) || count < 1) throw new InvalidArgumentError("give a whole number from 1 on");
  return count;
}
