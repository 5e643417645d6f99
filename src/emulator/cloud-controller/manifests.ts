import type { FastifyInstance } from "fastify";
import { stringify } from "yaml";
import type { Api } from "./api.js";
import { findApp } from "./apps.js";
import { callerOf } from "./authentication.js";
import { ApiError } from "./errors.js";
import { acceptJob } from "./jobs.js";
import { parseManifest } from "./manifest.js";
import { applyManifest } from "./manifest-apply.js";
import { diffManifest } from "./manifest-diff.js";
import { manifestOf } from "./manifest-presenter.js";
import { findSpace } from "./spaces.js";

type ByGuid = { Params: { guid: string } };

export function serveManifests(server: FastifyInstance, api: Api): void {
  server.post<ByGuid>("/v3/spaces/:guid/actions/apply_manifest", async (request, reply) => {
    const space = findSpace(api, request.params.guid);
    const manifests = parseManifest(request.body);
    try {
      await applyManifest(api, callerOf(request), space, manifests);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      return acceptJob(api, reply, "space.apply_manifest", { errors: error.body.errors });
    }
    return acceptJob(api, reply, "space.apply_manifest");
  });
  server.post<ByGuid>("/v3/spaces/:guid/manifest_diff", (request, reply) => {
    const space = findSpace(api, request.params.guid);
    return reply.status(201).send({ diff: diffManifest(api, space, parseManifest(request.body)) });
  });
  server.get<ByGuid>("/v3/apps/:guid/manifest", (request, reply) => {
    const manifest = { applications: [manifestOf(api, findApp(api, request.params.guid))] };
    return reply.type("application/x-yaml").send(stringify(manifest));
  });
}
