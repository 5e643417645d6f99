import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { z } from "zod";
import { type Api, type Caller, link, now, presentTimes, toOne } from "./api.js";
import { findApp } from "./apps.js";
import { recordAppEvent } from "./audit-events.js";
import { callerOf } from "./authentication.js";
import { mergeMetadata, metadataField, parseBody } from "./body.js";
import { notFound } from "./errors.js";
import { list, type Listing, queryOf } from "./list.js";
import { commandText } from "./presenters.js";
import { presentInstances, presentStats } from "./process-stats.js";
import type { HealthCheck, Process } from "./records.js";

const wholeNumber = z.int("is not a number");
const scaleSchema = z.strictObject({
  instances: wholeNumber.min(0, "must be greater than or equal to 0").nullish(),
  memory_in_mb: wholeNumber.min(1, "must be greater than 0").nullish(),
  disk_in_mb: wholeNumber.min(1, "must be greater than 0").nullish(),
  log_rate_limit_in_bytes_per_second: wholeNumber.min(-1, "must be greater than or equal to -1").nullish(),
});

const dataField = z.record(z.string(), z.unknown(), "must be an object").optional();
const updateSchema = z.strictObject({
  command: z.string("must be a string").max(4096, "must be between 1 and 4096 characters").nullish(),
  health_check: z
    .strictObject({
      type: z.enum(["port", "process", "http"], 'must be "port", "process", or "http"'),
      data: dataField,
    })
    .optional(),
  readiness_health_check: z
    .strictObject({
      type: z.enum(["port", "process", "http"], 'must be "port", "process", or "http"'),
      data: dataField,
    })
    .optional(),
  metadata: metadataField,
});

type ByApp = { Params: { guid: string; type: string; index: string } };
type ByGuid = { Params: { guid: string; index: string } };

export function serveProcesses(server: FastifyInstance, api: Api): void {
  const { store } = api;
  const byGuid = (request: FastifyRequest<ByGuid>) => findProcess(api, request.params.guid);
  const byApp = (request: FastifyRequest<ByApp>) => {
    const process = store.process(findApp(api, request.params.guid).guid, request.params.type);
    if (process === undefined) throw notFound("Process");
    return process;
  };
  const guidPath = "/v3/processes/:guid";
  const appPath = "/v3/apps/:guid/processes/:type";

  server.get("/v3/processes", (request) =>
    list(
      api,
      request,
      processListing(api, request, () => store.processes.all()),
    ),
  );
  server.get<{ Params: { guid: string } }>("/v3/apps/:guid/processes", (request) => {
    const app = findApp(api, request.params.guid);
    return list(
      api,
      request,
      processListing(api, request, () => store.processesOfApp(app.guid)),
    );
  });
  server.get<ByGuid>(guidPath, (request) => presentProcess(api, byGuid(request)));
  server.get<ByApp>(appPath, (request) => presentProcess(api, byApp(request)));
  server.patch<ByGuid>(guidPath, (request) => update(api, request, byGuid(request)));
  server.patch<ByApp>(appPath, (request) => update(api, request, byApp(request)));
  server.post<ByGuid>(`${guidPath}/actions/scale`, (request, reply) => scale(api, request, reply, byGuid(request)));
  server.post<ByApp>(`${appPath}/actions/scale`, (request, reply) => scale(api, request, reply, byApp(request)));
  server.get<ByGuid>(`${guidPath}/stats`, (request) => presentStats(api, byGuid(request)));
  server.get<ByApp>(`${appPath}/stats`, (request) => presentStats(api, byApp(request)));
  server.get<ByGuid>(`${guidPath}/sidecars`, (request) => {
    findProcess(api, request.params.guid);
    return list(api, request, { items: () => [], present: () => ({}) });
  });
  server.delete<ByGuid>(`${guidPath}/instances/:index`, (request, reply) =>
    restartInstance(api, reply, byGuid(request), request.params.index),
  );
  server.delete<ByApp>(`${appPath}/instances/:index`, (request, reply) =>
    restartInstance(api, reply, byApp(request), request.params.index),
  );
}

export interface Scale {
  readonly instances?: number;
  readonly memoryMb?: number;
  readonly diskMb?: number;
  readonly logRateLimitBytesPerSecond?: number;
}

/** A change of the instance count keeps the version; a change of memory or disk makes a new LRP. */
export async function scaleProcess(api: Api, caller: Caller, process: Process, change: Scale): Promise<void> {
  const isNewVersion =
    (change.memoryMb ?? process.memoryMb) !== process.memoryMb || (change.diskMb ?? process.diskMb) !== process.diskMb;
  process.instances = change.instances ?? process.instances;
  process.memoryMb = change.memoryMb ?? process.memoryMb;
  process.diskMb = change.diskMb ?? process.diskMb;
  process.logRateLimitBytesPerSecond = change.logRateLimitBytesPerSecond ?? process.logRateLimitBytesPerSecond;
  process.updatedAt = now(api);
  const app = api.store.apps.require(process.appGuid);
  recordAppEvent(api, caller, "audit.app.process.scale", app, {
    process_guid: process.guid,
    process_type: process.type,
    request: { instances: process.instances, memory_in_mb: process.memoryMb, disk_in_mb: process.diskMb },
  });
  await (isNewVersion ? api.launcher.replace(process) : api.launcher.refresh(process));
}

async function scale(api: Api, request: FastifyRequest, reply: FastifyReply, process: Process): Promise<FastifyReply> {
  const body = parseBody(request, scaleSchema);
  await scaleProcess(api, callerOf(request), process, {
    ...(body.instances == null ? {} : { instances: body.instances }),
    ...(body.memory_in_mb == null ? {} : { memoryMb: body.memory_in_mb }),
    ...(body.disk_in_mb == null ? {} : { diskMb: body.disk_in_mb }),
    ...(body.log_rate_limit_in_bytes_per_second == null
      ? {}
      : { logRateLimitBytesPerSecond: body.log_rate_limit_in_bytes_per_second }),
  });
  return reply.status(202).send(presentProcess(api, process));
}

/** Takes effect at the next start: an LRP's command can't change. */
function update(api: Api, request: FastifyRequest, process: Process): object {
  const body = parseBody(request, updateSchema);
  if (body.command !== undefined) process.command = body.command === "" ? null : body.command;
  process.healthCheck = mergeHealthCheck(process.healthCheck, body.health_check);
  process.readinessHealthCheck = mergeHealthCheck(process.readinessHealthCheck, body.readiness_health_check);
  process.metadata = mergeMetadata(process.metadata, body.metadata);
  process.updatedAt = now(api);
  const app = api.store.apps.require(process.appGuid);
  recordAppEvent(api, callerOf(request), "audit.app.process.update", app, {
    process_guid: process.guid,
    process_type: process.type,
  });
  return presentProcess(api, process);
}

function mergeHealthCheck(
  old: HealthCheck,
  change: { type: string; data?: Record<string, unknown> | undefined } | undefined,
): HealthCheck {
  return change === undefined ? old : { type: change.type, data: { ...old.data, ...change.data } };
}

async function restartInstance(api: Api, reply: FastifyReply, process: Process, index: string): Promise<FastifyReply> {
  const isStarted = api.store.apps.require(process.appGuid).state === "STARTED";
  if (!isStarted || !/^\d+$/.test(index) || Number(index) >= process.instances) throw notFound("Instance");
  await api.launcher.restartInstance(process, Number(index));
  return reply.status(204).send();
}

function findProcess(api: Api, guid: string): Process {
  const process = api.store.processes.get(guid);
  if (process === undefined) throw notFound("Process");
  return process;
}

function processListing(api: Api, request: FastifyRequest, items: () => readonly Process[]): Listing<Process> {
  const { store } = api;
  const embedsInstances = queryOf(request).get("embed") === "process_instances";
  const spaceOf = (process: Process) => store.apps.require(process.appGuid).spaceGuid;
  return {
    items,
    present: (process) => ({
      ...presentProcess(api, process),
      command: "[PRIVATE DATA HIDDEN IN LISTS]",
      ...(embedsInstances && { process_instances: presentInstances(api, process) }),
    }),
    filters: {
      types: (process, types) => types.has(process.type),
      app_guids: (process, guids) => guids.has(process.appGuid),
      space_guids: (process, guids) => guids.has(spaceOf(process)),
      embed: () => true,
      organization_guids: (process, guids) => guids.has(store.spaces.require(spaceOf(process)).organizationGuid),
    },
  };
}

function presentProcess(api: Api, process: Process): object {
  const path = `/v3/processes/${process.guid}`;
  const app = api.store.apps.require(process.appGuid);
  const droplet = app.dropletGuid === null ? undefined : api.store.droplets.require(app.dropletGuid);
  const detected = droplet?.processTypes[process.type];
  return {
    ...presentTimes(process),
    version: process.version,
    type: process.type,
    command: process.command ?? (detected === undefined ? null : commandText(detected)),
    user: "vcap",
    instances: process.instances,
    memory_in_mb: process.memoryMb,
    disk_in_mb: process.diskMb,
    log_rate_limit_in_bytes_per_second: process.logRateLimitBytesPerSecond,
    health_check: process.healthCheck,
    readiness_health_check: process.readinessHealthCheck,
    relationships: { app: toOne(app.guid), revision: null },
    metadata: process.metadata,
    links: {
      self: link(api, path),
      scale: { ...link(api, `${path}/actions/scale`), method: "POST" },
      app: link(api, `/v3/apps/${app.guid}`),
      space: link(api, `/v3/spaces/${app.spaceGuid}`),
      stats: link(api, `${path}/stats`),
    },
  };
}
