import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { RotatingFile } from "./rotating-file.js";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "mesh-log-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

it("keeps the newest text in two files of bounded size", () => {
  const file = new RotatingFile(join(folder, "a.log"), 10);
  for (const text of ["first\n", "1234\n", "5678\n", "9\n"]) file.write(text);
  file.close();
  expect(readdirSync(folder).sort()).toEqual(["a.log", "a.log.1"]);
  expect(readFileSync(join(folder, "a.log.1"), "utf8")).toBe("1234\n5678\n");
  expect(readFileSync(join(folder, "a.log"), "utf8")).toBe("9\n");
});

it("goes on where the last one ended", () => {
  const path = join(folder, "a.log");
  for (const text of ["one\n", "two\n", "three\n"]) {
    const file = new RotatingFile(path, 10);
    file.write(text);
    file.close();
  }
  expect([`${path}.1`, path].map((name) => readFileSync(name, "utf8"))).toEqual(["one\ntwo\n", "three\n"]);
});
