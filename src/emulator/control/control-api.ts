/**
 * The door for faults, on the listener of Cloud Controller and UAA: what tests inject in code, a command injects here.
 * Injected faults never hit it.
 *
 * Authorization   "bearer TOKEN": the control token of the foundation's control file (ControlFile), or any token of an
 *                 administrator, so that `cf curl /emulator/faults` works too. Otherwise 401.
 *
 * GET    /emulator/faults       200 {"kinds": [{"name", "description", "parameters": [{"name", "description", "type",
 *                               "required", "default"?, "values"?}]}], "active": [{"id", "name", "parameters"}]}
 *                               type is "string" or "integer"; values are the only ones allowed. Active are those that
 *                               stand until they are cleared, oldest first.
 * POST   /emulator/faults       {"name": ..., "parameters"?: {...}}
 *                               201 {"id", "name", "parameters"}: the id is null for a fault that happened once;
 *                               parameters are those given and the defaults of the others.
 *                               422 for an unknown name, a wrong parameter, or an instance that is not there
 * DELETE /emulator/faults       204: clears all that are active
 * DELETE /emulator/faults/ID    204, or 404
 *
 * Errors have Cloud Controller's form: {"errors": [{"code", "title", "detail"}]}.
 */
import { randomBytes, timingSafeEqual } from "node:crypto";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { z } from "zod";
import { asError } from "../../lib/errors.js";
import { isAdmin, type VerifyToken } from "../cloud-controller/authentication.js";
import { ApiError, invalidAuthToken, messageParseError, notFound, unprocessable } from "../cloud-controller/errors.js";
import { bearerToken } from "../http/bearer-token.js";
import { type EndFault, FAULT_KINDS, type FaultKind, type FaultTargets } from "./fault-kinds.js";

export interface ControlApiOptions {
  readonly targets: FaultTargets;
  readonly verifyToken: VerifyToken;
  /** See `newControlToken`. */
  readonly controlToken: string;
}

/** What `control.json` in the foundation's data directory holds while it runs; its owner alone may read it. */
export interface ControlFile {
  /** Of the foundation, as in "http://127.0.0.1:8081". */
  readonly url: string;
  readonly token: string;
}

export const CONTROL_FILE = "control.json";
export const CONTROL_PATH = "/emulator/faults";

/** A kind of fault as people are told of it. */
export interface FaultDescription {
  readonly name: string;
  readonly description: string;
  readonly parameters: readonly {
    readonly name: string;
    readonly description: string;
    readonly type: string;
    readonly required: boolean;
    readonly default?: string | number;
    /** The only ones allowed. */
    readonly values?: readonly string[];
  }[];
}

interface ActiveFault {
  readonly id: string;
  readonly name: string;
  readonly parameters: unknown;
  readonly end: NonNullable<EndFault>;
}

const bodySchema = z.strictObject({ name: z.string(), parameters: z.record(z.string(), z.unknown()).default({}) });

/** A secret that allows to inject faults, and nothing else. */
export function newControlToken(): string {
  return randomBytes(24).toString("base64url");
}

/** Adds the paths to a server that does not listen yet, and that reads bodies as text. */
export async function serveControlApi(root: FastifyInstance, options: ControlApiOptions): Promise<void> {
  const active = new Map<string, ActiveFault>();
  let lastId = 0;

  await root.register((server, _options, done) => {
    server.addHook("onRequest", (request) => authorize(request, options));
    server.setErrorHandler(async (thrown, _request, reply) => {
      const error = thrown instanceof ApiError ? thrown : unprocessable(asError(thrown).message);
      await reply.status(error.status).send(error.body);
    });

    server.get(CONTROL_PATH, () => ({
      kinds: describeFaults(),
      active: [...active.values()].map(({ id, name, parameters }) => ({ id, name, parameters })),
    }));
    server.post(CONTROL_PATH, async (request, reply) => {
      const { name, given } = parseInjection(request.body);
      const kind = FAULT_KINDS.find((one) => one.name === name);
      if (kind === undefined) throw unprocessable(`there is no fault "${name}"`);
      const parameters = parseParameters(kind, given);
      const end = await kind.inject(options.targets, parameters);
      if (end === undefined) return reply.status(201).send({ id: null, name, parameters });
      lastId += 1;
      const id = String(lastId);
      active.set(id, { id, name, parameters, end });
      return reply.status(201).send({ id, name, parameters });
    });
    server.delete(CONTROL_PATH, async (_request, reply) => {
      for (const fault of [...active.values()].reverse()) await endFault(fault);
      return noContent(reply);
    });
    server.delete<{ Params: { id: string } }>(`${CONTROL_PATH}/:id`, async (request, reply) => {
      const fault = active.get(request.params.id);
      if (fault === undefined) throw notFound("Fault");
      await endFault(fault);
      return noContent(reply);
    });
    done();
  });

  async function endFault(fault: ActiveFault): Promise<void> {
    active.delete(fault.id);
    await fault.end();
  }
}

async function authorize(request: FastifyRequest, { verifyToken, controlToken }: ControlApiOptions): Promise<void> {
  const token = bearerToken(request) ?? "";
  const [given, expected] = [Buffer.from(token), Buffer.from(controlToken)];
  if (given.length === expected.length && timingSafeEqual(given, expected)) return;
  const caller = await verifyToken(token);
  if (caller === undefined || !isAdmin(caller)) throw invalidAuthToken();
}

function noContent(reply: FastifyReply): FastifyReply {
  return reply.status(204).send();
}

function parseInjection(body: unknown): { readonly name: string; readonly given: unknown } {
  let json: unknown;
  try {
    json = JSON.parse(typeof body === "string" ? body : "");
  } catch {
    throw messageParseError();
  }
  const parsed = bodySchema.safeParse(json);
  if (!parsed.success) throw unprocessable(problemsOf(parsed.error));
  return { name: parsed.data.name, given: parsed.data.parameters };
}

function parseParameters(kind: FaultKind, given: unknown): unknown {
  const parsed = kind.parameters.safeParse(given, { error: typeFault });
  if (!parsed.success) throw unprocessable(problemsOf(parsed.error));
  return parsed.data;
}

/** What is wrong with a parameter's type; undefined leaves the words to the schema. */
function typeFault(issue: z.core.$ZodRawIssue): string | undefined {
  if (issue.code !== "invalid_type") return undefined;
  return issue.input === undefined ? "is needed" : `has to be a ${issue.expected}`;
}

function problemsOf({ issues }: z.ZodError): string {
  return issues.map(({ path, message }) => (path.length === 0 ? message : `${path.join(".")}: ${message}`)).join(", ");
}

/** The part of JSON Schema that parameters use. */
const jsonSchema = z.object({
  properties: z.record(
    z.string(),
    z.object({
      type: z.string(),
      description: z.string().default(""),
      default: z.union([z.string(), z.number()]).optional(),
      enum: z.array(z.string()).optional(),
    }),
  ),
  required: z.array(z.string()).default([]),
});

/** Every fault that can be injected. */
export function describeFaults(): readonly FaultDescription[] {
  return FAULT_KINDS.map(describeKind);
}

function describeKind({ name, description, parameters }: FaultKind): FaultDescription {
  const { properties, required } = jsonSchema.parse(z.toJSONSchema(parameters, { io: "input" }));
  return {
    name,
    description,
    parameters: Object.entries(properties).map(([parameter, schema]) => ({
      name: parameter,
      description: schema.description,
      type: schema.type,
      required: required.includes(parameter),
      ...(schema.default !== undefined && { default: schema.default }),
      ...(schema.enum !== undefined && { values: schema.enum }),
    })),
  };
}
