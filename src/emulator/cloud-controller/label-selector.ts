import { badQueryParameter } from "./errors.js";

type Labels = Readonly<Record<string, string>>;

/**
 * Reads a label selector: requirements joined by commas, all of which must hold.
 *
 * Input   "env=prod", "env==prod", "env!=prod", "env in (prod,test)", "env notin (prod)", "env", "!env".
 * Throws  400 BadQueryParameter for anything else.
 */
export function parseLabelSelector(text: string): (labels: Labels) => boolean {
  const requirements = text.split(/,(?![^(]*\))/).map((requirement) => parseRequirement(requirement.trim()));
  return (labels) => requirements.every((holds) => holds(labels));
}

function parseRequirement(text: string): (labels: Labels) => boolean {
  const set = /^([\w./-]+)\s+(in|notin)\s+\(([^)]*)\)$/.exec(text);
  if (set !== null) {
    const [, key = "", operator, list = ""] = set;
    const values = new Set(list.split(",").map((value) => value.trim()));
    return (labels) => values.has(labels[key] ?? "\0") === (operator === "in");
  }
  const equality = /^([\w./-]+)\s*(==|=|!=)\s*([\w.-]*)$/.exec(text);
  if (equality !== null) {
    const [, key = "", operator, value] = equality;
    return (labels) => (labels[key] === value) === (operator !== "!=");
  }
  const existence = /^(!?)([\w./-]+)$/.exec(text);
  if (existence !== null) {
    const [, not, key = ""] = existence;
    return (labels) => key in labels === (not === "");
  }
  throw badQueryParameter("Invalid label_selector value");
}
