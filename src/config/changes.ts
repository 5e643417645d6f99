import type { Config } from "./config.js";

/** Keys that a running process can take another value of. */
const APPLIED: readonly string[] = ["logLevel"];

/** The keys that differ, by their paths ("router.port"), sorted; those alone that a process has to be started again for. */
export function keysThatNeedRestart(running: Config, read: Config): readonly string[] {
  return differingKeys(running, read).filter((key) => !APPLIED.includes(key));
}

function differingKeys(one: object, other: object): readonly string[] {
  const [values, others] = [valuesOf(one), valuesOf(other)];
  return [...new Set([...values.keys(), ...others.keys()])].filter((key) => values.get(key) !== others.get(key)).sort();
}

/** By path; a list is one value. */
function valuesOf(section: object, place = "", values = new Map<string, string>()): ReadonlyMap<string, string> {
  for (const [name, value] of Object.entries(section) as [string, unknown][]) {
    if (typeof value === "object" && value !== null && !Array.isArray(value))
      valuesOf(value, `${place}${name}.`, values);
    else if (value !== undefined) values.set(`${place}${name}`, JSON.stringify(value));
  }
  return values;
}
