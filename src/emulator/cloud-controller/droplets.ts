import { createHash } from "node:crypto";
import type { FastifyInstance } from "fastify";
import { z } from "zod";
import { type Api, link, presentTimes, toOne } from "./api.js";
import { copyDroplet } from "./app-actions.js";
import { findApp } from "./apps.js";
import { parseBody, relationships } from "./body.js";
import { findPackage } from "./packages.js";
import { notFound, unprocessable } from "./errors.js";
import { list, type Listing, queryOf } from "./list.js";
import { commandText } from "./presenters.js";
import type { Droplet } from "./records.js";

const copySchema = z.strictObject({ relationships: relationships("app") });

export function serveDroplets(server: FastifyInstance, api: Api): void {
  const { store } = api;
  const listing = (items: () => readonly Droplet[]): Listing<Droplet> => ({
    items,
    present: (droplet) => presentDroplet(api, droplet),
    filters: {
      app_guids: (droplet, guids) => guids.has(droplet.appGuid ?? ""),
      space_guids: (droplet, guids) => guids.has(spaceOf(api, droplet) ?? ""),
      organization_guids: (droplet, guids) => {
        const space = spaceOf(api, droplet);
        return space !== undefined && guids.has(store.spaces.require(space).organizationGuid);
      },
      states: (_droplet, states) => states.has("STAGED"),
    },
  });

  server.get("/v3/droplets", (request) =>
    list(
      api,
      request,
      listing(() => store.droplets.all()),
    ),
  );
  server.get<{ Params: { guid: string } }>("/v3/droplets/:guid", (request) =>
    presentDroplet(api, findDroplet(api, request.params.guid)),
  );
  server.post("/v3/droplets", (request, reply) => {
    const sourceGuid = queryOf(request).get("source_guid");
    if (sourceGuid === null) throw unprocessable("Source guid can't be blank");
    const source = findDroplet(api, sourceGuid);
    const appGuid = parseBody(request, copySchema).relationships.app.data.guid;
    const app = store.apps.get(appGuid);
    if (app === undefined) {
      throw unprocessable(`App with guid "${appGuid}" does not exist, or you do not have access to it.`);
    }
    return reply.status(201).send(presentDroplet(api, copyDroplet(api, source, app)));
  });
  server.get<{ Params: { guid: string } }>("/v3/apps/:guid/droplets", (request) => {
    const app = findApp(api, request.params.guid);
    return list(
      api,
      request,
      listing(() => store.dropletsOfApp(app.guid)),
    );
  });
  server.get<{ Params: { guid: string } }>("/v3/packages/:guid/droplets", (request) => {
    const { guid } = findPackage(api, request.params.guid);
    return list(
      api,
      request,
      listing(() => store.droplets.all().filter((droplet) => droplet.packageGuid === guid)),
    );
  });
  server.get<{ Params: { guid: string } }>("/v3/apps/:guid/droplets/current", (request) =>
    presentDroplet(api, findDroplet(api, findApp(api, request.params.guid).dropletGuid ?? "")),
  );
}

function findDroplet(api: Api, guid: string): Droplet {
  const droplet = api.store.droplets.get(guid);
  if (droplet === undefined) throw notFound("Droplet");
  return droplet;
}

function spaceOf(api: Api, droplet: Droplet): string | undefined {
  return droplet.appGuid === null ? undefined : api.store.apps.require(droplet.appGuid).spaceGuid;
}

function presentDroplet(api: Api, droplet: Droplet): object {
  const path = `/v3/droplets/${droplet.guid}`;
  return {
    ...presentTimes(droplet),
    state: "STAGED",
    error: null,
    lifecycle: { type: "buildpack", data: {} },
    checksum: { type: "sha256", value: createHash("sha256").update(droplet.name).digest("hex") },
    buildpacks: [
      { name: droplet.name, detect_output: droplet.detectOutput, buildpack_name: droplet.name, version: null },
    ],
    stack: "cflinuxfs4",
    image: null,
    execution_metadata: "",
    process_types: Object.fromEntries(
      Object.entries(droplet.processTypes).map(([type, command]) => [type, commandText(command)]),
    ),
    relationships: { app: toOne(droplet.appGuid) },
    metadata: droplet.metadata,
    links: {
      self: link(api, path),
      ...(droplet.appGuid === null
        ? {}
        : {
            app: link(api, `/v3/apps/${droplet.appGuid}`),
            assign_current_droplet: {
              ...link(api, `/v3/apps/${droplet.appGuid}/relationships/current_droplet`),
              method: "PATCH",
            },
          }),
    },
  };
}
