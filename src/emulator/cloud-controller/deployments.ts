import type { FastifyInstance } from "fastify";
import { z } from "zod";
import { type Api, type Caller, link, newResource, now, presentTimes, timestamp, toOne } from "./api.js";
import { assignDroplet, startApp } from "./app-actions.js";
import { recordAppEvent } from "./audit-events.js";
import { callerOf } from "./authentication.js";
import { mergeMetadata, metadataField, parseBody, relationships } from "./body.js";
import { notFound, unprocessable } from "./errors.js";
import { list } from "./list.js";
import type { App, Deployment, DeploymentReason } from "./records.js";

const createSchema = z.strictObject({
  droplet: z.strictObject({ guid: z.string("must be a string") }).nullish(),
  strategy: z
    .enum(["rolling", "canary"], "'rolling' and 'canary' are the only supported deployment strategies")
    .default("rolling"),
  // Instances of the new version all start at once here: max_in_flight and the steps of canaries are taken, and limit
  // nothing.
  options: z
    .looseObject({
      max_in_flight: z.int("must be an integer greater than 0").min(1, "must be an integer greater than 0").optional(),
    })
    .nullish(),
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
    const deployment = await deploy(api, callerOf(request), app, {
      dropletGuid: body.droplet?.guid,
      strategy: body.strategy,
      maxInFlight: body.options?.max_in_flight ?? 1,
    });
    deployment.metadata = mergeMetadata(deployment.metadata, body.metadata);
    return reply.status(201).send(present(api, deployment));
  });
  server.get<{ Params: { guid: string } }>("/v3/deployments/:guid", (request) =>
    present(api, find(api, request.params.guid)),
  );
  for (const [action, act] of [
    ["cancel", cancel],
    ["continue", proceed],
  ] as const) {
    server.post<{ Params: { guid: string } }>(`/v3/deployments/:guid/actions/${action}`, async (request, reply) => {
      const deployment = find(api, request.params.guid);
      await act(api, callerOf(request), deployment);
      return reply.status(200).send(present(api, deployment));
    });
  }
}

function find(api: Api, guid: string): Deployment {
  const deployment = api.store.deployments.get(guid);
  if (deployment === undefined) throw notFound("Deployment");
  return deployment;
}

interface Wanted {
  readonly dropletGuid: string | undefined;
  readonly strategy: Deployment["strategy"];
  readonly maxInFlight: number;
}

/**
 * Runs a new version beside the old one, which goes when all instances of the new one run. A stopped app is just
 * started. An older deployment that is still active is superseded.
 */
async function deploy(api: Api, caller: Caller, app: App, wanted: Wanted): Promise<Deployment> {
  const { store } = api;
  const { dropletGuid, strategy, maxInFlight } = wanted;
  const process = store.process(app.guid, "web");
  if (process === undefined) throw new Error(`app ${app.guid} has no web process`);
  const previousDropletGuid = app.dropletGuid ?? "";
  if (dropletGuid !== undefined) assignDroplet(api, caller, app, dropletGuid);
  if (app.dropletGuid === null)
    throw unprocessable(
      "Invalid droplet. Please specify a droplet in the request or set a current droplet for the app.",
    );
  for (const other of store.deploymentsOfApp(app.guid)) {
    if (isActive(other)) setReason(api, other, "SUPERSEDED");
  }
  const deployment = store.deployments.add({
    ...newResource(api),
    appGuid: app.guid,
    strategy,
    maxInFlight,
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
    setReason(api, deployment, "DEPLOYED");
    return deployment;
  }
  const canaryInstances = strategy === "canary" ? Math.min(1, process.instances) : null;
  const { end } = await api.launcher.startBeside(process, canaryInstances);
  settle(api, app, deployment, end, strategy === "canary" ? "PAUSED" : "DEPLOYED");
  return deployment;
}

/** Sets what the deployment has come to when its instances run, or can't. */
function settle(
  api: Api,
  app: App,
  deployment: Deployment,
  end: Promise<"running" | "replaced" | "failed">,
  whenRunning: DeploymentReason,
): void {
  const apply = (reason: DeploymentReason) => {
    if (deployment.reason !== "DEPLOYING") return;
    if (reason === "CANCELED") restoreDroplet(api, app, deployment);
    setReason(api, deployment, reason);
  };
  end.then(
    (how) => apply(how === "running" ? whenRunning : "CANCELED"),
    () => apply("CANCELED"),
  );
}

async function proceed(api: Api, caller: Caller, deployment: Deployment): Promise<void> {
  if (deployment.reason !== "PAUSED") {
    throw unprocessable(
      `Cannot continue a deployment with status: ${statusOf(deployment.reason)} and reason: ${deployment.reason}`,
    );
  }
  const app = api.store.apps.require(deployment.appGuid);
  recordAppEvent(api, caller, "audit.app.deployment.continue", app, { deployment_guid: deployment.guid });
  setReason(api, deployment, "DEPLOYING");
  const { end } = await api.launcher.promote(api.store.processes.require(deployment.processGuid));
  settle(api, app, deployment, end, "DEPLOYED");
}

async function cancel(api: Api, caller: Caller, deployment: Deployment): Promise<void> {
  if (!isActive(deployment)) {
    throw unprocessable(`Cannot cancel a ${deployment.reason} deployment`);
  }
  const app = api.store.apps.require(deployment.appGuid);
  recordAppEvent(api, caller, "audit.app.deployment.cancel", app, { deployment_guid: deployment.guid });
  setReason(api, deployment, "CANCELED");
  restoreDroplet(api, app, deployment);
  await api.launcher.withdraw(api.store.processes.require(deployment.processGuid));
}

/** The version that runs on is that droplet's. */
function restoreDroplet(api: Api, app: App, { previousDropletGuid }: Deployment): void {
  if (api.store.droplets.get(previousDropletGuid) === undefined) return;
  app.dropletGuid = previousDropletGuid;
  app.updatedAt = now(api);
}

function setReason(api: Api, deployment: Deployment, reason: DeploymentReason): void {
  deployment.reason = reason;
  deployment.updatedAt = now(api);
}

function isActive({ reason }: Deployment): boolean {
  return reason === "DEPLOYING" || reason === "PAUSED";
}

function stateOf(reason: DeploymentReason): string {
  if (reason === "SUPERSEDED") return "DEPLOYED";
  return reason === "PAUSED" ? "DEPLOYING" : reason;
}

function statusOf(reason: DeploymentReason): string {
  return reason === "DEPLOYING" || reason === "PAUSED" ? "ACTIVE" : "FINALIZED";
}

function present(api: Api, deployment: Deployment): object {
  return {
    ...presentTimes(deployment),
    state: stateOf(deployment.reason),
    status: {
      value: statusOf(deployment.reason),
      reason: deployment.reason,
      details: {
        last_successful_healthcheck: null,
        last_status_change: timestamp(deployment.updatedAt),
        error: null,
      },
      ...(deployment.strategy === "canary" && { canary: { steps: { current: 1, total: 1 } } }),
    },
    strategy: deployment.strategy,
    options: { max_in_flight: deployment.maxInFlight },
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
