import { fromBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ScopedRouteConfigurationSchema } from "../gen/envoy/config/route/v3/scoped_route_pb.js";
import { compileScope } from "./compile-scope.js";

describe("the scope of a group of hosts", () => {
  it("reads as Envoy's message, whatever the name", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme", minLength: 1, maxLength: 400 }), (group) => {
        const scope = fromBinary(ScopedRouteConfigurationSchema, compileScope(group).body);
        expect(scope).toMatchObject({ name: group, routeConfigurationName: group, onDemand: true });
        expect(scope.key?.fragments.map(({ type }) => type)).toEqual([{ case: "stringKey", value: group }]);
        expect(scope.$unknown).toBeUndefined();
      }),
    );
  });

  it("may lead to the routes of another group, and is another version then", () => {
    const scope = compileScope("a.example.com", "*.example.com");
    expect(fromBinary(ScopedRouteConfigurationSchema, scope.body)).toMatchObject({
      name: "a.example.com",
      routeConfigurationName: "*.example.com",
      key: { fragments: [{ type: { value: "a.example.com" } }] },
    });
    expect(scope.version).not.toBe(compileScope("a.example.com").version);
    expect(scope.version).not.toBe(compileScope("a.example.com", "*.b.example.com").version);
  });
});
