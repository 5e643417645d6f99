import { describe, expect, it } from "vitest";
import { COMPLETE_RECORD } from "../../test/support/request-record.js";
import type { LineOptions } from "./access-line.js";
import { appLineWriter, endedNs } from "./app-line.js";
import type { RequestRecord } from "./record.js";

const OPTIONS: LineOptions = {
  format: "gorouter",
  redactQueryParameters: "none",
  hideForwardedFor: false,
  hideSourceIp: false,
  extraFields: [],
  extraHeaders: ["X-A", "X-B"],
};
const line = (record: Partial<RequestRecord>, options: Partial<LineOptions> = {}) =>
  appLineWriter({ ...OPTIONS, ...options })({ ...COMPLETE_RECORD, ...record });
/** Makes a line one of those that are cut. */
const LARGE = { uri: `/${"u".repeat(70_000)}` };

describe("a line for the log of an app", () => {
  it("is Gorouter's, whatever the file's format, and whole up to 65,400 bytes", () => {
    const rest = Buffer.byteLength(line({ uri: "" }));
    const whole = line({ uri: "u".repeat(65_400 - rest) }, { format: "json" });
    expect(whole).toMatch(
      /^FakeRequestHost - \[2000-01-01T00:00:00\.000000000Z\] "FakeRequestMethod u+ FakeRequestProto" 200/,
    );
    expect(whole).toHaveLength(65_400);
    expect(line({ uri: "u".repeat(65_401 - rest) })).toContain(
      "u...REQUEST-URI-TOO-LONG-TO-LOG--TRUNCATED FakeRequestProto",
    );
  });

  it("halves long values of a longer line until they fit, the words included", () => {
    const long = "x".repeat(1_001);
    const cut = line({
      ...LARGE,
      referer: long,
      userAgent: "x".repeat(1_000),
      forwardedFor: long,
      forwardedProto: long,
    });
    expect(cut).toContain(
      `200 30 23 "${"x".repeat(500)}...REFERER-TOO-LONG-TO-LOG--TRUNCATED" "${"x".repeat(1_000)}" `,
    );
    expect(cut).toContain(` x_forwarded_for:"${"x".repeat(500)}...X-FORWARDED-FOR-TOO-LONG-TO-LOG--TRUNCATED" `);
    expect(cut).toContain(` x_forwarded_proto:"${"x".repeat(500)}...X-FORWARDED-PROTO-TOO-LONG-TO-LOG--TRUNCATED" `);
    // 70,001: 35,000 and 41 of words, 17,520 and 41.
    expect(cut).toContain(
      `"FakeRequestMethod /${"u".repeat(17_519)}...REQUEST-URI-TOO-LONG-TO-LOG--TRUNCATED FakeRequestProto"`,
    );
  });

  it("leaves out the extra headers that would be longer than 20,000 bytes with those before", () => {
    const headers = (first: string, second: string) =>
      line({ ...LARGE, headers: [first, second] }).split("some-router-error")[1];
    const words = "...EXTRA-REQUEST-HEADERS-TOO-LONG-TO-LOG--TRUNCATED";
    expect(headers("1", "2")).toBe('" x_a:"1" x_b:"2"');
    expect(headers("1", "")).toBe('" x_a:"1" x_b:"-"');
    expect(headers("1", "x".repeat(19_984))).toBe(`" x_a:"1" x_b:"${"x".repeat(19_984)}"`);
    expect(headers("1", "x".repeat(19_985))).toBe(`" x_a:"1" ${words}`);
    expect(headers("x".repeat(20_000), "2")).toBe(`" ${words}`);
  });

  it("is never longer than what was sent in a datagram", () => {
    expect(line({ ...LARGE, host: "h".repeat(100_000) })).toBe("h".repeat(65_400));
    // In UTF-8, a byte in each character.
    const host = Buffer.from("ü".repeat(40_000)).toString("latin1");
    expect(line({ ...LARGE, host: `h${host}` })).toBe(`h${"ü".repeat(32_699)}`);
  });

  it("hides and redacts what the file does", () => {
    const hidden = line(
      { method: "GET", uri: "/a?query=value" },
      { redactQueryParameters: "all", hideForwardedFor: true, hideSourceIp: true },
    );
    expect(hidden).toContain('"GET /a FakeRequestProto"');
    expect(hidden).toContain('"FakeUserAgent" "-" "1.2.3.4:1234" x_forwarded_for:"-" ');
  });

  it("has the time when the request ended", () => {
    expect(endedNs(COMPLETE_RECORD)).toBe(946_684_860_000_000_000n);
    expect(endedNs({ ...COMPLETE_RECORD, responseUs: undefined, durationMs: 1_500 })).toBe(946_684_801_500_000_000n);
    // Envoy tells whole ones; a record is not lost for one that is none.
    expect(endedNs({ ...COMPLETE_RECORD, responseUs: 1.5 })).toBe(946_684_800_000_001_000n);
  });
});
