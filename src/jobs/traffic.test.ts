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
  const table = new RoutingTable();
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

describe("the traffic between two samples", () => {
  it("is told by route and app, from the second sample on", () => {
    const traffic = meter();
    expect(traffic.sample([endpoint(61_001, 5), endpoint(61_002, 5)], 1_000)).toEqual([]);
    expect(traffic.sample([endpoint(61_001, 23), endpoint(61_002, 7)], 3_000)).toEqual([
      {
        route: "greet.example.com/es",
        requestsPerSecond: 10,
        requestsByApp: new Map([
          ["hello", 18],
          ["g2", 2],
        ]),
      },
    ]);
  });

  it("leaves out routes without requests, and clusters that are no route's", () => {
    const traffic = meter();
    traffic.sample([endpoint(61_001, 5)], 1_000);
    expect(traffic.sample([endpoint(61_001, 5), endpoint(1, 9, "cf-mesh-agent")], 2_000)).toEqual([]);
  });

  it("counts an endpoint that began anew from zero", () => {
    const traffic = meter();
    traffic.sample([endpoint(61_001, 50)], 1_000);
    expect(traffic.sample([endpoint(61_001, 3)], 2_000)[0]?.requestsPerSecond).toBe(3);
  });
});
