/** What is said of an endpoint, by the names that Diego's route-emitter gives it. */
import type { Tag } from "../entries/entries.js";
import { compareText } from "../lib/compare-text.js";
import type { Endpoint } from "./endpoints.js";

const COMPONENT = "route-emitter";

/**
 * In the order of their names, as Go writes maps.
 *
 * @param registered  what NATS says of an instance that Diego tells of; without it, there is what the mesh knows
 */
export function tagsOf(
  { identity, origin, appName }: Endpoint,
  registered: readonly Tag[] = [],
): Readonly<Record<string, string>> {
  const { appGuid, processGuid, instanceGuid, instanceIndex } = identity;
  const said = origin.kind === "registration" ? origin.registration.tags : registered;
  const tags =
    origin.kind === "registration" || said.length > 0
      ? said
      : [
          { name: "app_id", value: appGuid },
          { name: "app_name", value: appName },
          { name: "component", value: COMPONENT },
          { name: "instance_id", value: instanceIndex },
          { name: "process_id", value: processGuid },
          { name: "process_instance_id", value: instanceGuid },
          { name: "source_id", value: appGuid },
        ];
  const told = tags.filter(({ value }) => value !== "").sort((a, b) => compareText(a.name, b.name));
  return Object.fromEntries(told.map(({ name, value }) => [name, value]));
}
