import type { FastifyInstance } from "fastify";
import { z } from "zod";
import { type Api, link, now, presentTimes, toOne } from "./api.js";
import { findApp } from "./apps.js";
import { callerOf } from "./authentication.js";
import { mergeMetadata, metadataField, parseBody } from "./body.js";
import { startBuild } from "./build-actions.js";
import { notFound, unprocessable } from "./errors.js";
import { lifecycleField } from "./lifecycle.js";
import { list, type Listing } from "./list.js";
import type { Build } from "./records.js";

const createSchema = z.strictObject({
  package: z.strictObject({ guid: z.string("must be a string") }, "must be an object"),
  lifecycle: lifecycleField,
  // Staging takes what it needs: nothing limits its memory, disk or log here.
  staging_memory_in_mb: z.int().positive().nullish(),
  staging_disk_in_mb: z.int().positive().nullish(),
  staging_log_rate_limit_bytes_per_second: z.int().min(-1).nullish(),
  metadata: metadataField,
});

export function serveBuilds(server: FastifyInstance, api: Api): void {
  const { store } = api;
  const path = "/v3/builds/:guid";
  const listing = (items: () => readonly Build[]): Listing<Build> => ({
    items,
    present: (build) => presentBuild(api, build),
    filters: {
      app_guids: (build, guids) => guids.has(build.appGuid),
      package_guids: (build, guids) => guids.has(build.packageGuid),
      states: (build, states) => states.has(build.state),
    },
  });

  server.get("/v3/builds", (request) =>
    list(
      api,
      request,
      listing(() => store.builds.all()),
    ),
  );
  server.get<{ Params: { guid: string } }>("/v3/apps/:guid/builds", (request) => {
    const { guid } = findApp(api, request.params.guid);
    return list(
      api,
      request,
      listing(() => store.buildsOfApp(guid)),
    );
  });
  server.post("/v3/builds", (request, reply) => {
    const body = parseBody(request, createSchema);
    const source = store.packages.get(body.package.guid);
    if (source === undefined)
      throw unprocessable("Unable to use package. Ensure that the package exists and you have access to it.");
    const build = startBuild(api, callerOf(request), source, body.lifecycle?.data);
    build.metadata = mergeMetadata(build.metadata, body.metadata);
    return reply.status(201).send(presentBuild(api, build));
  });
  server.get<{ Params: { guid: string } }>(path, (request) => presentBuild(api, find(api, request.params.guid)));
  server.patch<{ Params: { guid: string } }>(path, (request) => {
    const build = find(api, request.params.guid);
    build.metadata = mergeMetadata(
      build.metadata,
      parseBody(request, z.strictObject({ metadata: metadataField })).metadata,
    );
    build.updatedAt = now(api);
    return presentBuild(api, build);
  });
}

function find(api: Api, guid: string): Build {
  const build = api.store.builds.get(guid);
  if (build === undefined) throw notFound("Build");
  return build;
}

function presentBuild(api: Api, build: Build): object {
  return {
    ...presentTimes(build),
    state: build.state,
    staging_memory_in_mb: 1024,
    staging_disk_in_mb: 6144,
    staging_log_rate_limit_bytes_per_second: -1,
    error: build.error,
    lifecycle: { type: "buildpack", data: { buildpacks: build.buildpacks, stack: build.stack } },
    package: { guid: build.packageGuid },
    droplet: build.dropletGuid === null ? null : { guid: build.dropletGuid },
    created_by: { ...build.creator, email: build.creator.name },
    relationships: { app: toOne(build.appGuid) },
    metadata: build.metadata,
    links: {
      self: link(api, `/v3/builds/${build.guid}`),
      app: link(api, `/v3/apps/${build.appGuid}`),
      ...(build.dropletGuid === null ? {} : { droplet: link(api, `/v3/droplets/${build.dropletGuid}`) }),
    },
  };
}
