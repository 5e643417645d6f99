/** User-provided services: a name for what stands elsewhere, as for a route service's URL. There are no brokers here. */
import type { FastifyInstance } from "fastify";
import { z } from "zod";
import { type Api, link, newResource, now, presentTimes, timestamp, toOne } from "./api.js";
import { callerOf } from "./authentication.js";
import { mergeMetadata, metadataField, nameField, parseBody, relationships, stringField } from "./body.js";
import { recordServiceInstanceEvent } from "./audit-events.js";
import { notFound, unprocessable } from "./errors.js";
import { list, TIME_ORDERS } from "./list.js";
import { includeSpaces } from "./presenters.js";
import type { ServiceInstance } from "./records.js";
import { deleteBinding, useNewUrl } from "./route-binding-actions.js";

const urlField = stringField.refine((url) => url === "" || URL.canParse(url), "must be a valid URI").nullish();
const changeable = {
  tags: z.array(stringField).optional(),
  credentials: z.record(z.string(), z.unknown()).nullish(),
  syslog_drain_url: urlField,
  route_service_url: urlField.refine((url) => !url || url.startsWith("https://"), "must be https"),
  metadata: metadataField,
};
const createSchema = z.strictObject({
  type: z.literal("user-provided", "must be 'user-provided': this emulated foundation has no service brokers"),
  name: nameField,
  relationships: relationships("space"),
  ...changeable,
});
const updateSchema = z.strictObject({ name: nameField.optional(), ...changeable });

/** What clients ask of the plans of managed services. */
const FIELDS = [
  "fields[service_plan]",
  "fields[service_plan.service_offering]",
  "fields[service_plan.service_offering.service_broker]",
  "fields[space]",
  "fields[space.organization]",
];

export function serveServiceInstances(server: FastifyInstance, api: Api): void {
  const { store } = api;
  const path = "/v3/service_instances/:guid";

  server.get("/v3/service_instances", (request) =>
    list(api, request, {
      items: () => store.serviceInstances.all(),
      present: (instance) => presentServiceInstance(api, instance),
      filters: {
        names: (instance, names) => names.has(instance.name),
        space_guids: (instance, guids) => guids.has(instance.spaceGuid),
        organization_guids: (instance, guids) => guids.has(store.organizationOf(instance.spaceGuid).guid),
        type: (_, types) => types.has("user-provided"),
      },
      includes: { space: (instances) => includeSpaces(api, instances) },
      orders: { ...TIME_ORDERS, name: (instance) => instance.name },
      others: FIELDS,
    }),
  );
  server.post("/v3/service_instances", (request, reply) => {
    const { name, relationships: related, metadata, ...fields } = parseBody(request, createSchema);
    const spaceGuid = related.space.data.guid;
    if (store.spaces.get(spaceGuid) === undefined) {
      throw unprocessable("Invalid space. Ensure that the space exists and you have access to it.");
    }
    checkNameIsFree(api, name, spaceGuid);
    const instance = store.serviceInstances.add({
      ...newResource(api),
      name,
      spaceGuid,
      tags: fields.tags ?? [],
      credentials: fields.credentials ?? {},
      syslogDrainUrl: fields.syslog_drain_url ?? null,
      routeServiceUrl: fields.route_service_url ?? null,
    });
    instance.metadata = mergeMetadata(instance.metadata, metadata);
    recordServiceInstanceEvent(api, callerOf(request), "create", instance);
    return reply.status(201).send(presentServiceInstance(api, instance));
  });
  server.get<{ Params: { guid: string } }>(path, (request) =>
    presentServiceInstance(api, findServiceInstance(api, request.params.guid)),
  );
  server.get<{ Params: { guid: string } }>(
    `${path}/credentials`,
    (request) => findServiceInstance(api, request.params.guid).credentials,
  );
  server.patch<{ Params: { guid: string } }>(path, async (request) => {
    const instance = findServiceInstance(api, request.params.guid);
    const { name, metadata, ...fields } = parseBody(request, updateSchema);
    if (name !== undefined && name !== instance.name) {
      checkNameIsFree(api, name, instance.spaceGuid);
      instance.name = name;
    }
    if (fields.tags) instance.tags = fields.tags;
    if (fields.credentials !== undefined) instance.credentials = fields.credentials ?? {};
    if (fields.syslog_drain_url !== undefined) instance.syslogDrainUrl = fields.syslog_drain_url;
    if (fields.route_service_url !== undefined) await useNewUrl(api, instance, fields.route_service_url);
    instance.metadata = mergeMetadata(instance.metadata, metadata);
    instance.updatedAt = now(api);
    recordServiceInstanceEvent(api, callerOf(request), "update", instance);
    return presentServiceInstance(api, instance);
  });
  server.delete<{ Params: { guid: string } }>(path, async (request, reply) => {
    const instance = findServiceInstance(api, request.params.guid);
    const caller = callerOf(request);
    for (const binding of store.bindingsOfInstance(instance.guid)) await deleteBinding(api, caller, binding);
    store.serviceInstances.delete(instance);
    recordServiceInstanceEvent(api, caller, "delete", instance);
    return reply.status(204).send();
  });
}

export function findServiceInstance(api: Api, guid: string): ServiceInstance {
  const instance = api.store.serviceInstances.get(guid);
  if (instance === undefined) throw notFound("Service instance");
  return instance;
}

export function presentServiceInstance(api: Api, instance: ServiceInstance): object {
  const path = `/v3/service_instances/${instance.guid}`;
  const { createdAt, updatedAt } = instance;
  return {
    ...presentTimes(instance),
    name: instance.name,
    tags: instance.tags,
    type: "user-provided",
    syslog_drain_url: instance.syslogDrainUrl,
    route_service_url: instance.routeServiceUrl,
    last_operation: {
      type: createdAt === updatedAt ? "create" : "update",
      state: "succeeded",
      description: "Operation succeeded",
      created_at: timestamp(createdAt),
      updated_at: timestamp(updatedAt),
    },
    metadata: instance.metadata,
    relationships: { space: toOne(instance.spaceGuid) },
    links: {
      self: link(api, path),
      space: link(api, `/v3/spaces/${instance.spaceGuid}`),
      credentials: link(api, `${path}/credentials`),
      service_credential_bindings: link(api, `/v3/service_credential_bindings?service_instance_guids=${instance.guid}`),
      service_route_bindings: link(api, `/v3/service_route_bindings?service_instance_guids=${instance.guid}`),
    },
  };
}

function checkNameIsFree(api: Api, name: string, spaceGuid: string): void {
  const isSame = (other: ServiceInstance) => other.spaceGuid === spaceGuid && other.name === name;
  if (api.store.serviceInstances.all().some(isSame)) {
    throw unprocessable(`The service instance name is taken: ${name}.`);
  }
}
