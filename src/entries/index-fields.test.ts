import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { decodeRegistration, decodeRoute, encodeRegistration, encodeRoute } from "./entries.js";
import { registrationIndexFields, routeIndexFields } from "./index-fields.js";

const text = fc.string({ unit: "grapheme", maxLength: 300 });

describe("the fields of an index", () => {
  it("are those of the decoded route", () => {
    const route = fc.record({
      guid: text,
      host: text,
      path: text,
      internal: fc.boolean(),
      vip: text,
      protocol: text,
      options: fc.record({ hashHeader: text, routePolicyScope: text, routePolicySources: fc.array(text) }),
      destinations: fc.array(
        fc.record({ processGuid: text, appGuid: text, weight: fc.nat(), port: fc.nat(), processType: text }),
        { maxLength: 3 },
      ),
      port: fc.nat(),
      annotations: fc.array(fc.record({ name: text, value: text }), { maxLength: 2 }),
      routeServiceUrl: text,
    });
    fc.assert(
      fc.property(route, (init) => {
        const bytes = encodeRoute(init);
        const { host, path, internal, protocol, destinations, annotations, routeServiceUrl, options } =
          decodeRoute(bytes);
        const processGuids = destinations.map(({ processGuid }) => processGuid);
        expect(routeIndexFields(bytes)).toEqual({
          host,
          path,
          internal,
          protocol,
          processGuids,
          isAnnotated: annotations.length > 0,
          hasRouteService: routeServiceUrl !== "",
          hasPolicyScope: options?.routePolicyScope !== "",
        });
      }),
    );
  });

  it("are those of the decoded registration", () => {
    const registration = fc.record({
      host: text,
      path: text,
      port: fc.nat(),
      tls: fc.boolean(),
      processGuid: text,
      isolationSegment: text,
      options: fc.record({ loadbalancing: text, routePolicyScope: text }),
      routeServiceUrl: text,
      updatedAtNs: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
      tags: fc.array(fc.record({ name: text, value: text }), { maxLength: 3 }),
    });
    fc.assert(
      fc.property(registration, (init) => {
        const bytes = encodeRegistration(init);
        const { host, path, processGuid, isolationSegment, routeServiceUrl, options } = decodeRegistration(bytes);
        const hasRouteService = routeServiceUrl !== "";
        const hasPolicyScope = (options?.routePolicyScope ?? "") !== "";
        const fields = { host, path, processGuid, isolationSegment, hasRouteService, hasPolicyScope };
        expect(registrationIndexFields(bytes)).toEqual(fields);
      }),
    );
  });

  it("pass over what a newer writer adds, of any wire type", () => {
    const known = encodeRegistration({ host: "a.example.com" });
    // Fields 100 to 103: a varint, 8 bytes, text, 4 bytes.
    const added = [
      0xa0, 0x06, 0xff, 0x01, 0xa9, 0x06, 1, 2, 3, 4, 5, 6, 7, 8, 0xb2, 0x06, 1, 65, 0xbd, 0x06, 1, 2, 3, 4,
    ];
    const bytes = Uint8Array.from([...added, ...known, ...added]);
    expect(decodeRegistration(bytes).host).toBe("a.example.com");
    expect(registrationIndexFields(bytes).host).toBe("a.example.com");
  });

  it("are refused where the bytes end within a field, or begin none", () => {
    const whole = encodeRegistration({ host: "a.example.com" });
    for (const bytes of [whole.subarray(0, -1), Uint8Array.of(0x0a), Uint8Array.of(0x0f), Uint8Array.of(0x80, 0x80)]) {
      expect(() => registrationIndexFields(bytes)).toThrow("an entry");
    }
  });
});
