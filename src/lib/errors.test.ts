import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { ERROR_CODES } from "./errors.js";
import { PACKAGE_ROOT } from "./package-root.js";

it("has a section in docs/errors.md for each error code, and none for others", () => {
  const sections = readFileSync(join(PACKAGE_ROOT, "docs/errors.md"), "utf8").matchAll(/^## (\w+)$/gm);
  expect([...sections].map(([, code]) => code).sort()).toEqual([...ERROR_CODES].sort());
});
