import type { FastifyInstance } from "fastify";
import { type Api, type Caller, link, newResource, presentTimes } from "./api.js";
import { notFound } from "./errors.js";
import { list } from "./list.js";
import type {
  App,
  AuditEvent,
  Destination,
  Party,
  Route,
  RouteBinding,
  RoutePolicy,
  ServiceInstance,
} from "./records.js";

type Data = AuditEvent["data"];

export function recordAppEvent(api: Api, caller: Caller, type: string, app: App, data: Data): void {
  record(api, caller, type, { guid: app.guid, type: "app", name: app.name }, app.spaceGuid, data);
}

export function recordRouteEvent(api: Api, caller: Caller, type: string, route: Route, data: Data): void {
  record(api, caller, type, { guid: route.guid, type: "route", name: route.host }, route.spaceGuid, data);
}

export function recordMapping(
  api: Api,
  caller: Caller,
  type: "audit.app.map-route" | "audit.app.unmap-route",
  app: App,
  destination: Destination,
): void {
  recordAppEvent(api, caller, type, app, {
    route_guid: destination.routeGuid,
    app_port: destination.port,
    route_mapping_guid: destination.guid,
    destination_guid: destination.guid,
    process_type: destination.processType,
    weight: destination.weight,
    protocol: destination.protocol,
  });
}

export function recordServiceInstanceEvent(
  api: Api,
  caller: Caller,
  action: "create" | "update" | "delete",
  { guid, name, spaceGuid }: ServiceInstance,
): void {
  const type = `audit.user_provided_service_instance.${action}`;
  record(api, caller, type, { guid, type: "user_provided_service_instance", name }, spaceGuid, {});
}

export function recordRouteBindingEvent(
  api: Api,
  caller: Caller,
  action: "create" | "delete",
  { guid, routeGuid, serviceInstanceGuid }: RouteBinding,
): void {
  const relationships = {
    route: { data: { guid: routeGuid } },
    service_instance: { data: { guid: serviceInstanceGuid } },
  };
  const { spaceGuid } = api.store.routes.require(routeGuid);
  const target = { guid, type: "service_route_binding", name: "" };
  const data = action === "create" ? { request: { relationships } } : {};
  record(api, caller, `audit.service_route_binding.${action}`, target, spaceGuid, data);
}

/** @param asked  what was asked for; undefined for a deletion */
export function recordRoutePolicyEvent(
  api: Api,
  caller: Caller,
  action: "create" | "delete" | "update",
  { guid, routeGuid, source }: RoutePolicy,
  asked: object | undefined,
): void {
  const { spaceGuid } = api.store.routes.require(routeGuid);
  const target = { guid, type: "route_policy", name: source };
  record(api, caller, `audit.route_policy.${action}`, target, spaceGuid, asked === undefined ? {} : { request: asked });
}

function record(api: Api, caller: Caller, type: string, target: Party, spaceGuid: string, data: Data): void {
  api.store.auditEvents.add({
    ...newResource(api),
    type,
    actor: { guid: caller.guid, type: "user", name: caller.name },
    target,
    data,
    spaceGuid,
    organizationGuid: api.store.spaces.require(spaceGuid).organizationGuid,
  });
}

export function serveAuditEvents(server: FastifyInstance, api: Api): void {
  const { store } = api;
  server.get("/v3/audit_events", (request) =>
    list(api, request, {
      items: () => store.auditEvents.all(),
      present: (event) => present(api, event),
      filters: {
        types: (event, types) => types.has(event.type),
        target_guids: (event, guids) => guids.has(event.target.guid),
        "target_guids[not]": (event, guids) => !guids.has(event.target.guid),
        space_guids: (event, guids) => guids.has(event.spaceGuid ?? ""),
        organization_guids: (event, guids) => guids.has(event.organizationGuid ?? ""),
      },
      orders: { created_at: (event) => event.createdAt },
    }),
  );
  server.get<{ Params: { guid: string } }>("/v3/audit_events/:guid", (request) => {
    const event = store.auditEvents.get(request.params.guid);
    if (event === undefined) throw notFound("Event");
    return present(api, event);
  });
}

function present(api: Api, event: AuditEvent): object {
  return {
    ...presentTimes(event),
    type: event.type,
    actor: event.actor,
    target: event.target,
    data: event.data,
    space: event.spaceGuid === null ? null : { guid: event.spaceGuid },
    organization: event.organizationGuid === null ? null : { guid: event.organizationGuid },
    links: { self: link(api, `/v3/audit_events/${event.guid}`) },
  };
}
