import { expect, it } from "vitest";
import { median, quantile } from "./statistics.js";

const hundred = Array.from({ length: 100 }, (_, index) => 100 - index);

it("takes the sample that as many do not exceed as were asked for", () => {
  expect(quantile(hundred, 0.99)).toBe(99);
  expect(quantile(hundred, 1)).toBe(100);
  expect(quantile([7], 0.01)).toBe(7);
});

it("takes the middle for the median, the lower one of two", () => {
  expect(median([3, 1, 2])).toBe(2);
  expect(median([4, 1])).toBe(1);
});
