import { join } from "node:path";
import { expect, it } from "vitest";
import { PACKAGE_ROOT } from "../lib/package-root.js";
import { configReference } from "./reference.js";

it("is what docs/config.md says: vitest --update writes the page anew", async () => {
  await expect(configReference()).toMatchFileSnapshot(join(PACKAGE_ROOT, "docs/config.md"));
});
