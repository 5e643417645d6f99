import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { encodeRegistration, type RegistrationInit } from "../../entries/entries.js";
import { BadMessage, MAX_MESSAGE_BYTES, parseRegistryMessage, type RegistryMessage } from "./message.js";
import { writeRegistration } from "./write-registration.js";

const parse = (message: object | string) =>
  parseRegistryMessage(Buffer.from(typeof message === "string" ? message : JSON.stringify(message)));

/** Undefined for one that is refused; any other error fails the test. */
function parseOrRefuse(data: Uint8Array): RegistryMessage | undefined {
  try {
    return parseRegistryMessage(data);
  } catch (thrown) {
    if (thrown instanceof BadMessage) return undefined;
    throw thrown;
  }
}

const FULL = {
  host: "10.0.1.5",
  port: 61_001,
  tls_port: 61_443,
  uris: ["shop.example.com/cart", "*.example.com"],
  protocol: "http2",
  app: "app-guid",
  private_instance_id: "instance-guid",
  private_instance_index: "3",
  server_cert_domain_san: "san",
  isolation_segment: "segment",
  availability_zone: "z1",
  route_service_url: "https://service.example.com",
  endpoint_updated_at_ns: 1_772_366_400_123,
  stale_threshold_in_seconds: 60,
  tags: { process_id: "process-guid", component: "route-emitter" },
  options: {
    ...{ loadbalancing: "hash", hash_header: "X-User", hash_balance: 1.25 },
    ...{ route_policy_scope: "any", route_policy_sources: "cf:space:s,cf:app:a" },
  },
};

describe("a registry message", () => {
  it("keeps all digits of the time in nanoseconds, and takes no text for it", () => {
    const at = (digits: string) =>
      parse(`{"host":"a","port":1,"endpoint_updated_at_ns": ${digits} }`).endpoint.updatedAtNs;
    expect(at("1772366400123456789")).toBe(1_772_366_400_123_456_789n);
    expect(at("9223372036854775807")).toBe(2n ** 63n - 1n);
    expect(at("0")).toBe(0n);
    expect(at("null")).toBe(0n);
    expect(() => at("9223372036854775808")).toThrow(BadMessage);
    expect(() => at("1e3")).toThrow(BadMessage);
  });

  it("does not mistake a text that looks like the time for it", () => {
    const tag = '"endpoint_updated_at_ns": 5}';
    expect(parse({ host: "a", port: 1, tags: { tag } }).endpoint.tags).toEqual([{ name: "tag", value: tag }]);
  });

  it("takes host names and IPv6 addresses for endpoints", () => {
    for (const host of ["uaa.service.cf.internal", "fd00::1", "host_1"]) {
      expect(parse({ host, port: 1 }).endpoint.address).toBe(host);
    }
  });

  it("takes any field but the host and a port as missing when it is null", () => {
    const nulls = Object.fromEntries(Object.keys(FULL).map((name) => [name, null]));
    expect(parse({ ...nulls, host: "a", port: 1 })).toEqual(parse({ host: "a", port: 1 }));
  });

  it("says which field is refused, and why", () => {
    expect(() => parse({ host: "a", port: 70_000 })).toThrow(/^port: /);
    expect(() => parse({ host: "a b", port: 1 })).toThrow(/^host: is neither an IP address nor a host name/);
    expect(() => parse({ host: "a", port: 1, route_service_url: "http://x" })).toThrow(/^route_service_url: must be/);
    expect(() => parse({ host: "a", port: 1, uris: Array(1_001).fill("a") })).toThrow(/^uris: /);
    expect(() => parse("[]")).toThrow(/^the message: /);
    expect(() => parse(" ".repeat(MAX_MESSAGE_BYTES + 1))).toThrow(/bytes/);
  });

  it("tells of sources and scopes that are not understood, and keeps the others", () => {
    const options = { route_policy_scope: "galaxy", route_policy_sources: "cf:any, cf:app:a,everybody" };
    const { endpoint, problems } = parse({ host: "a", port: 1, options });
    expect(endpoint.options).toMatchObject({ routePolicyScope: "galaxy", routePolicySources: ["cf:any", "cf:app:a"] });
    expect(problems).toHaveLength(2);
    const many = Array.from({ length: 500 }, (_, index) => `cf:app:${index}-1111-2222-3333-444444444444`).join(",");
    const large = parse({ host: "a", port: 1, options: { route_policy_scope: "org", route_policy_sources: many } });
    expect(large.endpoint.options?.routePolicySources).toHaveLength(500);
    // The shortest sources, in a message as long as it may be.
    const short = Array.from({ length: 5_700 }, (_, index) => `cf:app:${index.toString(36)}`).join(",");
    const filled = { route_policy_scope: "org", route_policy_sources: short, hash_header: "h" };
    const message = { host: "a", port: 1, options: filled, tags: {} as Record<string, string> };
    for (let tag = 0; tag < 64; tag += 1) message.tags[`${tag}`] = "x".repeat(1_024);
    const { endpoint: whole } = parse(message);
    const place = { host: "h", path: "" };
    expect(whole.options?.routePolicySources).toHaveLength(5_700);
    expect(Buffer.from(writeRegistration(whole, place, 0))).toEqual(
      Buffer.from(encodeRegistration({ ...whole, ...place, tags: [...whole.tags] } as RegistrationInit)),
    );
  });

  it("is taken or refused, whatever bytes come: what is taken is written as protobuf-es would", () => {
    const whole = Buffer.from(JSON.stringify(FULL));
    const mutated = fc
      .array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { minLength: 1, maxLength: 6 })
      .map((changes) => {
        const bytes = Buffer.from(whole);
        for (const [place, value] of changes) bytes[place] = value;
        return bytes;
      });
    const fields = fc
      .dictionary(fc.constantFrom(...Object.keys(FULL)), fc.jsonValue(), { maxKeys: 6 })
      .map((changes) => Buffer.from(JSON.stringify({ ...FULL, ...changes })));
    const strange = fc
      .string({ unit: "binary" })
      .map((text) => Buffer.from(JSON.stringify({ ...FULL, app: text, tags: { [text]: text } })));
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array({ maxLength: 300 }), mutated, fields, strange), (data) => {
        const message = parseOrRefuse(data);
        if (!message) return;
        const { endpoint, staleThresholdSeconds } = message;
        const { options, tags, ...rest } = endpoint;
        const place = { host: "a.b", path: "/c" };
        const seconds = Math.max(0, staleThresholdSeconds) % 120;
        const value = encodeRegistration({
          ...place,
          ...rest,
          ...(options && { options }),
          tags: [...tags],
          staleThresholdSeconds: seconds,
        });
        expect(Buffer.from(writeRegistration(endpoint, place, seconds))).toEqual(Buffer.from(value));
      }),
      { numRuns: 500 },
    );
  });
});
