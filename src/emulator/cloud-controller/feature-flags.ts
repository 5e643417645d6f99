import type { FastifyInstance } from "fastify";
import { z } from "zod";
import { type Api, emptyMetadata, link, now, timestamp } from "./api.js";
import { parseBody } from "./body.js";
import { notFound } from "./errors.js";
import { list } from "./list.js";
import type { FeatureFlag } from "./records.js";

const updateSchema = z.strictObject({
  enabled: z.boolean("must be a boolean").optional(),
  custom_error_message: z.string("must be a string").nullish(),
});

export function serveFeatureFlags(server: FastifyInstance, api: Api): void {
  const { store } = api;
  const find = (name: string): FeatureFlag => {
    const flag = store.featureFlags.get(name);
    if (flag === undefined) throw notFound("Feature flag");
    return flag;
  };

  server.get("/v3/feature_flags", (request) =>
    list(api, request, {
      items: () =>
        [...store.featureFlags.values()].map((flag) => ({
          ...flag,
          guid: flag.name,
          createdAt: 0,
          updatedAt: flag.updatedAt ?? 0,
          metadata: emptyMetadata(),
        })),
      present: (item) => present(api, find(item.name)),
    }),
  );
  server.get<{ Params: { name: string } }>("/v3/feature_flags/:name", (request) =>
    present(api, find(request.params.name)),
  );
  server.patch<{ Params: { name: string } }>("/v3/feature_flags/:name", (request) => {
    const flag = find(request.params.name);
    const body = parseBody(request, updateSchema);
    flag.enabled = body.enabled ?? flag.enabled;
    if (body.custom_error_message !== undefined) flag.customErrorMessage = body.custom_error_message;
    flag.updatedAt = now(api);
    return present(api, flag);
  });
}

function present(api: Api, flag: FeatureFlag): object {
  return {
    name: flag.name,
    enabled: flag.enabled,
    updated_at: flag.updatedAt === null ? null : timestamp(flag.updatedAt),
    custom_error_message: flag.customErrorMessage,
    links: { self: link(api, `/v3/feature_flags/${flag.name}`) },
  };
}
