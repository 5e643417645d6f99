import { describe, expect, it } from "vitest";
import { encodeProcess, encodeRoute } from "../entries/entries.js";
import { RoutingTable } from "../model/routing-table.js";
import { TrafficMeter } from "./traffic.js";

const endpoint = (port: number, total: number, cluster = "greet.example.com/es|http1") => ({
  cluster,
  address: "127.0.0.1",
  port,
  stats: new Map([["rq_total", total]]),
});

function meter(): TrafficMeter {
  const table = new RoutingTable({ dialsTls: false });
  const instance = (hostPort: number) => [{ address: "127.0.0.1", ports: [{ containerPort: 8080, hostPort }] }];
  table.apply([
    {
      key: "route.cc.r1",
      value: encodeRoute({
        host: "greet.example.com",
        path: "/es",
        destinations: [
          { processGuid: "p1", appGuid: "g1", appName: "hello", port: 8080 },
          { processGuid: "p2", appGuid: "g2", port: 8080 },
        ],
      }),
    },
    { key: "process.bbs.p1", value: encodeProcess({ instances: instance(61_001) }) },
    { key: "process.bbs.p2", value: encodeProcess({ instances: instance(61_002) }) },
  ]);
  return new TrafficMeter(table);
}

const NO_ANSWERS = new Map<string, number>();

describe("the traffic between two samples", () => {
  it("is told by route and app, from the second sample on", () => {
    const traffic = meter();
    const first = { endpoints: [endpoint(61_001, 5), endpoint(61_002, 5)], answers: NO_ANSWERS };
    expect(traffic.sample(first, 1_000)).toEqual({ routes: [], answers: undefined });
    const second = { endpoints: [endpoint(61_001, 23), endpoint(61_002, 7)], answers: NO_ANSWERS };
    expect(traffic.sample(second, 3_000).routes).toEqual([
      {
        route: "greet.example.com/es",
        requestsPerSecond: 10,
        requestsByApp: new Map([
          ["hello", 18],
          ["g2", 2],
        ]),
        isMoving: true,
      },
    ]);
  });

  it("is told by route and app where apps have clusters of their own, too", () => {
    const traffic = meter();
    const of = (total: number) => [endpoint(61_001, total, "greet.example.com/es|http1|hello")];
    traffic.sample({ endpoints: of(5), answers: NO_ANSWERS }, 1_000);
    const [route] = traffic.sample({ endpoints: of(7), answers: NO_ANSWERS }, 2_000).routes;
    expect(route).toMatchObject({ route: "greet.example.com/es", requestsByApp: new Map([["hello", 2]]) });
  });

  it("leaves out routes without requests, and clusters that are no route's", () => {
    const traffic = meter();
    traffic.sample({ endpoints: [endpoint(61_001, 5)], answers: NO_ANSWERS }, 1_000);
    const endpoints = [endpoint(61_001, 5), endpoint(1, 9, "cf-mesh-agent")];
    expect(traffic.sample({ endpoints, answers: NO_ANSWERS }, 2_000).routes).toEqual([]);
  });

  it("counts an endpoint that began anew from zero", () => {
    const traffic = meter();
    traffic.sample({ endpoints: [endpoint(61_001, 50)], answers: NO_ANSWERS }, 1_000);
    const { routes } = traffic.sample({ endpoints: [endpoint(61_001, 3)], answers: NO_ANSWERS }, 2_000);
    expect(routes[0]?.requestsPerSecond).toBe(3);
  });

  it("is looked at over a sliding window: shares do not depend on where a second ends, and idle routes leave", () => {
    const traffic = meter();
    const at = (seconds: number, hello: number, other: number) =>
      traffic.sample(
        { endpoints: [endpoint(61_001, hello), endpoint(61_002, other)], answers: NO_ANSWERS },
        seconds * 1_000,
      ).routes;
    at(0, 0, 0);
    at(1, 40, 0);
    expect(at(2, 90, 10)[0]?.requestsByApp).toEqual(
      new Map([
        ["hello", 90],
        ["g2", 10],
      ]),
    );
    expect(at(4, 90, 10)[0]).toMatchObject({ requestsPerSecond: 25, isMoving: false });
    expect(at(7, 90, 10)).toEqual([]);
  });

  it("tells what was answered by class, and how much had no route", () => {
    const traffic = meter();
    const at = (seconds: number, ok: number, notFound: number, unavailable: number, withoutRoute: number) => {
      const answers = new Map([
        ["downstream_rq_2xx", ok],
        ["downstream_rq_4xx", notFound],
        ["downstream_rq_5xx", unavailable],
        ["no_route", withoutRoute],
      ]);
      return traffic.sample({ endpoints: [], answers }, seconds * 1_000).answers;
    };
    at(0, 5, 5, 5, 5);
    expect(at(1, 11, 8, 5, 7)).toEqual({
      answersPerSecond: 9,
      countByClass: new Map([
        ["2xx", 6],
        ["4xx", 3],
      ]),
      withoutRoute: 2,
      isMoving: true,
    });
    expect(at(10, 11, 8, 5, 7)).toBeUndefined();
  });
});
