/** What processes use, as Linux tells it under /proc; elsewhere it is not measured. */
import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";

/** Kernels can be built without it. */
export const canSeeProcesses = existsSync("/proc/self/schedstat");

export interface ResidentMemory {
  readonly totalBytes: number;
  /** Pages of files, which the system may take back: the mapped log, programs. */
  readonly fileBytes: number;
}

/**
 * User and system time of all threads that live, in seconds; to the nanosecond, where /proc/<pid>/stat counts hundredths.
 *
 * Source   https://docs.kernel.org/scheduler/sched-stats.html, the first field of /proc/<pid>/task/<tid>/schedstat.
 */
export async function cpuSeconds(pid: number): Promise<number> {
  const tasks = `/proc/${pid}/task`;
  const nanoseconds = await Promise.all(
    (await readdir(tasks)).map(async (thread) => {
      // Threads end while they are looked at.
      const times = await readFile(`${tasks}/${thread}/schedstat`, "utf8").catch(() => "0");
      return Number(times.split(" ")[0]);
    }),
  );
  return nanoseconds.reduce((sum, time) => sum + time, 0) / 1e9;
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

export async function parentPid(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  const parent = /^PPid:\s+(\d+)/m.exec(status)?.[1];
  if (parent === undefined) throw new Error(`process ${pid} has no parent`);
  return Number(parent);
}
