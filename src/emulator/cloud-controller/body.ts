/** Request bodies: JSON whatever the content type says, since `cf curl` sends it as form-urlencoded. */
import type { FastifyInstance, FastifyRequest } from "fastify";
import { z } from "zod";
import { messageParseError, unprocessable } from "./errors.js";
import type { Metadata } from "./records.js";

export function readBodiesAsText(server: FastifyInstance): void {
  server.removeAllContentTypeParsers();
  server.addContentTypeParser("*", { parseAs: "string" }, (_request, body, done) => {
    done(null, body);
  });
}

/** Throws MessageParseError unless the body is a JSON object. */
export function objectBody(request: FastifyRequest): Record<string, unknown> {
  const parsed = z.record(z.string(), z.unknown()).safeParse(parseJson(request.body));
  if (!parsed.success) throw messageParseError();
  return parsed.data;
}

/** Throws 422 with every problem, in Cloud Controller's words: "Name must be a string, Unknown field(s): 'x'". */
export function parseBody<Schema extends z.ZodType>(request: FastifyRequest, schema: Schema): z.output<Schema> {
  return parseFields(objectBody(request), schema);
}

/** As `parseBody`, for what is no body. */
export function parseFields<Schema extends z.ZodType>(fields: unknown, schema: Schema): z.output<Schema> {
  const parsed = schema.safeParse(fields);
  if (parsed.success) return parsed.data;
  throw unprocessable(parsed.error.issues.map(describeIssue).join(", "));
}

function parseJson(body: unknown): unknown {
  try {
    return typeof body === "string" ? JSON.parse(body) : undefined;
  } catch {
    return undefined;
  }
}

function describeIssue(issue: z.core.$ZodIssue): string {
  const subject = issue.path.filter((part) => typeof part === "string").map(humanize);
  const problem = issue.code === "unrecognized_keys" ? unknownFields(issue.keys) : issue.message;
  return [...subject, problem].join(" ");
}

export function unknownFields(names: readonly string[]): string {
  return `Unknown field(s): '${names.join("', '")}'`;
}

/** "memory_in_mb" reads "Memory in mb". */
export function humanize(field: string): string {
  const words = field.replaceAll("_", " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}

export const stringField = z.string({
  error: (issue) => (issue.input === undefined ? "can't be blank" : "must be a string"),
});

export const nameField = stringField.min(1, "can't be blank").max(255, "is too long (maximum is 255 characters)");

const relationshipSchema = z.strictObject({ data: z.strictObject({ guid: z.string().min(1).max(200) }) });

/** A relationship to one other resource: `{"data": {"guid": ...}}`. */
export function relationship(name: string) {
  return z.custom<z.infer<typeof relationshipSchema>>(
    (value) => relationshipSchema.safeParse(value).success,
    `must be structured like this: "${name}: {"data": {"guid": "valid-guid"}}"`,
  );
}

/** The "relationships" of a body that must name these. */
export function relationships<Name extends string>(...names: readonly Name[]) {
  const shape = Object.fromEntries(names.map((name) => [name, relationship(name)]));
  return z.strictObject(shape as Record<Name, ReturnType<typeof relationship>>, {
    error: (issue) =>
      issue.code === "unrecognized_keys"
        ? undefined
        : issue.input === undefined
          ? "can't be blank"
          : "'relationships' is not an object",
  });
}

const MAX_PREFIX_LENGTH = 253;
const MAX_NAME_LENGTH = 63;
const MAX_ANNOTATION_LENGTH = 5_000;
/** Names joined by at least one dot. */
const DNS_NAME = /^(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/i;

/** What is wrong with the key of a label or an annotation, in Cloud Controller's words; undefined for a good one. */
function keyFault(key: string): string | undefined {
  const [first = "", second, ...more] = key.split("/");
  if (more.length > 0) return "key has more than one '/'";
  const [prefix, name] = second === undefined ? [undefined, first] : [first, second];
  if (prefix !== undefined) {
    if (prefix.length > MAX_PREFIX_LENGTH) return `prefix '${prefix.slice(0, 8)}...' is greater than 253 characters`;
    if (prefix === "") return "prefix cannot be empty";
    if (!DNS_NAME.test(prefix)) return `prefix '${prefix}' must be in valid dns format`;
    if (prefix.toLowerCase() === "cloudfoundry.org") return `prefix '${prefix}' is reserved`;
  }
  if (name === "") return "key cannot be empty string";
  if (name.length > MAX_NAME_LENGTH) return `'${name.slice(0, 8)}...' is greater than 63 characters`;
  if (!/^[\w.-]+$/.test(name)) return `'${name}' contains invalid characters`;
  if (!/^[a-z0-9](?:.*[a-z0-9])?$/i.test(name)) return `'${name}' starts or ends with invalid characters`;
  return undefined;
}

function pairs(kind: "annotation" | "label", maxLength: number) {
  return z.record(z.string(), z.union([z.string(), z.null()])).superRefine((given, context) => {
    for (const [key, value] of Object.entries(given)) {
      // What is there under a bad key, of a time before the check, may still be deleted.
      const fault = value === null ? undefined : keyFault(key);
      if (fault !== undefined) context.addIssue(`${kind} key error: ${fault}`);
      if (value !== null && value.length > maxLength) {
        context.addIssue(`${kind} value error: '${value.slice(0, 8)}...' is greater than ${maxLength} characters`);
      }
    }
  });
}

export const metadataField = z
  .strictObject(
    {
      labels: pairs("label", MAX_NAME_LENGTH).optional(),
      annotations: pairs("annotation", MAX_ANNOTATION_LENGTH).optional(),
    },
    "must be an object",
  )
  .optional();

/** Merged as PATCH does: null deletes a key. */
export function mergeMetadata(old: Metadata, change: z.output<typeof metadataField>): Metadata {
  return {
    labels: mergePairs(old.labels, change?.labels ?? {}),
    annotations: mergePairs(old.annotations, change?.annotations ?? {}),
  };
}

export function mergePairs(
  old: Readonly<Record<string, string>>,
  change: Readonly<Record<string, string | null>>,
): Record<string, string> {
  const merged: [string, string | null][] = Object.entries({ ...old, ...change });
  return Object.fromEntries(merged.filter((pair): pair is [string, string] => pair[1] !== null));
}
