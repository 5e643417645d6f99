import { clearScreenDown, moveCursor } from "node:readline";
import type { WriteStream } from "node:tty";
import { type AnswerTraffic, type RouteTraffic, type Traffic, WINDOW_MS } from "../jobs/traffic.js";

export interface TrafficView {
  show(traffic: Traffic, now: Date): void;
}

type Output = Pick<WriteStream, "write"> & { readonly isTTY?: boolean | undefined };

/** A table that stays in its place on a terminal; into a pipe, a line for each route that has requests. */
export function trafficView(output: Output): TrafficView {
  return output.isTTY ? terminalView(output as WriteStream) : lineView(output);
}

function lineView(output: Output): TrafficView {
  return {
    show({ routes, answers }, now) {
      const moving = routes.filter(({ isMoving }) => isMoving).map(routeRow);
      // What apps answered well is told by their routes.
      const isTelling = answers && [...answers.countByClass.keys()].some((name) => name >= "4xx");
      if (isTelling && answers.isMoving) moving.push(answerRow(answers));
      for (const row of moving) output.write(`${now.toISOString()} ${joined(row, Math.max(36, row.name.length))}\n`);
    },
  };
}

function terminalView(output: WriteStream): TrafficView {
  let height = 0;
  return {
    show(traffic) {
      const lines = trafficTable(traffic, output.columns, output.rows);
      // A terminal that became smaller has pushed the rest out.
      if (height > 0) moveCursor(output, 0, -Math.min(height, output.rows - 1));
      moveCursor(output, -output.columns, 0);
      clearScreenDown(output);
      output.write(`${lines.join("\n")}\n`);
      height = lines.length;
    },
  };
}

interface Row {
  readonly name: string;
  readonly perSecond: number;
  readonly shares: string;
}

const MARGIN = "  ";
const NUMBERS_WIDTH = " 12345.6 req/s   ".length;
const LEAST_NAME_WIDTH = 12;
const LEAST_WIDTH = 20;

/**
 * The lines of the table, at most `rows` - 1 of at most `columns` - 1 characters: the routes with the most requests
 * where there is no room for all. Long names are cut before shares are.
 */
export function trafficTable({ routes, answers }: Traffic, columns: number, rows: number): readonly string[] {
  const title = `traffic of the last ${WINDOW_MS / 1_000} s`;
  const width = Math.max(LEAST_WIDTH, columns - 1);
  // The cursor's own line below, and the head.
  const room = Math.max(1, rows - 3 - (answers ? 1 : 0));
  const fitting = routes.length <= room ? routes : busiest(routes, room - 1);
  const table = [...fitting.map(routeRow), ...(answers ? [answerRow(answers)] : [])];
  const longest = Math.max(LEAST_NAME_WIDTH, ...table.map(({ name }) => name.length));
  const shares = Math.max(0, ...table.map((row) => row.shares.length));
  const nameWidth = Math.max(LEAST_NAME_WIDTH, Math.min(longest, width - MARGIN.length - NUMBERS_WIDTH - shares));
  const lines = table.map((row) => joined(row, nameWidth));
  if (fitting.length < routes.length) {
    lines.splice(fitting.length, 0, `and ${routes.length - fitting.length} more routes`);
  }
  return ["", ...[title, ...(table.length === 0 ? ["none"] : lines)].map((line) => (MARGIN + line).slice(0, width))];
}

function busiest(routes: readonly RouteTraffic[], count: number): readonly RouteTraffic[] {
  const most = [...routes].sort((a, b) => b.requestsPerSecond - a.requestsPerSecond).slice(0, count);
  return routes.filter((route) => most.includes(route));
}

function routeRow({ route, requestsPerSecond, requestsByApp }: RouteTraffic): Row {
  return { name: route, perSecond: requestsPerSecond, shares: sharesOf(requestsByApp) };
}

function answerRow({ answersPerSecond, countByClass, withoutRoute }: AnswerTraffic): Row {
  const unknown = withoutRoute > 0 ? `   (${withoutRoute} without a route)` : "";
  return { name: "all answers", perSecond: answersPerSecond, shares: sharesOf(countByClass) + unknown };
}

function sharesOf(counts: ReadonlyMap<string, number>): string {
  const total = [...counts.values()].reduce((sum, count) => sum + count, 0);
  return [...counts]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, count]) => `${name} ${((100 * count) / total).toFixed(0)} %`)
    .join("   ");
}

function joined({ name, perSecond, shares }: Row, nameWidth: number): string {
  const fitted = name.length > nameWidth ? `${name.slice(0, nameWidth - 1)}…` : name.padEnd(nameWidth);
  return `${fitted} ${perSecond.toFixed(1).padStart(7)} req/s   ${shares}`;
}
