/** An app as a manifest. Source: AppManifestPresenter of cloud_controller_ng. */
import type { Api } from "./api.js";
import { formatByteSize } from "./byte-sizes.js";
import type { App, HealthCheck, Process } from "./records.js";

type Shown = Readonly<Record<string, unknown>>;

export function manifestOf(api: Api, app: App): Shown {
  const { store } = api;
  const { labels, annotations } = app.metadata;
  const routes = store
    .destinationsOfApp(app.guid)
    .filter(({ processType }) => processType === "web")
    .map(({ routeGuid, protocol }) => {
      const route = store.routes.require(routeGuid);
      const options = Object.keys(route.options).length > 0 ? { options: route.options } : {};
      return { route: store.urlOf(route), protocol, ...options };
    })
    .sort((one, other) => (one.route < other.route ? -1 : 1));
  return {
    name: app.name,
    ...(Object.keys(app.environmentVariables).length > 0 && { env: app.environmentVariables }),
    ...(app.buildpacks.length > 0 && { buildpacks: app.buildpacks }),
    stack: app.stack,
    ...(routes.length > 0 ? { routes } : { "no-route": true }),
    ...(Object.keys(labels).length + Object.keys(annotations).length > 0 && {
      metadata: {
        ...(Object.keys(labels).length > 0 && { labels }),
        ...(Object.keys(annotations).length > 0 && { annotations }),
      },
    }),
    processes: store.processesOfApp(app.guid).map(processOf),
  };
}

function processOf(process: Process): Shown {
  const limit = process.logRateLimitBytesPerSecond;
  const timeout = process.healthCheck.data["timeout"];
  return {
    type: process.type,
    instances: process.instances,
    memory: `${process.memoryMb}M`,
    disk_quota: `${process.diskMb}M`,
    "log-rate-limit-per-second": limit <= 0 ? String(limit) : formatByteSize(limit),
    ...(process.command !== null && { command: process.command }),
    ...(timeout != null && { timeout }),
    ...healthCheck("health-check", process.healthCheck),
    ...healthCheck("readiness-health-check", process.readinessHealthCheck),
  };
}

function healthCheck(prefix: string, { type, data }: HealthCheck): Shown {
  const { endpoint, invocation_timeout: invocation, interval } = data;
  return {
    [`${prefix}-type`]: type,
    ...(type === "http" && endpoint != null && { [`${prefix}-http-endpoint`]: endpoint }),
    ...(invocation != null && { [`${prefix}-invocation-timeout`]: invocation }),
    ...(interval != null && { [`${prefix}-interval`]: interval }),
  };
}
