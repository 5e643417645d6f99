/** What clients ask of every foundation, and this one has none of: service brokers, quotas, tasks, isolation segments... */
import type { FastifyInstance } from "fastify";
import type { Api } from "./api.js";
import { findApp } from "./apps.js";
import { notFound, unprocessable } from "./errors.js";
import { emptyList } from "./list.js";
import { findOrganization } from "./organizations.js";
import { findSpace } from "./spaces.js";

const EMPTY_COLLECTIONS = [
  "service_brokers",
  "service_credential_bindings",
  "service_offerings",
  "service_plans",
  "security_groups",
  "organization_quotas",
  "space_quotas",
  "isolation_segments",
  "tasks",
] as const;
/** By collection, the word of its "not found". */
const KINDS: Readonly<Record<(typeof EMPTY_COLLECTIONS)[number], string>> = {
  service_brokers: "Service broker",
  service_credential_bindings: "Service credential binding",
  service_offerings: "Service offering",
  service_plans: "Service plan",
  security_groups: "Security group",
  organization_quotas: "Organization quota",
  space_quotas: "Space quota",
  isolation_segments: "Isolation segment",
  tasks: "Task",
};

type ByGuid = { Params: { guid: string } };

export function serveAbsent(server: FastifyInstance, api: Api): void {
  for (const name of EMPTY_COLLECTIONS) {
    server.get(`/v3/${name}`, (request) => emptyList(api, request));
    server.get(`/v3/${name}/:guid`, () => {
      throw notFound(KINDS[name]);
    });
    server.post(`/v3/${name}`, () => {
      throw unprocessable(`${KINDS[name]}s are not supported by this emulated foundation.`);
    });
  }
  server.get<ByGuid>("/v3/apps/:guid/tasks", (request) => {
    findApp(api, request.params.guid);
    return emptyList(api, request);
  });
  server.post<ByGuid>("/v3/apps/:guid/tasks", (request) => {
    findApp(api, request.params.guid);
    throw unprocessable(
      "Tasks are not supported by this emulated foundation: give the work a process type of its own.",
    );
  });
  for (const kind of ["running", "staging"]) {
    server.get<ByGuid>(`/v3/spaces/:guid/${kind}_security_groups`, (request) => {
      findSpace(api, request.params.guid);
      return emptyList(api, request);
    });
  }
  server.get<ByGuid>("/v3/spaces/:guid/relationships/isolation_segment", (request) => {
    findSpace(api, request.params.guid);
    return { data: null };
  });
  server.get<ByGuid>("/v3/organizations/:guid/relationships/default_isolation_segment", (request) => {
    findOrganization(api, request.params.guid);
    return { data: null };
  });
}
