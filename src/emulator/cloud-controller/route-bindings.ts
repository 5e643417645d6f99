/** Bindings of routes to services that their requests go through first. */
import type { FastifyInstance } from "fastify";
import { z } from "zod";
import { type Api, link, now, presentTimes, timestamp, toOne } from "./api.js";
import { callerOf } from "./authentication.js";
import { mergeMetadata, metadataField, parseBody, relationships } from "./body.js";
import { notFound, unprocessable } from "./errors.js";
import { type Include, list } from "./list.js";
import type { RouteBinding } from "./records.js";
import { bindRoute, deleteBinding } from "./route-binding-actions.js";
import { presentRoute } from "./routes.js";
import { presentServiceInstance } from "./service-instances.js";

const createSchema = z.strictObject({
  relationships: relationships("route", "service_instance"),
  parameters: z.record(z.string(), z.unknown()).optional(),
  metadata: metadataField,
});
const updateSchema = z.strictObject({ metadata: metadataField });

export function serveRouteBindings(server: FastifyInstance, api: Api): void {
  const { store } = api;
  const path = "/v3/service_route_bindings/:guid";

  server.get("/v3/service_route_bindings", (request) =>
    list(api, request, {
      items: () => store.routeBindings.all(),
      present: (binding) => presentBinding(api, binding),
      filters: {
        route_guids: (binding, guids) => guids.has(binding.routeGuid),
        service_instance_guids: (binding, guids) => guids.has(binding.serviceInstanceGuid),
        service_instance_names: (binding, names) =>
          names.has(store.serviceInstances.require(binding.serviceInstanceGuid).name),
      },
      includes: bindingIncludes(api),
    }),
  );
  server.post("/v3/service_route_bindings", async (request, reply) => {
    const { relationships: related, metadata, parameters } = parseBody(request, createSchema);
    const instance = store.serviceInstances.get(related.service_instance.data.guid);
    const route = store.routes.get(related.route.data.guid);
    if (instance === undefined) throw unprocessable("The service instance could not be found");
    if (route === undefined) throw unprocessable("The route could not be found");
    if (parameters !== undefined) {
      throw unprocessable("Binding parameters are not supported for user-provided service instances");
    }
    const binding = await bindRoute(api, callerOf(request), instance, route);
    binding.metadata = mergeMetadata(binding.metadata, metadata);
    return reply.status(201).send(presentBinding(api, binding));
  });
  server.get<{ Params: { guid: string } }>(path, (request) =>
    presentBinding(api, findBinding(api, request.params.guid)),
  );
  server.patch<{ Params: { guid: string } }>(path, (request) => {
    const binding = findBinding(api, request.params.guid);
    binding.metadata = mergeMetadata(binding.metadata, parseBody(request, updateSchema).metadata);
    binding.updatedAt = now(api);
    return presentBinding(api, binding);
  });
  server.delete<{ Params: { guid: string } }>(path, async (request, reply) => {
    await deleteBinding(api, callerOf(request), findBinding(api, request.params.guid));
    return reply.status(204).send();
  });
}

function bindingIncludes(api: Api): Readonly<Record<string, Include<RouteBinding>>> {
  const { store } = api;
  return {
    route: (bindings) => ({
      routes: bindings.map(({ routeGuid }) => presentRoute(api, store.routes.require(routeGuid))),
    }),
    service_instance: (bindings) => {
      const guids = new Set(bindings.map((binding) => binding.serviceInstanceGuid));
      const instances = [...guids].map((guid) => store.serviceInstances.require(guid));
      return { service_instances: instances.map((instance) => presentServiceInstance(api, instance)) };
    },
  };
}

function findBinding(api: Api, guid: string): RouteBinding {
  const binding = api.store.routeBindings.get(guid);
  if (binding === undefined) throw notFound("Service route binding");
  return binding;
}

function presentBinding(api: Api, binding: RouteBinding): object {
  const { createdAt, routeGuid, serviceInstanceGuid } = binding;
  const at = timestamp(createdAt);
  return {
    ...presentTimes(binding),
    route_service_url: binding.routeServiceUrl,
    last_operation: { type: "create", state: "succeeded", description: "", created_at: at, updated_at: at },
    metadata: binding.metadata,
    relationships: { route: toOne(routeGuid), service_instance: toOne(serviceInstanceGuid) },
    links: {
      self: link(api, `/v3/service_route_bindings/${binding.guid}`),
      service_instance: link(api, `/v3/service_instances/${serviceInstanceGuid}`),
      route: link(api, `/v3/routes/${routeGuid}`),
    },
  };
}
