import { asError } from "../../lib/errors.js";
import { StagingError } from "../staging/staging-error.js";
import type { Staged } from "../staging/stager.js";
import { type Api, type Caller, newResource, now } from "./api.js";
import { recordAppEvent } from "./audit-events.js";
import { unprocessable } from "./errors.js";
import { expireDroplets } from "./package-actions.js";
import type { App, Build, Droplet, Package } from "./records.js";

interface Lifecycle {
  readonly buildpacks?: readonly string[] | null | undefined;
  readonly stack?: string | null | undefined;
}

/** Builds that run, with what ends them. */
const running = new WeakMap<Build, AbortController>();

/** Returns as soon as the build is on its way: it is STAGING, and becomes STAGED or FAILED. Throws 422. */
export function startBuild(api: Api, caller: Caller, source: Package, lifecycle: Lifecycle | undefined): Build {
  const { store } = api;
  const app = store.apps.require(source.appGuid);
  if (source.state !== "READY") {
    throw unprocessable("Cannot stage package whose state is not ready.");
  }
  if (store.buildsOfApp(app.guid).some(({ state }) => state === "STAGING")) {
    throw unprocessable("Only one build can be STAGING at a time per application.");
  }
  const build = store.builds.add({
    ...newResource(api),
    appGuid: app.guid,
    packageGuid: source.guid,
    buildpacks: lifecycle?.buildpacks ?? app.buildpacks,
    stack: lifecycle?.stack ?? app.stack,
    creator: { guid: caller.guid, name: caller.name },
    state: "STAGING",
    error: null,
    dropletGuid: null,
  });
  recordAppEvent(api, caller, "audit.app.build.create", app, { build_guid: build.guid, package_guid: source.guid });
  say(api, app, `Creating build for app with guid ${app.guid}`);
  const abort = new AbortController();
  running.set(build, abort);
  void stage(api, app, build, abort.signal).catch((error: unknown) => {
    api.logger.error({ buildGuid: build.guid, error: asError(error).message }, "emulated staging failed");
  });
  return build;
}

/** Ends the builds of an app that is to go. */
export function cancelBuilds(api: Api, app: App): void {
  for (const build of api.store.buildsOfApp(app.guid)) running.get(build)?.abort(new Error("the app was deleted"));
}

async function stage(api: Api, app: App, build: Build, signal: AbortSignal): Promise<void> {
  const { store, bits, stager } = api;
  const resource = newResource(api);
  try {
    const staged = await stager.stage(
      {
        packageFile: bits.packageFile(build.packageGuid),
        directory: bits.dropletDirectory(resource.guid),
        buildpacks: build.buildpacks,
        startCommand: store.process(app.guid, "web")?.command ?? undefined,
        variables: app.environmentVariables,
        onLine: (stream, text) => {
          api.logs.append(app.guid, { timestampMs: api.clock.now(), stream, source: "STG/0", text });
        },
      },
      signal,
    );
    const droplet = store.droplets.add(dropletOf(staged, build, resource));
    build.dropletGuid = droplet.guid;
    build.state = "STAGED";
    say(api, app, `Created droplet with guid ${droplet.guid}`);
    await expireDroplets(api, app);
  } catch (error) {
    fail(api, app, build, error);
  } finally {
    running.delete(build);
    build.updatedAt = now(api);
  }
}

function fail(api: Api, app: App, build: Build, error: unknown): void {
  build.state = "FAILED";
  const isUsers = error instanceof StagingError;
  build.error = isUsers ? `${error.id} - ${error.message}` : `StagingError - Staging error: ${asError(error).message}`;
  if (api.store.apps.get(app.guid) === undefined) return;
  api.logs.append(app.guid, {
    timestampMs: api.clock.now(),
    stream: "stderr",
    source: "STG/0",
    text: isUsers ? error.message : asError(error).message,
  });
}

function dropletOf(staged: Staged, build: Build, resource: ReturnType<typeof newResource>): Droplet {
  return {
    ...resource,
    appGuid: build.appGuid,
    packageGuid: build.packageGuid,
    name: staged.buildpack,
    detectOutput: staged.detectOutput,
    processTypes: staged.processTypes,
    workingDirectory: staged.workingDirectory,
    path: staged.path,
  };
}

function say(api: Api, app: App, text: string): void {
  api.logs.append(app.guid, { timestampMs: api.clock.now(), stream: "stdout", source: "API/0", text });
}
