/** What processes use, as Linux tells it under /proc; elsewhere it is not measured. */
import { readdir, readFile } from "node:fs/promises";

export const canSeeProcesses = process.platform === "linux";

export interface ResidentMemory {
  readonly totalBytes: number;
  /** Pages of files, which the system may take back: the mapped log, programs. */
  readonly fileBytes: number;
}

/** Ticks of /proc/<pid>/stat per second: USER_HZ, which is 100 for programs whatever the kernel's own clock is. */
const TICKS_PER_SECOND = 100;

/** User and system time of all threads since the process began, in seconds. */
export async function cpuSeconds(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8");
  // The name, in parentheses, may hold anything. State follows, and ten fields on user and system time.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

export async function residentMemory(pid: number): Promise<ResidentMemory> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  const bytes = (field: string) => Number(new RegExp(`^${field}:\\s+(\\d+) kB`, "m").exec(status)?.[1] ?? 0) * 1_024;
  return { totalBytes: bytes("VmRSS"), fileBytes: bytes("RssFile") };
}

/** The process that was started with this argument. Throws when there is none. */
export async function pidByArgument(wanted: string): Promise<number> {
  for (const name of await readdir("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    // Processes end while they are looked at.
    const command = await readFile(`/proc/${name}/cmdline`, "utf8").catch(() => "");
    if (command.split("\0").includes(wanted)) return Number(name);
  }
  throw new Error(`no process was started with ${wanted}`);
}
