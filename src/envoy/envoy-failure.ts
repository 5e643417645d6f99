import { MeshError } from "../lib/errors.js";
import type { EnvoyExit } from "./keeper-protocol.js";

/** How much of Envoy's own words an error repeats. */
const QUOTED_LINE_COUNT = 5;
const QUOTED_LINE_CHARACTERS = 1_000;

/**
 * Why Envoy ended, from its last words.
 *
 * Returns  MESH_PORT_TAKEN when a listener's port has another owner; else MESH_ENVOY_FAILED with Envoy's own lines.
 * Input    `goesOn`: what happens now, as in "starting it again in 100 ms".
 */
export function envoyFailure(exit: EnvoyExit, goesOn: string): MeshError {
  const said = exit.lastLines.join("\n");
  const bind = /cannot bind '([^'/]+):(\d+)': ([^\n`]+)/.exec(said);
  const [, address = "", port = "", reason = ""] = bind ?? [];
  if (bind && reason.startsWith("Address already in use")) {
    return new MeshError(
      "MESH_PORT_TAKEN",
      `Envoy can't listen on ${address}:${port}, another process does; ${goesOn}`,
      `stop that process (ss -ltnp 'sport = :${port}' names it), or set another router.port`,
    );
  }
  if (bind && reason.startsWith("Permission denied")) {
    return new MeshError(
      "MESH_ENVOY_FAILED",
      `Envoy may not listen on ${address}:${port}; ${goesOn}`,
      `set a router.port from 1024 on, or give the envoy binary CAP_NET_BIND_SERVICE`,
    );
  }
  return new MeshError(
    "MESH_ENVOY_FAILED",
    `Envoy ended (${ending(exit)}); ${goesOn}. Its last words:${quote(exit.lastLines)}`,
    adviceFor(exit.signal),
  );
}

function adviceFor(signal: string | null): string {
  switch (signal) {
    case null:
      return "see envoy.log in the run directory; what Envoy refuses there is the bootstrap, or a file that it names";
    case "SIGKILL":
      return "none needed if somebody killed it; else see whether the machine ran out of memory (dmesg tells)";
    case "SIGTERM":
    case "SIGINT":
      return "none needed if somebody stopped it; to stop it for good, stop the router";
    default:
      return "Envoy crashed: see envoy.log in the run directory, and report what it says there to Envoy's developers";
  }
}

function ending({ code, signal }: EnvoyExit): string {
  if (signal !== null) return `signal ${signal}`;
  return code === null ? "it could not be started" : `exit code ${code}`;
}

function quote(lines: readonly string[]): string {
  const telling = lines.filter((line) => !/\]\[(trace|debug|info|warning)\]\[/.test(line)).slice(-QUOTED_LINE_COUNT);
  if (telling.length === 0) return " none";
  return telling.map((line) => `\n    ${line.slice(0, QUOTED_LINE_CHARACTERS)}`).join("");
}
