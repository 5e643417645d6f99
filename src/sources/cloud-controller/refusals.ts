/** Malformed resources: each is told once, and again only when its problem changes. */
import type { Logger } from "../../lib/logger.js";
import type { Checked } from "./resources.js";

export type ResourceKind =
  "route" | "domain" | "app" | "process" | "space" | "organization" | "route binding" | "route policy" | "audit event";

export class Refusals {
  readonly #logger: Logger;
  readonly #problems = new Map<string, string>();

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** The value of what is well; undefined, and a line in the log, for what is not. */
  accept<T extends { readonly guid: string }>(kind: ResourceKind, checked: Checked<T>): T | undefined {
    if (!checked.ok) {
      this.refuse(kind, checked.guid, checked.problem);
      return undefined;
    }
    if (this.#problems.size > 0) this.#problems.delete(`${kind} ${checked.value.guid}`);
    return checked.value;
  }

  /** Of one that is taken over all the same. */
  note(kind: ResourceKind, guid: string, problem: string): void {
    const name = `${kind} ${guid}, taken over`;
    if (this.#problems.get(name) === problem) return;
    this.#problems.set(name, problem);
    this.#logger.warn({ kind, guid, problem }, `the Cloud Controller's ${kind} ${guid}: ${problem}`);
  }

  refuse(kind: ResourceKind, guid: string | undefined, problem: string): void {
    const name = `${kind} ${guid ?? ""}`;
    if (this.#problems.get(name) === problem) return;
    this.#problems.set(name, problem);
    this.#logger.warn(
      { kind, guid, problem },
      `the Cloud Controller's ${kind} ${guid ?? "without a readable guid"} is malformed (${problem}): it is passed over, ` +
        "what the mesh log has of it stays; all others go on",
    );
  }
}
