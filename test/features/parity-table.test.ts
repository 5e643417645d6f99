import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { PACKAGE_ROOT } from "../../src/lib/package-root.js";

interface Row {
  readonly section: string;
  readonly name: string;
  readonly state: string;
  readonly tests: string;
  readonly notes: string;
}

const STATES = ["same", "better", "different"];

function rowsOf(text: string): readonly Row[] {
  return text
    .split("\n## ")
    .slice(1)
    .flatMap((part) => {
      const [section = "", ...lines] = part.split("\n");
      const table = lines.filter((line) => line.startsWith("|")).slice(2);
      return table.map((line) => {
        const [name = "", state = "", tests = "", notes = ""] = line
          .slice(1, -1)
          .split("|")
          .map((cell) => cell.trim());
        return { section, name, state, tests, notes };
      });
    });
}

/** "`file`: part of a title; another" of each file. */
function testsOf(cell: string): readonly { readonly file: string; readonly titles: readonly string[] }[] {
  return [...cell.matchAll(/`([^`]+)`(?:: ([^`]*))?/g)].map(([, file = "", titles = ""]) => ({
    file: file.includes("/") ? file : `test/features/${file}.test.ts`,
    titles: titles
      .split(";")
      .map((title) => title.trim())
      .filter((title) => title !== "" && title !== "all"),
  }));
}

describe("the table of docs/parity.md", () => {
  it("has a state and a test for each row, which is there, and says what is different", async () => {
    const rows = rowsOf(await readFile(join(PACKAGE_ROOT, "docs/parity.md"), "utf8"));
    expect(rows.length).toBeGreaterThan(60);
    const problems: string[] = [];
    for (const { section, name, state, tests, notes } of rows) {
      const place = `${section}, ${name}:`;
      if (!STATES.includes(state)) problems.push(`${place} no state "${state}"`);
      if (state === "different" && notes === "") problems.push(`${place} does not say what is different`);
      const named = testsOf(tests);
      if (named.length === 0) problems.push(`${place} has no test`);
      for (const { file, titles } of named) {
        const source = await readFile(join(PACKAGE_ROOT, file), "utf8").catch(() => undefined);
        if (source === undefined) problems.push(`${place} there is no ${file}`);
        for (const title of titles) {
          if (source?.toLowerCase().includes(title.toLowerCase()) === false) {
            problems.push(`${place} ${file} has no "${title}"`);
          }
        }
      }
    }
    expect(problems).toEqual([]);
  });

  it("has a row at least in each section", async () => {
    const text = await readFile(join(PACKAGE_ROOT, "docs/parity.md"), "utf8");
    const sections = [...text.matchAll(/^## (.*)$/gm)].map(([, name]) => name);
    const filled = new Set(rowsOf(text).map(({ section }) => section));
    expect(sections.filter((name) => !filled.has(name ?? ""))).toEqual([]);
  });
});
