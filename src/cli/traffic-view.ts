import { clearScreenDown, moveCursor } from "node:readline";
import type { WriteStream } from "node:tty";
import type { RouteTraffic } from "../jobs/traffic.js";

export interface TrafficView {
  show(traffic: readonly RouteTraffic[], now: Date): void;
  /** Leaves what is shown, and the cursor below it. */
  end(): void;
}

type Output = Pick<WriteStream, "write"> & { readonly isTTY?: boolean | undefined };

/** A table that stays in its place on a terminal; into a pipe, a line for each route that had requests. */
export function trafficView(output: Output): TrafficView {
  return output.isTTY ? terminalView(output as WriteStream) : lineView(output);
}

function lineView(output: Output): TrafficView {
  return {
    show(traffic, now) {
      for (const route of traffic) output.write(`${now.toISOString()} ${describe(route)}\n`);
    },
    end: () => undefined,
  };
}

function terminalView(output: WriteStream): TrafficView {
  /** Routes stay in the table, so that it does not jump; a quiet one shows its last shares. */
  const rows = new Map<string, RouteTraffic>();
  let height = 0;
  return {
    show(traffic) {
      for (const [name, row] of rows) rows.set(name, { ...row, requestsPerSecond: 0 });
      for (const route of traffic) rows.set(route.route, route);
      const width = Math.max(20, output.columns);
      const lines = [
        "",
        "  traffic of the last second",
        ...(rows.size === 0 ? ["  none yet"] : [...rows.values()].map((row) => `  ${describe(row)}`)),
      ].map((line) => line.slice(0, width - 1));
      if (height > 0) moveCursor(output, 0, -height);
      clearScreenDown(output);
      output.write(`${lines.join("\n")}\n`);
      height = lines.length;
    },
    end: () => undefined,
  };
}

function describe({ route, requestsPerSecond, requestsByApp }: RouteTraffic): string {
  const total = [...requestsByApp.values()].reduce((sum, count) => sum + count, 0);
  const shares = [...requestsByApp]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([app, count]) => `${app} ${((100 * count) / total).toFixed(0)} %`);
  return `${route.padEnd(36)} ${requestsPerSecond.toFixed(1).padStart(8)} req/s   ${shares.join("   ")}`;
}
