import { describe, expect, it } from "vitest";
import { COMPLETE_RECORD as COMPLETE } from "../../test/support/request-record.js";
import { type LineOptions, lineWriter } from "./access-line.js";
import { recordFormat, type RequestRecord } from "./record.js";

const OPTIONS: LineOptions = {
  format: "gorouter",
  redactQueryParameters: "none",
  hideForwardedFor: false,
  hideSourceIp: false,
  extraFields: [],
  extraHeaders: [],
};
const SEPARATOR = "\u001f";

const line = (record: Partial<RequestRecord> = {}, options: Partial<LineOptions> = {}) =>
  lineWriter({ ...OPTIONS, ...options })({ ...COMPLETE, ...record });

describe("a line of the access log", () => {
  it("is Gorouter's, byte for byte", () => {
    expect(line()).toBe(
      'FakeRequestHost - [2000-01-01T00:00:00.000000000Z] "FakeRequestMethod http://example.com/request FakeRequestProto" ' +
        '200 30 23 "FakeReferer" "FakeUserAgent" "10.0.0.9:4711" "1.2.3.4:1234" ' +
        'x_forwarded_for:"FakeProxy1, FakeProxy2" x_forwarded_proto:"FakeOriginalRequestProto" ' +
        'vcap_request_id:"abc-123-xyz-pdq" response_time:60.000000 gorouter_time:10.000000 app_id:"FakeApplicationId" ' +
        'app_index:"3" instance_id:"FakeInstanceId" x_cf_routererror:"some-router-error"',
    );
  });

  it("has a dash for what there is not, and sizes of 0", () => {
    const nothing = {
      status: 0,
      durationMs: 0,
      responseUs: undefined,
      appUs: undefined,
      routerError: "",
      backend: "",
      appId: "",
      requestBytes: 0,
      responseBytes: 0,
      referer: "",
      userAgent: "",
      client: "",
      forwardedFor: "",
      forwardedProto: "",
      requestId: "",
      appIndex: "",
      instanceId: "",
    };
    expect(line(nothing)).toBe(
      'FakeRequestHost - [2000-01-01T00:00:00.000000000Z] "FakeRequestMethod http://example.com/request FakeRequestProto" ' +
        '"-" 0 0 "-" "-" "-" "-" x_forwarded_for:"-" x_forwarded_proto:"-" vcap_request_id:"-" response_time:0.000000 ' +
        'gorouter_time:"-" app_id:"-" app_index:"-" instance_id:"-" x_cf_routererror:"-"',
    );
  });

  it("quotes as Go does: quotation marks, controls, and bytes that are no text", () => {
    const bytes = (text: string) => Buffer.from(text).toString("latin1");
    const agent = (userAgent: string) => /\d\d "FakeReferer" (.*) "10\.0\.0\.9/.exec(line({ userAgent }))?.[1];
    expect(agent('a "b" \\ c')).toBe('"a \\"b\\" \\\\ c"');
    expect(agent("a\tb\u0001\u007f")).toBe('"a\\tb\\x01\\x7f"');
    expect(agent(bytes("grüße 世界 🙂"))).toBe('"grüße 世界 🙂"');
    expect(agent(bytes("a\u200bb\u00a0"))).toBe('"a\\u200bb\\u00a0"');
    expect(agent("\xff\xc3(\xe4\xb8")).toBe('"\\xff\\xc3(\\xe4\\xb8"');
  });

  it("says 499 of a client that left before its answer", () => {
    const left = line({ status: 0, flags: "DC", routerError: "", responseUs: undefined, durationMs: 1_500 });
    expect(left).toContain('FakeRequestProto" 499 30');
    expect(left).toContain("response_time:1.500000");
    expect(left).toContain('x_cf_routererror:"endpoint_failure (context canceled)"');
    expect(line({ status: 200, flags: "DC" })).toContain('FakeRequestProto" 200 30');
  });

  it("has the forwarded addresses as the client sent them where no app got the request", () => {
    const forwarded = (forwardedFor: string, backend: string) =>
      /x_forwarded_for:("[^"]*")/.exec(line({ forwardedFor, backend }))?.[1];
    expect(forwarded("10.1.1.1,10.0.0.9", "1.2.3.4:80")).toBe('"10.1.1.1,10.0.0.9"');
    expect(forwarded("10.1.1.1,10.0.0.9", "")).toBe('"10.1.1.1"');
    expect(forwarded("10.0.0.9", "")).toBe('"-"');
    expect(forwarded("10.1.1.1", "")).toBe('"10.1.1.1"');
  });

  it("has the address that Envoy added behind PROXY protocol, not the one that the client says", () => {
    const client = (record: Partial<RequestRecord>) => /"FakeUserAgent" ("[^"]*")/.exec(line(record))?.[1];
    expect(client({ client: "203.0.113.7:4711", forwardedFor: "203.0.113.7" })).toBe('"203.0.113.7:4711"');
    expect(client({ client: "1.1.1.1:0", forwardedFor: "1.1.1.1,203.0.113.7" })).toBe('"203.0.113.7:0"');
    expect(client({ client: "1.1.1.1:0", forwardedFor: "1.1.1.1,2001:db8::1" })).toBe('"[2001:db8::1]:0"');
  });

  it("redacts the query of GET requests alone", () => {
    const uri = (
      method: string,
      redactQueryParameters: LineOptions["redactQueryParameters"],
      text = "/a?query=value",
    ) => new RegExp(`"${method} (\\S*) `).exec(line({ method, uri: text }, { redactQueryParameters }))?.[1];
    expect(uri("GET", "none")).toBe("/a?query=value");
    expect(uri("GET", "all")).toBe("/a");
    expect(uri("GET", "hash")).toBe("/a?hash=9c9042adbe045596c2299990920eaa18536d66a1");
    expect(uri("POST", "all")).toBe("/a?query=value");
    expect(uri("GET", "hash", "/a?")).toBe("/a?");
  });

  it("hides addresses that are not to be kept", () => {
    const hidden = line({}, { hideForwardedFor: true, hideSourceIp: true });
    expect(hidden).toContain('"FakeUserAgent" "-" "1.2.3.4:1234" x_forwarded_for:"-" ');
    expect(hidden).not.toContain("10.0.0.9");
  });

  it("ends with the request headers that were asked for", () => {
    const options = { extraHeaders: ["Cache-Control", "If-Match", "Doesnt-Exist"] };
    const last = line({ headers: ["no-cache", "7370", ""] }, options);
    expect(last).toMatch(
      /x_cf_routererror:"some-router-error" cache_control:"no-cache" if_match:"7370" doesnt_exist:"-"$/,
    );
  });

  it("tells of attempts and connections when asked", () => {
    const extraFields = [
      "failed_attempts",
      "failed_attempts_time",
      "dns_time",
      "dial_time",
      "tls_time",
      "backend_time",
      "local_address",
    ] as const;
    const fields = (record: Partial<RequestRecord>) =>
      /instance_id:"FakeInstanceId" (.*) x_cf_routererror/.exec(line(record, { extraFields }))?.[1];
    const dialled = {
      untilDialUs: 10,
      dialUs: 1_000,
      tlsUs: 2_000,
      untilSentUs: 5_000,
      localAddress: "10.0.0.1:34823",
    };
    expect(fields({ ...dialled, attempts: 3, appUs: 7 })).toBe(
      'failed_attempts:2 failed_attempts_time:0.005000 dns_time:"-" dial_time:0.001000 tls_time:0.002000 ' +
        'backend_time:0.000007 local_address:"10.0.0.1:34823"',
    );
    expect(fields({ ...dialled, untilDialUs: undefined, attempts: 1, appUs: 7 })).toBe(
      'failed_attempts:0 failed_attempts_time:"-" dns_time:"-" dial_time:"-" tls_time:"-" backend_time:0.000007 ' +
        'local_address:"10.0.0.1:34823"',
    );
    expect(fields({ attempts: 3, appUs: undefined, responseUs: 9_000 })).toBe(
      'failed_attempts:3 failed_attempts_time:0.009000 dns_time:"-" dial_time:"-" tls_time:"-" backend_time:"-" ' +
        'local_address:"-"',
    );
  });

  it("has long values whole", () => {
    const long = "x".repeat(100_000);
    const written = line({ userAgent: long, uri: `/${long}`, headers: [long] }, { extraHeaders: ["x-a"] });
    expect(written.split(long)).toHaveLength(4);
  });

  it("has the same values as JSON, without those that there are not", () => {
    const options = { format: "json" as const, extraFields: ["failed_attempts" as const], extraHeaders: ["X-A"] };
    expect(JSON.parse(line({ headers: ["1"], referer: "", flags: "UF" }, options))).toEqual({
      timestamp: "2000-01-01T00:00:00.000000000Z",
      host: "FakeRequestHost",
      method: "FakeRequestMethod",
      uri: "http://example.com/request",
      protocol: "FakeRequestProto",
      status: 200,
      request_bytes: 30,
      response_bytes: 23,
      user_agent: "FakeUserAgent",
      client: "10.0.0.9:4711",
      backend: "1.2.3.4:1234",
      x_forwarded_for: "FakeProxy1, FakeProxy2",
      x_forwarded_proto: "FakeOriginalRequestProto",
      vcap_request_id: "abc-123-xyz-pdq",
      response_time: 60,
      gorouter_time: 10,
      app_id: "FakeApplicationId",
      app_index: "3",
      instance_id: "FakeInstanceId",
      failed_attempts: 0,
      x_cf_routererror: "some-router-error",
      response_flags: "UF",
      x_a: "1",
    });
  });

  it("tells of callers on demand, with dashes for what is not known", () => {
    const extraFields = ["tls_sni", "caller_cf_app", "caller_cf_space", "caller_cf_org", "route_policy"] as const;
    const record = {
      serverName: "backend.apps.identity",
      connectionDomain: "*.apps.identity",
      callerSubject: "CN=instance,OU=space:s+OU=app:a",
      policySource: "space",
    };
    expect(line(record, { extraFields })).toContain(
      ' tls_sni:"backend.apps.identity" caller_cf_app:"a" caller_cf_space:"s" caller_cf_org:"-" route_policy:"route:cf:space:s" ',
    );
    expect(line({}, { extraFields })).toContain(
      ' tls_sni:"-" caller_cf_app:"-" caller_cf_space:"-" caller_cf_org:"-" route_policy:"-" ',
    );
    const json = JSON.parse(line(record, { extraFields, format: "json" })) as object;
    expect(json).toMatchObject({
      tls_sni: "backend.apps.identity",
      caller_cf_app: "a",
      route_policy: "route:cf:space:s",
    });
    expect(json).not.toHaveProperty("caller_cf_org");
  });
});

describe("a record of Envoy's", () => {
  const texts = (format = "") => format.split(SEPARATOR).map(() => "-");

  it("is refused alone when it has more fields or fewer than were asked for", () => {
    const { records, parse } = recordFormat({
      lines: true,
      extraFields: true,
      callers: true,
      proxyProtocol: false,
      headers: ["x-a"],
      clusters: false,
    });
    expect(records.map(({ of }) => of)).toEqual(["all", "marked"]);
    const whole = texts(records[0]?.format);
    expect(parse(1n, whole.join(SEPARATOR))).toMatchObject({
      kind: "whole",
      host: "",
      headers: [""],
      status: undefined,
    });
    expect(parse(1n, [...whole, "-"].join(SEPARATOR))).toBeUndefined();
    expect(parse(1n, "")).toBeUndefined();
  });

  it("is short where metrics alone are made of it; what explains a fault comes by another", () => {
    const { records, parse } = recordFormat({
      lines: false,
      extraFields: true,
      callers: true,
      proxyProtocol: false,
      headers: ["x-a"],
      clusters: true,
    });
    expect(records.map(({ of }) => of)).toEqual(["all", "faults", "marked"]);
    expect(texts(records[0]?.format).length).toBeLessThan(7);
    expect(records.some(({ format }) => format.includes("REQ(:path)") || format.includes("x-a"))).toBe(false);
    const kinds = records.map(({ format }) => parse(1n, texts(format).join(SEPARATOR))?.kind);
    expect(kinds).toEqual(["plain", "fault", "wildcard"]);
  });
});
