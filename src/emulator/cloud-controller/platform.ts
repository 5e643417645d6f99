/** What a foundation says of itself: its stack, its buildpacks, variables for all apps. */
import type { FastifyInstance } from "fastify";
import { BUILDPACK_NAMES } from "../staging/stager.js";
import { type Api, emptyMetadata, link, presentTimes } from "./api.js";
import { notFound } from "./errors.js";
import { STACK } from "./lifecycle.js";
import { list } from "./list.js";
import type { Resource } from "./records.js";

type ByGuid = { Params: { guid: string } };
type Named = Resource & { readonly name: string; readonly position: number };

export function servePlatform(server: FastifyInstance, api: Api): void {
  const stacks = [named(STACK, 1)];
  const buildpacks = BUILDPACK_NAMES.map((name, index) => named(name, index + 1));

  server.get("/v3/stacks", (request) =>
    list(api, request, {
      items: () => stacks,
      present: (stack) => presentStack(api, stack),
      filters: { names: (stack, names) => names.has(stack.name), default: (_stack, wanted) => wanted.has("true") },
    }),
  );
  server.get<ByGuid>("/v3/stacks/:guid", (request) => presentStack(api, find(stacks, request.params.guid, "Stack")));
  server.get("/v3/buildpacks", (request) =>
    list(api, request, {
      items: () => buildpacks,
      present: (buildpack) => presentBuildpack(api, buildpack),
      filters: {
        names: (buildpack, names) => names.has(buildpack.name),
        stacks: (_buildpack, wanted) => wanted.has(STACK),
        lifecycle: (_buildpack, wanted) => wanted.has("buildpack"),
      },
      orders: {
        position: (buildpack) => buildpack.position,
        name: (buildpack) => buildpack.name,
        lifecycle: () => "buildpack",
      },
    }),
  );
  server.get<ByGuid>("/v3/buildpacks/:guid", (request) =>
    presentBuildpack(api, find(buildpacks, request.params.guid, "Buildpack")),
  );
  for (const name of ["running", "staging"]) {
    server.get(`/v3/environment_variable_groups/${name}`, () => ({
      updated_at: null,
      name,
      var: {},
      links: { self: link(api, `/v3/environment_variable_groups/${name}`) },
    }));
  }
}

/** The name serves as its guid: the same at each start. */
function named(name: string, position: number): Named {
  return { guid: name, createdAt: 0, updatedAt: 0, metadata: emptyMetadata(), name, position };
}

function find(items: readonly Named[], guid: string, kind: string): Named {
  const found = items.find((item) => item.guid === guid);
  if (found === undefined) throw notFound(kind);
  return found;
}

function presentStack(api: Api, stack: Named): object {
  return {
    ...presentTimes(stack),
    name: stack.name,
    description: "The machine that the emulated foundation runs on",
    state: "ACTIVE",
    default: true,
    build_rootfs_image: stack.name,
    run_rootfs_image: stack.name,
    metadata: stack.metadata,
    links: { self: link(api, `/v3/stacks/${stack.guid}`) },
  };
}

function presentBuildpack(api: Api, buildpack: Named): object {
  return {
    ...presentTimes(buildpack),
    name: buildpack.name,
    stack: STACK,
    position: buildpack.position,
    enabled: true,
    locked: false,
    state: "READY",
    filename: `${buildpack.name}.zip`,
    lifecycle: "buildpack",
    metadata: buildpack.metadata,
    links: { self: link(api, `/v3/buildpacks/${buildpack.guid}`) },
  };
}
