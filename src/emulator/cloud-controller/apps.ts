import type { FastifyInstance } from "fastify";
import { z } from "zod";
import { type Api, type Caller, link, now, presentTimes, toOne } from "./api.js";
import { assignDroplet, createApp, deleteApp, renameApp, restartApp, startApp, stopApp } from "./app-actions.js";
import { recordAppEvent } from "./audit-events.js";
import { callerOf } from "./authentication.js";
import { mergeMetadata, mergePairs, metadataField, nameField, parseBody, relationships } from "./body.js";
import { notFound } from "./errors.js";
import { acceptJob } from "./jobs.js";
import { lifecycleField } from "./lifecycle.js";
import { list, TIME_ORDERS } from "./list.js";
import { includeSpaces, includeSpacesAndOrganizations } from "./presenters.js";
import type { App } from "./records.js";

const variableSchema = z
  .string()
  .min(1, "key must be a minimum length of 1")
  .regex(/^(?!VCAP_)/i, "cannot start with VCAP_")
  .regex(/^(?!VMC)/i, "cannot start with VMC_")
  .regex(/^(?!PORT$)/i, "cannot set PORT");
const variablesField = z.record(variableSchema, z.union([z.string(), z.null()]), "must be an object");

const createSchema = z.strictObject({
  name: nameField,
  relationships: relationships("space"),
  lifecycle: lifecycleField,
  environment_variables: variablesField.optional(),
  metadata: metadataField,
});
const updateSchema = z.strictObject({
  name: nameField.optional(),
  lifecycle: lifecycleField,
  metadata: metadataField,
});
const dropletSchema = z.strictObject({
  data: z.strictObject({ guid: z.string("must be a string") }, 'must be structured like this: {"guid": "valid-guid"}'),
});

type AppAction = (api: Api, caller: Caller, app: App) => Promise<void>;
const ACTIONS: Readonly<Record<string, AppAction>> = { start: startApp, stop: stopApp, restart: restartApp };

export function serveApps(server: FastifyInstance, api: Api): void {
  const { store } = api;
  const path = "/v3/apps/:guid";

  server.get("/v3/apps", (request) =>
    list(api, request, {
      items: () => store.apps.all(),
      present: (app) => presentApp(api, app),
      filters: {
        names: (app, names) => names.has(app.name),
        organization_guids: (app, guids) => guids.has(store.spaces.require(app.spaceGuid).organizationGuid),
        space_guids: (app, guids) => guids.has(app.spaceGuid),
        stacks: (app, stacks) => stacks.has(app.stack),
        lifecycle_type: (_app, types) => types.has("buildpack"),
      },
      includes: {
        space: (apps) => includeSpaces(api, apps),
        org: (apps) => includeSpacesAndOrganizations(api, apps),
        "space.organization": (apps) => includeSpacesAndOrganizations(api, apps),
      },
      orders: { ...TIME_ORDERS, name: (app) => app.name, state: (app) => app.state },
    }),
  );
  server.post("/v3/apps", (request, reply) => {
    const body = parseBody(request, createSchema);
    const app = createApp(api, callerOf(request), {
      name: body.name,
      spaceGuid: body.relationships.space.data.guid,
      environmentVariables: mergePairs({}, body.environment_variables ?? {}),
      buildpacks: body.lifecycle?.data.buildpacks ?? [],
      ...(body.lifecycle?.data.stack == null ? {} : { stack: body.lifecycle.data.stack }),
    });
    app.metadata = mergeMetadata(app.metadata, body.metadata);
    return reply.status(201).send(presentApp(api, app));
  });
  server.get<{ Params: { guid: string } }>(path, (request) => presentApp(api, findApp(api, request.params.guid)));
  server.patch<{ Params: { guid: string } }>(path, (request) => {
    const app = findApp(api, request.params.guid);
    const body = parseBody(request, updateSchema);
    if (body.name !== undefined) renameApp(api, app, body.name);
    app.buildpacks = body.lifecycle?.data.buildpacks ?? app.buildpacks;
    app.stack = body.lifecycle?.data.stack ?? app.stack;
    app.metadata = mergeMetadata(app.metadata, body.metadata);
    app.updatedAt = now(api);
    recordAppEvent(api, callerOf(request), "audit.app.update", app, { request: { name: app.name } });
    return presentApp(api, app);
  });
  server.delete<{ Params: { guid: string } }>(path, async (request, reply) => {
    await deleteApp(api, callerOf(request), findApp(api, request.params.guid));
    return acceptJob(api, reply, "app.delete");
  });
  for (const [name, act] of Object.entries(ACTIONS)) {
    server.post<{ Params: { guid: string } }>(`${path}/actions/${name}`, async (request) => {
      const app = findApp(api, request.params.guid);
      await act(api, callerOf(request), app);
      return presentApp(api, app);
    });
  }
  server.get<{ Params: { guid: string } }>(`${path}/relationships/current_droplet`, (request) => {
    const app = findApp(api, request.params.guid);
    if (app.dropletGuid === null) throw notFound("Droplet");
    return presentCurrentDroplet(api, app);
  });
  server.patch<{ Params: { guid: string } }>(`${path}/relationships/current_droplet`, (request) => {
    const app = findApp(api, request.params.guid);
    assignDroplet(api, callerOf(request), app, parseBody(request, dropletSchema).data.guid);
    return presentCurrentDroplet(api, app);
  });
  server.get<{ Params: { guid: string } }>(`${path}/environment_variables`, (request) =>
    presentVariables(api, findApp(api, request.params.guid)),
  );
  server.patch<{ Params: { guid: string } }>(`${path}/environment_variables`, (request) => {
    const app = findApp(api, request.params.guid);
    const body = parseBody(request, z.strictObject({ var: variablesField }));
    app.environmentVariables = mergePairs(app.environmentVariables, body.var);
    app.updatedAt = now(api);
    return presentVariables(api, app);
  });
}

export function findApp(api: Api, guid: string): App {
  const app = api.store.apps.get(guid);
  if (app === undefined) throw notFound("App");
  return app;
}

function presentCurrentDroplet(api: Api, app: App): object {
  const path = `/v3/apps/${app.guid}`;
  return {
    ...toOne(app.dropletGuid),
    links: {
      self: link(api, `${path}/relationships/current_droplet`),
      related: link(api, `${path}/droplets/current`),
    },
  };
}

function presentVariables(api: Api, app: App): object {
  const path = `/v3/apps/${app.guid}`;
  return {
    var: app.environmentVariables,
    links: { self: link(api, `${path}/environment_variables`), app: link(api, path) },
  };
}

export function presentApp(api: Api, app: App): object {
  const path = `/v3/apps/${app.guid}`;
  return {
    ...presentTimes(app),
    name: app.name,
    state: app.state,
    lifecycle: { type: "buildpack", data: { buildpacks: app.buildpacks, stack: app.stack } },
    relationships: { space: toOne(app.spaceGuid), current_droplet: toOne(app.dropletGuid) },
    metadata: app.metadata,
    links: {
      self: link(api, path),
      environment_variables: link(api, `${path}/environment_variables`),
      space: link(api, `/v3/spaces/${app.spaceGuid}`),
      processes: link(api, `${path}/processes`),
      routes: link(api, `${path}/routes`),
      current_droplet: link(api, `${path}/droplets/current`),
      droplets: link(api, `${path}/droplets`),
      start: { ...link(api, `${path}/actions/start`), method: "POST" },
      stop: { ...link(api, `${path}/actions/stop`), method: "POST" },
    },
  };
}
