import { z } from "zod";
import { ConfigSchema } from "./config.js";

interface JsonSchema {
  readonly type?: string;
  readonly description?: string;
  readonly default?: unknown;
  readonly enum?: readonly unknown[];
  readonly items?: JsonSchema;
  readonly anyOf?: readonly JsonSchema[];
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly required?: readonly string[];
}

const INTRODUCTION = `# Configuration

A job reads one YAML file: \`cf-mesh up --config FILE\`. Each job needs its own section and \`log\`, \`control\` one at least
of \`diego\`, \`nats\`, \`routingApi\` and \`copilot\`; \`up\` runs a job for each section that is there. Unknown keys are errors, and all errors
are told at once. Durations are milliseconds.

\`\`\`yaml
log: { directory: /var/vcap/data/cf-mesh/log }
router: { port: 8080, runDirectory: /var/vcap/data/cf-mesh/run }
cloudController:
  url: https://api.sys.example.com
  clientId: cf-mesh
  clientSecretFile: /var/vcap/jobs/cf-mesh/config/client-secret
diego:
  urls: [https://bbs.service.cf.internal:8889]
  caFile: /var/vcap/jobs/cf-mesh/config/bbs-ca.crt
  certificateFile: /var/vcap/jobs/cf-mesh/config/bbs-client.crt
  keyFile: /var/vcap/jobs/cf-mesh/config/bbs-client.key
\`\`\`

The UAA client needs the authority \`cloud_controller.global_auditor\` and the grant type \`client_credentials\`, no more. The
BBS certificate is a client certificate of the BBS's own CA.

This page is made from the schema in \`src/config/config.ts\` by \`npx vitest run src/config --update\`.
`;

/** docs/config.md, from the schema. */
export function configReference(): string {
  const schema = z.toJSONSchema(ConfigSchema, { io: "input" }) as JsonSchema;
  const sections = Object.entries(schema.properties ?? {});
  const top = sections.filter(([, section]) => !section.properties);
  const parts = sections.flatMap(([name, section]) =>
    section.properties ? [`\n## ${name}\n`, table(Object.entries(section.properties), section.required ?? [])] : [],
  );
  return `${[INTRODUCTION, "## Top level\n", table(top, schema.required ?? []), ...parts].join("\n")}\n`;
}

function table(keys: readonly (readonly [string, JsonSchema])[], required: readonly string[]): string {
  return ["| key | type | default | what it is |", "|---|---|---|---|", ...rows(keys, required)].join("\n");
}

/** A section within a section has rows of its own: "health.port"; each of a list, too: "keypairs[].keyFile". */
function rows(keys: readonly (readonly [string, JsonSchema])[], required: readonly string[], place = ""): string[] {
  return keys.flatMap(([name, key]) => {
    const fallback =
      key.default === undefined
        ? required.includes(name)
          ? "required"
          : ""
        : `\`${typeof key.default === "string" ? key.default : JSON.stringify(key.default)}\``;
    const row = `| \`${place}${name}\` | ${typeOf(key)} | ${fallback} | ${key.description ?? ""} |`;
    const { properties, required: inner = [] } = key.items?.properties ? key.items : key;
    const below = `${place}${name}${key.items ? "[]" : ""}.`;
    return [row, ...rows(Object.entries(properties ?? {}), inner, below)];
  });
}

function typeOf({ type, enum: values, items, anyOf }: JsonSchema): string {
  if (values) return values.map((value) => `\`${String(value)}\``).join(", ");
  if (anyOf) return [...new Set(anyOf.map(typeOf))].join(" or ");
  if (items) return `list of ${typeOf(items)}`;
  return type ?? "string";
}
