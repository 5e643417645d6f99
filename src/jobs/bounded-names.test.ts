import { expect, it } from "vitest";
import { BoundedNames, OTHER } from "./bounded-names.js";

it("names have a place while there are few; one that is idle gives its place to another", () => {
  const gone: string[] = [];
  const names = new BoundedNames(2, 100, (name) => gone.push(name));
  expect(["a", "b", "c", "a"].map((name) => names.take(name, 0))).toEqual(["a", "b", OTHER, "a"]);
  expect(names.take("a", 60)).toBe("a");
  expect(names.take("c", 99)).toBe(OTHER);
  expect(gone).toEqual([]);
  expect(names.take("c", 100)).toBe("c");
  expect(gone).toEqual(["b"]);
  expect(names.take("b", 120)).toBe(OTHER);
  expect(names.take("a", 120)).toBe("a");
});
