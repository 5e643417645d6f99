/** All jobs of one process: whatever its configuration has a section for. */
import type { Config } from "../config/config.js";
import type { Logger } from "../lib/logger.js";
import type { Role } from "../log/writer-lease.js";
import type { SourceStatus } from "../sources/source.js";
import { startControl } from "./control.js";
import { openLog } from "./open-log.js";
import { type Router, type RouterStatus, startRouter } from "./router.js";
import { startRouteSyncer } from "./route-syncer.js";
import type { SourceJobs } from "./source-job.js";

export interface MeshStatus {
  readonly router: RouterStatus | undefined;
  readonly sources: readonly ({ readonly name: string; readonly role: Role } & SourceStatus)[];
}

export interface Mesh {
  readonly router: Router | undefined;
  readonly status: MeshStatus;
  /** Sources first, so that nothing new comes in while the router drains. */
  stop(): Promise<void>;
}

/** @param job  "route-syncer" shares the diego section with control, and leaves control's part to that. */
export async function startMesh(config: Config, logger: Logger, job?: string): Promise<Mesh> {
  const opened = await openLog(config.log, logger);
  const started: SourceJobs[] = [];
  let router: Router | undefined;

  async function stop(): Promise<void> {
    await Promise.all(started.map((jobs) => jobs.stop()));
    await router?.stop();
    await opened.close();
  }
  try {
    if (config.cloudController) {
      const { cloudController, diego } = config;
      started.push(await startRouteSyncer({ cloudController, diego }, opened, logger.child({ job: "route-syncer" })));
    }
    if (job !== "route-syncer") started.push(await startControl(config, opened, logger.child({ job: "control" })));
    if (config.router) router = await startRouter(config.router, opened, logger.child({ job: "router" }));
    return {
      router,
      get status() {
        const jobs = started.flatMap((each) => each.jobs);
        return { router: router?.status, sources: jobs.map(({ name, role, status }) => ({ name, role, ...status })) };
      },
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}
