import { Writable } from "node:stream";
import { describe, expect, it } from "vitest";
import type { RouteTraffic, Traffic } from "../jobs/traffic.js";
import { trafficTable, trafficView } from "./traffic-view.js";

const route = (name: string, requestsPerSecond = 100): RouteTraffic => ({
  route: name,
  requestsPerSecond,
  requestsByApp: new Map([
    ["hola", 10],
    ["hello", 90],
  ]),
  isMoving: true,
});

const answers = {
  answersPerSecond: 4,
  countByClass: new Map([
    ["2xx", 10],
    ["4xx", 5],
    ["5xx", 5],
  ]),
  withoutRoute: 4,
  isMoving: true,
};

const QUIET: Traffic = { routes: [], answers: undefined };

it("writes plain lines when its output is no terminal: routes that have requests, and answers that are no success", () => {
  let written = "";
  const output = new Writable({
    write(chunk: Buffer, _encoding, done) {
      written += chunk.toString();
      done();
    },
  });
  const view = trafficView(output);
  const served = { ...answers, countByClass: new Map([["2xx", 10]]), withoutRoute: 0 };
  view.show({ routes: [route("greet.example.com")], answers: served }, new Date(0));
  view.show({ routes: [{ ...route("greet.example.com"), isMoving: false }], answers: undefined }, new Date(1_000));
  view.show({ routes: [], answers }, new Date(2_000));
  view.show(QUIET, new Date(3_000));
  const [first, second, ...rest] = written.split("\n");
  expect(first).toMatch(/^1970-01-01T00:00:00.000Z greet\.example\.com +100\.0 req\/s +hello 90 % +hola 10 %$/);
  expect(second).toMatch(
    /^1970-01-01T00:00:02.000Z all answers +4\.0 req\/s +2xx 50 % +4xx 25 % +5xx 25 % +\(4 without a route\)$/,
  );
  expect(rest).toEqual([""]);
});

describe("the table on a terminal", () => {
  it("has a line for each route, and one for all answers", () => {
    expect(trafficTable({ routes: [route("a.example.com"), route("b.example.com")], answers }, 100, 30)).toEqual([
      "",
      "  traffic of the last 5 s",
      "  a.example.com   100.0 req/s   hello 90 %   hola 10 %",
      "  b.example.com   100.0 req/s   hello 90 %   hola 10 %",
      "  all answers       4.0 req/s   2xx 50 %   4xx 25 %   5xx 25 %   (4 without a route)",
    ]);
    expect(trafficTable(QUIET, 100, 30)).toEqual(["", "  traffic of the last 5 s", "  none"]);
  });

  it("cuts names rather than shares where the terminal is narrow", () => {
    const [, , line] = trafficTable(
      { routes: [route(`${"long".repeat(20)}.example.com`)], answers: undefined },
      60,
      30,
    );
    expect(line).toHaveLength(59);
    expect(line).toMatch(/^ {2}long[long]+… +100\.0 req\/s {3}hello 90 % {3}hola 10 %$/);
  });

  it("is never higher than the terminal: the busiest routes stay", () => {
    const routes = Array.from({ length: 50 }, (_, index) => route(`r${index}`, index));
    const lines = trafficTable({ routes, answers }, 100, 10);
    expect(lines).toHaveLength(9);
    expect(lines.join("\n")).toContain("r49");
    expect(lines.join("\n")).not.toContain("r1 ");
    expect(lines.at(-2)).toBe("  and 45 more routes");
  });
});
