/** All jobs of one machine in one process, over the embedded log: whatever the configuration has a section for. */
import type { Config } from "../config/config.js";
import type { Logger } from "../lib/logger.js";
import { openEmbeddedLog } from "../log/embedded.js";
import { startControl } from "./control.js";
import { startRouteSyncer } from "./route-syncer.js";
import type { SourceStatus } from "../sources/source.js";
import { type Router, type RouterStatus, startRouter } from "./router.js";
import type { SourceJob } from "./source-job.js";

export interface MeshStatus {
  readonly router: RouterStatus | undefined;
  readonly sources: readonly ({ readonly name: string } & SourceStatus)[];
}

export interface Mesh {
  readonly router: Router | undefined;
  readonly status: MeshStatus;
  /** Sources first, so that nothing new comes in while the router drains. */
  stop(): Promise<void>;
}

export async function startMesh(config: Config, logger: Logger): Promise<Mesh> {
  const log = await openEmbeddedLog({ directory: config.log.directory, logger });
  const sources: SourceJob[] = [];
  let router: Router | undefined;

  async function stop(): Promise<void> {
    await Promise.all(sources.map((source) => source.stop()));
    await router?.stop();
    await log.close();
  }
  try {
    if (config.cloudController) {
      sources.push(await startRouteSyncer(config.cloudController, log, logger.child({ job: "route-syncer" })));
    }
    if (config.diego) sources.push(await startControl(config.diego, log, logger.child({ job: "control" })));
    if (config.router) router = await startRouter(config.router, log, logger.child({ job: "router" }));
    return {
      router,
      get status() {
        return { router: router?.status, sources: sources.map(({ name, status }) => ({ name, ...status })) };
      },
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}
