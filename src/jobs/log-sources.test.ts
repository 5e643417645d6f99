import { fromBinary } from "@bufbuild/protobuf";
import { beforeEach, describe, expect, it } from "vitest";
import { COMPLETE_RECORD } from "../../test/support/request-record.js";
import { encodeProcess, encodeRegistration, encodeRoute } from "../entries/entries.js";
import { EnvelopeSchema } from "../gen/loggregator/v2/loggregator_pb.js";
import { RoutingTable } from "../model/routing-table.js";
import { LogSources } from "./log-sources.js";

describe("whose log a request belongs to", () => {
  let table: RoutingTable;
  let lookUps: number;
  beforeEach(() => {
    table = new RoutingTable({ dialsTls: false });
    lookUps = 0;
  });

  const counted = {
    pathRoute(place: string) {
      lookUps += 1;
      return table.pathRoute(place);
    },
    registeredTags: (place: string) => table.registeredTags(place),
  };
  const processOf = (host: string) => host.replaceAll(/[.*]/g, "-");
  const serve = (host: string, path: string, appName: string, instances: readonly number[]) =>
    table.apply([
      {
        key: `route.cc.${processOf(host)}`,
        value: encodeRoute({
          guid: host,
          ...{ host, path },
          destinations: [
            { processGuid: processOf(host), appGuid: `${host}-app`, appName, port: 8080, protocol: "http1" },
          ],
        }),
      },
      {
        key: `process.bbs.${processOf(host)}`,
        value: encodeProcess({
          processGuid: processOf(host),
          appGuid: `${host}-app`,
          instances: instances.map((index) => ({
            guid: `instance-${index}`,
            index,
            address: index === 9 ? "fd00::9" : `10.0.0.${index}`,
            ports: [{ containerPort: 8080, hostPort: 61_000 }],
          })),
        }),
      },
    ]);
  const sourceOf = (sources: LogSources, cluster: string, index: number, host = "shop.test") => {
    const backend = index === 9 ? "[fd00::9]:61000" : `10.0.0.${index}:61000`;
    const of = { cluster, backend, appId: `${host}-app`, appIndex: String(index), instanceId: `instance-${index}` };
    const { sourceId, instanceId, tags } = fromBinary(EnvelopeSchema, sources.of({ ...COMPLETE_RECORD, ...of }));
    return { sourceId, instanceId, tags };
  };

  it("is said with all tags of an app that gets certain requests alone", () => {
    serve("shop.test", "", "shop", [1]);
    serve("other.test", "", "other", [2]);
    const destination = (name: string) => ({
      processGuid: `${name}-test`,
      appGuid: `${name}.test-app`,
      appName: name,
      port: 8080,
      protocol: "http1",
    });
    table.apply([
      {
        key: "route.cc.both",
        value: encodeRoute({
          guid: "both",
          host: "both.test",
          destinations: [destination("other"), destination("shop")],
          annotations: [
            { name: "cf-mesh.local/match", value: "header X-Tester=yes -> shop" },
            { name: "cf-mesh.local/match-only", value: "shop" },
          ],
        }),
      },
    ]);
    const { tags } = sourceOf(new LogSources(counted, 0), "both.test|http1|shop", 1);
    expect(tags).toMatchObject({ app_name: "shop", process_id: "shop-test" });
  });

  it("is said with the tags of its endpoint, looked up once for all of a route, and again when they moved", () => {
    serve("shop.test", "/cart", "shop", [1, 2, 9]);
    const sources = new LogSources(counted, 3);
    for (const index of [1, 2, 9, 1, 2, 9]) {
      expect(sourceOf(sources, "shop.test/cart|http1", index)).toEqual({
        sourceId: "shop.test-app",
        instanceId: "3",
        tags: {
          app_id: "shop.test-app",
          app_name: "shop",
          component: "route-emitter",
          instance_id: String(index),
          origin: "gorouter",
          process_id: "shop-test",
          process_instance_id: `instance-${index}`,
          source_type: "RTR",
        },
      });
    }
    expect([lookUps, sources.count]).toEqual([1, 3]);
    sources.forget(serve("shop.test", "/cart", "store", [1, 2]));
    expect(sources.count).toBe(0);
    expect(sourceOf(sources, "shop.test/cart|http1", 1).tags["app_name"]).toBe("store");
    expect(lookUps).toBe(2);
  });

  it("has all tags that NATS tells of an instance, once it looks again: they move nothing", () => {
    serve("shop.test", "", "shop", [1]);
    const sources = new LogSources(counted, 0);
    const tags = () => sourceOf(sources, "shop.test|http1", 1).tags;
    expect(tags()["space_name"]).toBeUndefined();
    const moved = table.apply([
      {
        key: "registration.nats.one",
        value: encodeRegistration({
          ...{ host: "shop.test", address: "10.0.0.1", port: 61_000, appGuid: "shop.test-app", protocol: "http1" },
          ...{ processGuid: "shop-test", instanceGuid: "instance-1", instanceIndex: "1" },
          tags: [
            { name: "app_name", value: "shop" },
            { name: "source_id", value: "shop.test-app" },
            { name: "space_name", value: "dev" },
          ],
        }),
      },
    ]);
    expect([...moved]).toEqual([]);
    sources.forgetAll();
    expect(tags()).toEqual({ app_name: "shop", space_name: "dev", origin: "gorouter", source_type: "RTR" });
  });

  it("finds routes of wildcard hosts, and of shares that are told apart", () => {
    serve("*.shop.test", "", "shop", [1]);
    const sources = new LogSources(counted, 0);
    for (const cluster of ["*.shop.test|http1", "*.shop.test|http1|some:share"]) {
      expect(sourceOf(sources, cluster, 1, "*.shop.test").tags["app_name"]).toBe("shop");
    }
  });

  it("is said by the request itself when its instance is gone, or its address is another's by now", () => {
    serve("shop.test", "", "shop", [1]);
    const sources = new LogSources(counted, 0);
    expect(sourceOf(sources, "shop.test|http1", 2)).toEqual({
      ...{ sourceId: "shop.test-app", instanceId: "0" },
      tags: {
        ...{ app_id: "shop.test-app", instance_id: "2", process_instance_id: "instance-2" },
        ...{ origin: "gorouter", source_type: "RTR" },
      },
    });
    const another = sourceOf(sources, "shop.test|http1", 1, "other.test");
    expect([another.sourceId, another.tags["app_name"]]).toEqual(["other.test-app", undefined]);
  });

  it("keeps no more endpoints than it may", () => {
    const sources = new LogSources(counted, 0, 5);
    for (let number = 0; number < 20; number += 1) {
      serve(`${number}.test`, "", "shop", [1, 2]);
      sourceOf(sources, `${number}.test|http1`, 1, `${number}.test`);
      expect(sources.count).toBeLessThanOrEqual(5);
    }
  });
});
