import { describe, expect, it } from "vitest";
import { envoyFailure } from "./envoy-failure.js";

const exit = (...lastLines: string[]) => ({ code: 1, signal: null, lastLines });
const GOES_ON = "starting it again in 100 ms";

describe("the reason why Envoy ended", () => {
  it("is a taken port, with the setting to change", () => {
    const error = envoyFailure(exit("cannot bind '0.0.0.0:8080': Address already in use"), GOES_ON);
    expect(error.code).toBe("MESH_PORT_TAKEN");
    expect(error.message).toContain(`0.0.0.0:8080, another process does; ${GOES_ON}`);
    expect(error.fix).toContain("router.port");
  });

  it("is a taken port of an IPv6 address too", () => {
    const error = envoyFailure(exit("cannot bind '[::1]:8080': Address already in use"), GOES_ON);
    expect(error.message).toContain("[::1]:8080");
  });

  it("is a port that this user may not use, with what allows it", () => {
    const error = envoyFailure(exit("cannot bind '0.0.0.0:80': Permission denied"), GOES_ON);
    expect([error.code, error.fix]).toEqual(["MESH_ENVOY_FAILED", expect.stringContaining("CAP_NET_BIND_SERVICE")]);
  });

  it("is no taken port when the admin socket can't be made", () => {
    expect(envoyFailure(exit("cannot bind '/run/admin.sock': Address already in use"), GOES_ON).code).toBe(
      "MESH_ENVOY_FAILED",
    );
  });

  it("is told in Envoy's own words, without its routine lines", () => {
    const lines = ["[2026-01-01 00:00:00.000][1][info][main] [server.cc:1] exiting", "no such field: 'nope'"];
    const { message } = envoyFailure(exit(...lines), GOES_ON);
    expect(message).toContain("exit code 1");
    expect(message).toContain("no such field: 'nope'");
    expect(message).not.toContain("exiting");
  });

  it.each([
    ["SIGKILL", /none needed if somebody killed it; .*memory/],
    ["SIGTERM", /none needed if somebody stopped it/],
    ["SIGSEGV", /crashed/],
  ])("is the signal %s, with advice that fits it", (signal, advice) => {
    const { message, fix } = envoyFailure({ code: null, signal, lastLines: [] }, GOES_ON);
    expect(message).toContain(`signal ${signal}`);
    expect(fix).toMatch(advice);
    expect(fix).not.toContain("bootstrap");
  });
});
