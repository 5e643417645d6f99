import { describe, expect, it } from "vitest";
import { AppLogs } from "./logs.js";

describe("the logs of apps", () => {
  const line = (text: string) => ({ timestampMs: 1, stream: "stdout", source: "APP/PROC/WEB/0", text }) as const;
  const texts = (logs: AppLogs, app: string, limit?: number) => logs.recent(app, limit).map(({ text }) => text);

  it("give the newest lines of each app, oldest first", () => {
    const logs = new AppLogs();
    for (const text of ["1", "2", "3"]) logs.append("a", line(text));
    logs.append("b", line("other"));
    expect(texts(logs, "a")).toEqual(["1", "2", "3"]);
    expect(texts(logs, "a", 2)).toEqual(["2", "3"]);
    expect([texts(logs, "a", 0), texts(logs, "nobody")]).toEqual([[], []]);
    logs.forget("a");
    expect([texts(logs, "a"), texts(logs, "b")]).toEqual([[], ["other"]]);
  });

  it("keep 10,000 lines of an app, and 60,000 characters of a line", () => {
    const logs = new AppLogs();
    for (let count = 1; count <= 12_345; count += 1) logs.append("a", line(String(count)));
    expect([logs.recent("a").length, texts(logs, "a")[0], texts(logs, "a", 1)]).toEqual([10_000, "2346", ["12345"]]);
    logs.append("a", line("x".repeat(100_000)));
    expect(texts(logs, "a", 1)[0]).toHaveLength(60_000);
  });
});
