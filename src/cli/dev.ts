import { isIPv4 } from "node:net";
import { Command, InvalidArgumentError } from "commander";
import { DEV_DEFAULTS } from "../jobs/dev-defaults.js";
import { MeshError } from "../lib/errors.js";
import type { DevFlags } from "./run-dev.js";

const AFTER_HELP = `
All of it listens on loopback, needs no account, no containers and no root. What was pushed and mapped survives a
restart: the foundation's state, the mesh log, certificates and logs stay in the state directory, until --fresh or until
you remove it. Ctrl-C stops everything; so does kill -9, within a second.

Examples:
  cf-mesh dev                                    both: the foundation, and the mesh before it
  cf-mesh dev --fresh --domain apps.localhost    begin anew, with another app domain
  cf-mesh dev --foundation-only                  a foundation to point a mesh of your own at
  cf-mesh fault list                             what can go wrong on purpose in a foundation that runs
`;

export function devCommand(): Command {
  return new Command("dev")
    .description("a laptop foundation (UAA, Cloud Controller, Diego, NATS) with sample apps, and the mesh before it")
    .option("--host <address>", "IPv4 address to listen on", parseAddress, DEV_DEFAULTS.host)
    .option("-p, --port <port>", "the router's port", parsePort, DEV_DEFAULTS.routerPort)
    .option("--api-port <port>", "port of Cloud Controller and UAA themselves", parsePort, DEV_DEFAULTS.apiPort)
    .option(
      "--domain <name...>",
      "app domains; the sample routes are made on the first",
      // commander hands the default over as the first value.
      (name: string, before: readonly string[]) =>
        before === DEV_DEFAULTS.domains ? [parseDomain(name)] : [...before, parseDomain(name)],
      DEV_DEFAULTS.domains as readonly string[],
    )
    .option(
      "--system-domain <name>",
      "where api., uaa. and login. are reached through the router",
      parseDomain,
      DEV_DEFAULTS.systemDomain,
    )
    .option(
      "--state <directory>",
      "what a restart finds again, sockets and logs; has to be new, empty, or of an earlier start",
      DEV_DEFAULTS.stateDirectory,
    )
    .option("--fresh", "begin anew: remove what an earlier start kept in the state directory", false)
    .option("--foundation-only", "no mesh and no sample apps: just the foundation, and how to reach it", false)
    .option("--concurrency <threads>", "Envoy's worker threads", parseCount, DEV_DEFAULTS.concurrency)
    .option("--envoy <file>", "the Envoy to run; default: one on PATH, else the one that scripts/setup got")
    .addHelpText("after", AFTER_HELP)
    .action(async (flags: DevFlags) => {
      checkTogether(flags);
      // Loaded when needed: a router has no use for a foundation.
      const { runDev } = await import("./run-dev.js");
      await runDev(flags);
    });
}

/** What each flag alone does not show. */
function checkTogether({ port, apiPort, domain, systemDomain, foundationOnly }: DevFlags): void {
  const problems = [
    ...(port === apiPort && !foundationOnly ? [`--port and --api-port are both ${port}`] : []),
    ...(domain.includes(systemDomain) ? [`--system-domain and --domain are both ${systemDomain}`] : []),
  ];
  if (problems.length === 0) return;
  throw new MeshError("MESH_CONFIG_INVALID", `${problems.join("; ")}; nothing was started`, "give each its own");
}

function parseAddress(text: string): string {
  if (!isIPv4(text)) throw new InvalidArgumentError("Give an IPv4 address of this machine, as in 127.0.0.1.");
  return text;
}

/** Of two words at least, as Cloud Controller takes it. */
const DOMAIN = /^(?=.{3,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;

function parseDomain(text: string): string {
  const name = text.toLowerCase();
  if (!DOMAIN.test(name)) {
    throw new InvalidArgumentError(
      "A domain is two or more words of letters, digits and dashes, as in apps.localhost.",
    );
  }
  return name;
}

function parsePort(text: string): number {
  const port = Number(text);
  if (!Number.isInteger(port) || port < 1 || port > 65_535) throw new InvalidArgumentError("A port is 1 to 65535.");
  return port;
}

function parseCount(text: string): number {
  const count = Number(text);
  if (!Number.isInteger(count) || count < 1) throw new InvalidArgumentError("Give a whole number from 1 on.");
  return count;
}
