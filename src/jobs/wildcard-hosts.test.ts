import { describe, expect, it } from "vitest";
import { WildcardHosts } from "./wildcard-hosts.js";

const times = (count: number, act: () => readonly string[]) => Array.from({ length: count }, act).flat();

describe("hosts below wildcards", () => {
  it("are known from their 32nd request within a minute on", () => {
    const hosts = new WildcardHosts();
    expect(times(31, () => hosts.count("a.b.example.com", 0))).toEqual([]);
    expect(hosts.has("a.b.example.com")).toBe(false);
    expect(hosts.count("a.b.example.com", 59_999)).toEqual(["a.b.example.com"]);
    expect(hosts.has("a.b.example.com")).toBe(true);
    expect(times(100, () => hosts.count("a.b.example.com", 60_000))).toEqual([]);
  });

  it("are not known when they are used seldom", () => {
    const hosts = new WildcardHosts();
    for (let minute = 0; minute < 10; minute += 1) {
      expect(times(31, () => hosts.count("a.example.com", minute * 60_000))).toEqual([]);
    }
  });

  it("are 10,000 at most: the one that was known first makes place", () => {
    const hosts = new WildcardHosts();
    const name = (index: number) => `h${index}.example.com`;
    for (let index = 0; index < 10_000; index += 1) times(32, () => hosts.count(name(index), 0));
    expect([...hosts.names()]).toHaveLength(10_000);
    expect(times(32, () => hosts.count("one-more.example.com", 0))).toEqual(["one-more.example.com", name(0)]);
    expect([...hosts.names()]).toHaveLength(10_000);
    expect(hosts.has(name(0))).toBe(false);
  });
});
