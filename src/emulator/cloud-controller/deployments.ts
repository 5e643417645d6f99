import type { FastifyInstance } from "fastify";
import { z } from "zod";
import { type Api, type Caller, link, newResource, now, presentTimes, toOne } from "./api.js";
import { assignDroplet, startApp } from "./app-actions.js";
import { recordAppEvent } from "./audit-events.js";
import { callerOf } from "./authentication.js";
import { mergeMetadata, metadataField, parseBody, relationships } from "./body.js";
import { notFound, unprocessable } from "./errors.js";
import { list } from "./list.js";
import type { App, Deployment, DeploymentReason } from "./records.js";

const createSchema = z.strictObject({
  droplet: z.strictObject({ guid: z.string("must be a string") }).nullish(),
  strategy: z.literal("rolling", "'rolling' is the only supported deployment strategy").default("rolling"),
  // Instances of the new version all start at once here, so there is nothing that max_in_flight could limit.
  options: z.record(z.string(), z.unknown()).nullish(),
  relationships: relationships("app"),
  metadata: metadataField,
});

export function serveDeployments(server: FastifyInstance, api: Api): void {
  const { store } = api;

  server.get("/v3/deployments", (request) =>
    list(api, request, {
      items: () => store.deployments.all(),
      present: (deployment) => present(api, deployment),
      filters: {
        app_guids: (deployment, guids) => guids.has(deployment.appGuid),
        states: (deployment, states) => states.has(stateOf(deployment.reason)),
        status_values: (deployment, values) => values.has(statusOf(deployment.reason)),
        status_reasons: (deployment, reasons) => reasons.has(deployment.reason),
      },
    }),
  );
  server.post("/v3/deployments", async (request, reply) => {
    const body = parseBody(request, createSchema);
    const app = store.apps.get(body.relationships.app.data.guid);
    if (app === undefined) {
      throw unprocessable("Unable to use app. Ensure that the app exists and you have access to it.");
    }
    const deployment = await deploy(api, callerOf(request), app, body.droplet?.guid);
    deployment.metadata = mergeMetadata(deployment.metadata, body.metadata);
    return reply.status(201).send(present(api, deployment));
  });
  server.get<{ Params: { guid: string } }>("/v3/deployments/:guid", (request) => {
    const deployment = store.deployments.get(request.params.guid);
    if (deployment === undefined) throw notFound("Deployment");
    return present(api, deployment);
  });
}

/**
 * Runs a new version beside the old one, which goes when all instances of the new one run. A stopped app is just
 * started. An older deployment that is still active is superseded.
 */
async function deploy(api: Api, caller: Caller, app: App, dropletGuid: string | undefined): Promise<Deployment> {
  const { store } = api;
  const process = store.process(app.guid, "web");
  if (process === undefined) throw new Error(`app ${app.guid} has no web process`);
  const previousDropletGuid = app.dropletGuid ?? "";
  if (dropletGuid !== undefined) assignDroplet(api, caller, app, dropletGuid);
  if (app.dropletGuid === null)
    throw unprocessable(
      "Invalid droplet. Please specify a droplet in the request or set a current droplet for the app.",
    );
  for (const other of store.deploymentsOfApp(app.guid)) {
    if (other.reason === "DEPLOYING") finish(api, other, "SUPERSEDED");
  }
  const deployment = store.deployments.add({
    ...newResource(api),
    appGuid: app.guid,
    strategy: "rolling",
    dropletGuid: app.dropletGuid,
    previousDropletGuid,
    processGuid: process.guid,
    reason: "DEPLOYING",
  });
  recordAppEvent(api, caller, "audit.app.deployment.create", app, {
    deployment_guid: deployment.guid,
    droplet_guid: deployment.dropletGuid,
    strategy: deployment.strategy,
  });
  process.updatedAt = now(api);
  if (app.state === "STOPPED") {
    await startApp(api, caller, app);
    finish(api, deployment, "DEPLOYED");
    return deployment;
  }
  const { end } = await api.launcher.startBeside(process);
  const settle = (reason: DeploymentReason) => {
    if (deployment.reason === "DEPLOYING") finish(api, deployment, reason);
  };
  end.then(
    (how) => settle(how === "running" ? "DEPLOYED" : "CANCELED"),
    () => settle("CANCELED"),
  );
  return deployment;
}

function finish(api: Api, deployment: Deployment, reason: DeploymentReason): void {
  deployment.reason = reason;
  deployment.updatedAt = now(api);
}

function stateOf(reason: DeploymentReason): string {
  return reason === "SUPERSEDED" ? "DEPLOYED" : reason;
}

function statusOf(reason: DeploymentReason): string {
  return reason === "DEPLOYING" ? "ACTIVE" : "FINALIZED";
}

function present(api: Api, deployment: Deployment): object {
  return {
    ...presentTimes(deployment),
    state: stateOf(deployment.reason),
    status: {
      value: statusOf(deployment.reason),
      reason: deployment.reason,
      details: { last_successful_healthcheck: null },
    },
    strategy: deployment.strategy,
    droplet: { guid: deployment.dropletGuid },
    previous_droplet: { guid: deployment.previousDropletGuid },
    new_processes: [{ guid: deployment.processGuid, type: "web" }],
    revision: null,
    relationships: { app: toOne(deployment.appGuid) },
    metadata: deployment.metadata,
    links: {
      self: link(api, `/v3/deployments/${deployment.guid}`),
      app: link(api, `/v3/apps/${deployment.appGuid}`),
    },
  };
}
