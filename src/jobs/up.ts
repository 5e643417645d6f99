/** All jobs of one process: whatever its configuration has a section for. */
import type { Config } from "../config/config.js";
import type { Logger } from "../lib/logger.js";
import type { Role } from "../log/writer-lease.js";
import type { SourceStatus } from "../sources/source.js";
import { startControl } from "./control.js";
import { Credentials, type CredentialsStatus } from "./credentials.js";
import { openLog } from "./open-log.js";
import { type Router, type RouterStatus, startRouter } from "./router.js";
import { startRouteSyncer } from "./route-syncer.js";
import type { SourceJobs } from "./source-job.js";

export interface MeshStatus {
  readonly router: RouterStatus | undefined;
  readonly sources: readonly ({ readonly name: string; readonly role: Role } & SourceStatus)[];
  readonly credentials: CredentialsStatus;
}

export interface Mesh {
  readonly router: Router | undefined;
  readonly status: MeshStatus;
  /** Looks for new certificates and secrets now; without it, it takes seconds until they are seen. */
  reloadCredentials(): Promise<void>;
  /** Sources first, so that nothing new comes in while the router drains. */
  stop(): Promise<void>;
}

/** @param job  "route-syncer" shares the diego section with control, and leaves control's part to that. */
export async function startMesh(config: Config, logger: Logger, job?: string): Promise<Mesh> {
  const credentials = new Credentials(logger);
  const opened = await openLog(config.log, credentials, logger).catch(async (error: unknown) => {
    await credentials.close();
    throw error;
  });
  const started: SourceJobs[] = [];
  let router: Router | undefined;

  async function stop(): Promise<void> {
    await Promise.all(started.map((jobs) => jobs.stop()));
    await router?.stop();
    await opened.close();
    await credentials.close();
  }
  try {
    if (config.cloudController) {
      const { cloudController, diego } = config;
      started.push(
        await startRouteSyncer({ cloudController, diego }, opened, credentials, logger.child({ job: "route-syncer" })),
      );
    }
    if (job !== "route-syncer")
      started.push(await startControl(config, opened, credentials, logger.child({ job: "control" })));
    if (config.router) router = await startRouter(config.router, opened, credentials, logger.child({ job: "router" }));
    return {
      router,
      get status() {
        const jobs = started.flatMap((each) => each.jobs);
        return {
          router: router?.status,
          sources: jobs.map(({ name, role, status }) => ({ name, role, ...status })),
          credentials: credentials.status,
        };
      },
      reloadCredentials: () => credentials.reload(),
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}
