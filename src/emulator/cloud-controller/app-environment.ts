/** What an app finds in its environment, and the switches that it has. */
import type { FastifyInstance } from "fastify";
import { z } from "zod";
import { type Api, link } from "./api.js";
import { findApp } from "./apps.js";
import { parseBody } from "./body.js";
import { vcapApplication } from "./desired-process.js";
import { notFound, unprocessable } from "./errors.js";
import { emptyList } from "./list.js";
import { findSpace } from "./spaces.js";

type ByGuid = { Params: { guid: string } };
type Feature = { Params: { guid: string; name: string } };

/** By name. Instances are processes of the user's own machine: there is nothing to ssh into. */
const FEATURES: Readonly<Record<string, string>> = {
  ssh: "Enable SSHing into the app.",
  revisions: "Enable versioning of an application",
  "service-binding-k8s": "Enable k8s service bindings for the app",
  "file-based-vcap-services": "Enable file-based VCAP service bindings for the app",
};

export function serveAppEnvironment(server: FastifyInstance, api: Api): void {
  const { store } = api;

  server.get<ByGuid>("/v3/apps/:guid/env", (request) => {
    const app = findApp(api, request.params.guid);
    const web = store.process(app.guid, "web");
    return {
      staging_env_json: {},
      running_env_json: {},
      environment_variables: app.environmentVariables,
      system_env_json: { VCAP_SERVICES: {} },
      application_env_json:
        web === undefined ? {} : { VCAP_APPLICATION: vcapApplication(store, api.url(), web, web.version) },
    };
  });
  server.get<ByGuid>("/v3/apps/:guid/features", (request) => {
    findApp(api, request.params.guid);
    return { ...emptyList(api, request), resources: Object.keys(FEATURES).map(presentFeature) };
  });
  server.get<Feature>("/v3/apps/:guid/features/:name", (request) => {
    findApp(api, request.params.guid);
    return presentFeature(knownFeature(request.params.name));
  });
  server.patch<Feature>("/v3/apps/:guid/features/:name", (request) => {
    findApp(api, request.params.guid);
    const name = knownFeature(request.params.name);
    const { enabled } = parseBody(request, z.strictObject({ enabled: z.boolean("must be a boolean") }));
    if (enabled) throw unprocessable(`The feature '${name}' is not supported by this emulated foundation.`);
    return presentFeature(name);
  });
  server.get<ByGuid>("/v3/apps/:guid/ssh_enabled", (request) => {
    findApp(api, request.params.guid);
    return { enabled: false, reason: "Disabled globally" };
  });
  server.get<ByGuid>("/v3/spaces/:guid/features/ssh", (request) => {
    findSpace(api, request.params.guid);
    return { name: "ssh", description: "Enable SSHing into apps in the space.", enabled: false };
  });
  for (const path of ["revisions", "revisions/deployed"]) {
    server.get<ByGuid>(`/v3/apps/:guid/${path}`, (request) => {
      findApp(api, request.params.guid);
      return emptyList(api, request);
    });
  }
  server.get<ByGuid>("/v3/apps/:guid/sidecars", (request) => {
    findApp(api, request.params.guid);
    return emptyList(api, request);
  });
  server.get<ByGuid>("/v3/apps/:guid/permissions", (request) => {
    findApp(api, request.params.guid);
    return { read_basic_data: true, read_sensitive_data: true };
  });
  server.get<ByGuid>("/v3/apps/:guid/relationships/space", (request) => ({
    data: { guid: findApp(api, request.params.guid).spaceGuid },
    links: { self: link(api, `/v3/apps/${request.params.guid}/relationships/space`) },
  }));
}

function knownFeature(name: string): string {
  if (FEATURES[name] === undefined) throw notFound("Feature");
  return name;
}

function presentFeature(name: string): object {
  return { name, description: FEATURES[name], enabled: false };
}
