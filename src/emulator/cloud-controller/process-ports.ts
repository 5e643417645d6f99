import type { Process } from "./records.js";

/** Where an app listens when nobody says otherwise. */
export const DEFAULT_PORT = 8080;

/** The container ports that a process listens on; the first is its PORT. Only a web process has one unasked. */
export function openPorts(process: Process): readonly number[] {
  return process.ports ?? (process.type === "web" ? [DEFAULT_PORT] : []);
}
