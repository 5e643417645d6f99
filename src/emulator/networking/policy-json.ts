/** Policies as the policy server's API shows and takes them. */
import { z } from "zod";
import type { Policies, Policy } from "./policies.js";

/** What Go's decoder would make of a body: what is left out is empty, what is of another type is an error. */
const policySchema = z.object({
  source: z.object({ id: z.string().default(""), tag: z.string().default("") }).prefault({}),
  destination: z
    .object({
      id: z.string().default(""),
      tag: z.string().default(""),
      protocol: z.string().default(""),
      ports: z.object({ start: z.int().default(0), end: z.int().default(0) }).prefault({}),
    })
    .prefault({}),
});
const bodySchema = z.object({ policies: z.array(policySchema).nullish() });
type PolicyJson = z.output<typeof policySchema>;

const MAX_PORT = 65_535;

/**
 * The policies of a body, or what is wrong with it in the policy server's words.
 *
 * Source   api/policy_validator.go and api/api_policy_mapper.go of cf-networking-release.
 */
export function parsePolicies(text: unknown): readonly Policy[] | { readonly error: string } {
  let body: unknown;
  try {
    body = JSON.parse(typeof text === "string" ? text : "");
  } catch {
    return { error: "mapper: unmarshal json: invalid character" };
  }
  const parsed = bodySchema.safeParse(body);
  if (!parsed.success) {
    return { error: `mapper: unmarshal json: cannot unmarshal field ${parsed.error.issues[0]?.path.join(".") ?? ""}` };
  }
  const policies = parsed.data.policies ?? [];
  const problem = policies.length === 0 ? "missing policies" : policies.map(problemOf).find((found) => found !== "");
  if (problem !== undefined) return { error: `mapper: validate policies: ${problem}` };
  return policies.map(({ source, destination }) => ({
    sourceId: source.id,
    destinationId: destination.id,
    protocol: destination.protocol === "udp" ? "udp" : "tcp",
    startPort: destination.ports.start,
    endPort: destination.ports.end,
  }));
}

function problemOf({ source, destination }: PolicyJson): string {
  const { start, end } = destination.ports;
  if (source.id === "") return "missing source id";
  if (destination.id === "") return "missing destination id";
  if (destination.protocol !== "udp" && destination.protocol !== "tcp") {
    return "invalid destination protocol, specify either udp or tcp";
  }
  if (start > end) return `invalid port range ${start}-${end}, start must be less than or equal to end`;
  if (start < 0) return `invalid start port ${start}, must be in range 1-65535`;
  if (start === 0) return "missing start port";
  if (end > MAX_PORT) return `invalid end port ${end}, must be in range 1-65535`;
  if (source.tag !== "" || destination.tag !== "") return "tags may not be specified";
  return "";
}

/** With tags when `policies` is given: only the internal API shows them. */
export function presentPolicies(shown: readonly Policy[], policies?: Policies): object {
  const tag = (id: string) => (policies === undefined ? {} : { tag: policies.tagOf(id) });
  return {
    total_policies: shown.length,
    policies: shown.map(({ sourceId, destinationId, protocol, startPort, endPort }) => ({
      source: { id: sourceId, ...tag(sourceId) },
      destination: {
        id: destinationId,
        ...tag(destinationId),
        protocol,
        ports: { start: startPort, end: endPort },
      },
    })),
  };
}

/** "a,b" as a set; empty when it is left out. */
export function idsOf(value: unknown): ReadonlySet<string> {
  return new Set(typeof value === "string" && value !== "" ? value.split(",") : []);
}
