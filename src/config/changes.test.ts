import { describe, expect, it } from "vitest";
import { keysThatNeedRestart } from "./changes.js";
import { parseConfig } from "./config.js";

const read = (more: object = {}, router: object = {}) =>
  parseConfig({ log: { directory: "/log" }, router: { runDirectory: "/run", ...router }, ...more }, "test", []);

describe("a configuration that was read again", () => {
  it("names the keys that need a restart", () => {
    const changed = read(
      { logLevel: "debug", api: { port: 9090 } },
      { port: 8081, sharding: { mode: "segments", isolationSegments: ["a"] } },
    );
    expect(keysThatNeedRestart(read(), changed)).toEqual([
      "api.listenAddress",
      "api.port",
      "router.port",
      "router.sharding.isolationSegments",
      "router.sharding.mode",
    ]);
  });

  it("names nothing where nothing changed but the log level", () => {
    expect(keysThatNeedRestart(read(), read({ logLevel: "debug" }))).toEqual([]);
  });
});
