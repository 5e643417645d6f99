import { describe, expect, it } from "vitest";
import { requestRefused, unreachable } from "./http-faults.js";
import { Servers } from "./servers.js";

const { signal } = new AbortController();
const remedies = { refused: "", rateLimited: "" };
const down = () => unreachable("it", "GET /", new Error("down"));

describe("servers that stand in for each other", () => {
  it("are asked in turn when one fails, and the one that answered is asked first from then on", async () => {
    const servers = new Servers(["http://a/", "http://b", "http://c"]);
    const asked: string[] = [];
    const ask = (url: string) => {
      asked.push(url);
      return url === "http://b" ? Promise.resolve(url) : Promise.reject(down());
    };
    await servers.call(ask, signal);
    await servers.call(ask, signal);
    expect(asked).toEqual(["http://a", "http://b", "http://b"]);
  });

  it("move on once when several requests fail together", async () => {
    const servers = new Servers(["http://a", "http://b", "http://c"]);
    const ask = (url: string) => (url === "http://a" ? Promise.reject(down()) : Promise.resolve(url));
    const answers = await Promise.all([1, 2, 3].map(() => servers.call(ask, signal)));
    expect(answers).toEqual(["http://b", "http://b", "http://b"]);
  });

  it("are asked once each when all fail", async () => {
    const servers = new Servers(["http://a", "http://b"]);
    let count = 0;
    const ask = () => {
      count += 1;
      return Promise.reject(down());
    };
    await expect(servers.call(ask, signal)).rejects.toMatchObject({ code: "MESH_SOURCE_UNREACHABLE" });
    expect(count).toBe(2);
  });

  it("are not asked for a second opinion on a refusal", async () => {
    const servers = new Servers(["http://a", "http://b"]);
    const asked: string[] = [];
    const ask = (url: string) => {
      asked.push(url);
      return Promise.reject(requestRefused("it", "GET /", 403, "", remedies));
    };
    await expect(servers.call(ask, signal)).rejects.toMatchObject({ code: "MESH_SOURCE_REFUSED" });
    expect(asked).toEqual(["http://a"]);
  });
});
