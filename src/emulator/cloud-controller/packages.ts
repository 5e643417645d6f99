import multipart from "@fastify/multipart";
import type { FastifyInstance, FastifyRequest } from "fastify";
import { z } from "zod";
import { asError, systemCode } from "../../lib/errors.js";
import { type Api, link, newResource, now, presentTimes, toOne } from "./api.js";
import { findApp } from "./apps.js";
import { recordAppEvent } from "./audit-events.js";
import { callerOf } from "./authentication.js";
import { mergeMetadata, metadataField, parseBody, relationships } from "./body.js";
import { notFound, unprocessable } from "./errors.js";
import { acceptJob } from "./jobs.js";
import { list, type Listing, queryOf } from "./list.js";
import { deletePackage, expirePackages } from "./package-actions.js";
import type { App, Package } from "./records.js";

const MAX_PACKAGE_BYTES = 1024 ** 3;

const createSchema = z.strictObject({
  type: z.enum(["bits", "docker"], "must be one of 'bits, docker'"),
  relationships: relationships("app"),
  data: z.unknown().optional(),
  metadata: metadataField,
});
const copySchema = z.strictObject({ relationships: relationships("app") });
const matchesSchema = z.strictObject({ resources: z.array(z.unknown(), "must be an array") });

export function servePackages(server: FastifyInstance, api: Api): void {
  const { store, bits } = api;
  const path = "/v3/packages/:guid";
  const listing = (items: () => readonly Package[]): Listing<Package> => ({
    items,
    present: (one) => presentPackage(api, one),
    filters: {
      app_guids: (one, guids) => guids.has(one.appGuid),
      space_guids: (one, guids) => guids.has(store.apps.require(one.appGuid).spaceGuid),
      organization_guids: (one, guids) =>
        guids.has(store.organizationOf(store.apps.require(one.appGuid).spaceGuid).guid),
      states: (one, states) => states.has(one.state),
      types: (_one, types) => types.has("bits"),
    },
  });

  server.get("/v3/packages", (request) =>
    list(
      api,
      request,
      listing(() => store.packages.all()),
    ),
  );
  server.get<{ Params: { guid: string } }>("/v3/apps/:guid/packages", (request) => {
    const { guid } = findApp(api, request.params.guid);
    return list(
      api,
      request,
      listing(() => store.packagesOfApp(guid)),
    );
  });
  server.post("/v3/packages", async (request, reply) => {
    const sourceGuid = queryOf(request).get("source_guid");
    const made =
      sourceGuid === null ? createPackage(api, request) : await copyPackage(api, request, findPackage(api, sourceGuid));
    return reply.status(201).send(presentPackage(api, made));
  });
  server.get<{ Params: { guid: string } }>(path, (request) =>
    presentPackage(api, findPackage(api, request.params.guid)),
  );
  server.patch<{ Params: { guid: string } }>(path, (request) => {
    const found = findPackage(api, request.params.guid);
    found.metadata = mergeMetadata(
      found.metadata,
      parseBody(request, z.strictObject({ metadata: metadataField })).metadata,
    );
    found.updatedAt = now(api);
    return presentPackage(api, found);
  });
  server.delete<{ Params: { guid: string } }>(path, async (request, reply) => {
    await deletePackage(api, findPackage(api, request.params.guid));
    return acceptJob(api, reply, "package.delete");
  });
  server.get<{ Params: { guid: string } }>(`${path}/download`, (request, reply) => {
    const found = findPackage(api, request.params.guid);
    if (found.state !== "READY") throw unprocessable("Package has no bits to download");
    return reply.type("application/zip").send(bits.readPackage(found.guid));
  });
  // Nothing is kept of earlier uploads: each brings all its files.
  server.post("/v3/resource_matches", (request, reply) => {
    parseBody(request, matchesSchema);
    return reply.status(201).send({ resources: [] });
  });
  server.register(async (uploads) => {
    await uploads.register(multipart, {
      limits: { files: 1, fileSize: MAX_PACKAGE_BYTES, fieldSize: 64 * 1024 * 1024 },
    });
    uploads.post<{ Params: { guid: string } }>(`${path}/upload`, async (request) => {
      const found = findPackage(api, request.params.guid);
      await upload(api, request, found);
      return presentPackage(api, found);
    });
  });
}

export function findPackage(api: Api, guid: string): Package {
  const found = api.store.packages.get(guid);
  if (found === undefined) throw notFound("Package");
  return found;
}

function createPackage(api: Api, request: FastifyRequest): Package {
  const body = parseBody(request, createSchema);
  if (body.type === "docker") throw unprocessable("Docker support has not been enabled.");
  const app = appOf(api, body.relationships.app.data.guid);
  const made = addPackage(api, request, app);
  made.metadata = mergeMetadata(made.metadata, body.metadata);
  return made;
}

async function copyPackage(api: Api, request: FastifyRequest, source: Package): Promise<Package> {
  const app = appOf(api, parseBody(request, copySchema).relationships.app.data.guid);
  if (source.state !== "READY") throw unprocessable("Source package has no bits to copy");
  const made = addPackage(api, request, app);
  await api.bits.copyPackage(source.guid, made.guid);
  made.checksum = source.checksum;
  made.state = "READY";
  return made;
}

function addPackage(api: Api, request: FastifyRequest, app: App): Package {
  const made = api.store.packages.add({
    ...newResource(api),
    appGuid: app.guid,
    state: "AWAITING_UPLOAD",
    checksum: null,
    error: null,
  });
  recordAppEvent(api, callerOf(request), "audit.app.package.create", app, { package_guid: made.guid });
  return made;
}

function appOf(api: Api, guid: string): App {
  const app = api.store.apps.get(guid);
  if (app !== undefined) return app;
  throw unprocessable("App is invalid. Ensure it exists and you have access to it.");
}

/** Multipart: the field "bits" holds the zip file; "resources" would name files that were matched, and none is. */
async function upload(api: Api, request: FastifyRequest, target: Package): Promise<void> {
  if (target.state !== "AWAITING_UPLOAD") {
    throw unprocessable("Bits may be uploaded only once. Create a new package to upload different bits.");
  }
  if (!request.isMultipart()) throw unprocessable("Upload must include either resources or bits");
  target.state = "PROCESSING_UPLOAD";
  try {
    for await (const part of request.parts()) {
      if (part.type !== "file" || part.fieldname !== "bits") continue;
      target.checksum = await api.bits.savePackage(target.guid, part.file);
      if (part.file.truncated) throw unprocessable(`The app package is larger than ${MAX_PACKAGE_BYTES} bytes`);
    }
    if (target.checksum === null) throw unprocessable("Upload must include bits");
    target.state = "READY";
  } catch (error) {
    target.state = "FAILED";
    target.error = asError(error).message;
    await api.bits.deletePackage(target.guid);
    // The form is the client's; the rest of what fails here is ours.
    throw systemCode(error)?.startsWith("FST_") === true ? unprocessable(target.error) : error;
  } finally {
    target.updatedAt = now(api);
  }
  const app = api.store.apps.require(target.appGuid);
  recordAppEvent(api, callerOf(request), "audit.app.package.upload", app, { package_guid: target.guid });
  await expirePackages(api, app);
}

function presentPackage(api: Api, one: Package): object {
  const path = `/v3/packages/${one.guid}`;
  return {
    ...presentTimes(one),
    type: "bits",
    data: { error: one.error, checksum: { type: "sha256", value: one.checksum } },
    state: one.state,
    relationships: { app: toOne(one.appGuid) },
    metadata: one.metadata,
    links: {
      self: link(api, path),
      upload: { ...link(api, `${path}/upload`), method: "POST" },
      download: { ...link(api, `${path}/download`), method: "GET" },
      app: link(api, `/v3/apps/${one.appGuid}`),
    },
  };
}
