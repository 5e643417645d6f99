/** Measurements as rows of a Markdown table. */
import { type Goal, type Measurement, shareOfGoal } from "./measurement.js";

export const TABLE_HEAD = ["| what | measured | goal | met | how |", "| --- | ---: | ---: | --- | --- |"];

export function measurementRow(measurement: Measurement): string {
  const { what, value, unit, goal, note = "" } = measurement;
  return `| ${what} | ${quantity(value, unit)} | ${goal ? wanted(goal, unit) : ""} | ${verdict(measurement)} | ${note} |`;
}

function wanted(goal: Goal, unit: string): string {
  return "atMost" in goal ? `≤ ${quantity(goal.atMost, unit)}` : `≥ ${quantity(goal.atLeast, unit)}`;
}

function verdict(measurement: Measurement): string {
  const { goal } = measurement;
  if (!goal) return "";
  const share = shareOfGoal(measurement, goal);
  if (share <= 1) return "yes";
  return Number.isFinite(share) ? `**no**, by ${percent(share - 1)}` : "**no**";
}

const percent = (part: number) => `${(100 * part).toFixed(part < 0.1 ? 1 : 0)} %`;

/** Three digits that count, or all before the point. */
function quantity(value: number, unit: string): string {
  const size = Math.abs(value);
  const digits = size >= 100 ? 0 : size >= 10 ? 1 : 2;
  return `${value.toLocaleString("en", { maximumFractionDigits: digits })} ${unit}`;
}
