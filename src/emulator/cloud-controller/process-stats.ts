import type { RunningInstance } from "../diego/diego.js";
import type { Api } from "./api.js";
import type { Process } from "./records.js";

/** One entry per wanted instance of a started app; DOWN for those that Diego has nothing of. */
export function presentStats(api: Api, process: Process): object {
  return {
    resources: wantedInstances(api, process).map(({ index, instance }) =>
      instance === undefined || instance.state === "DOWN"
        ? presentMissing(process, index)
        : presentInstance(api, process, instance),
    ),
  };
}

/** For `embed=process_instances`: less of the same. `since` is the time that an instance is in its state, in seconds. */
export function presentInstances(api: Api, process: Process): readonly object[] {
  return wantedInstances(api, process).map(({ index, instance }) => ({
    index,
    state: instance?.state ?? "DOWN",
    since: instance === undefined ? 0 : secondsSince(api, instance),
  }));
}

function wantedInstances(api: Api, process: Process) {
  const isStarted = api.store.apps.require(process.appGuid).state === "STARTED";
  const instances = new Map(api.launcher.instances(process).map((instance) => [instance.index, instance]));
  const count = isStarted ? process.instances : 0;
  return Array.from({ length: count }, (_, index) => ({ index, instance: instances.get(index) }));
}

function secondsSince(api: Api, { sinceMs }: RunningInstance): number {
  return Math.max(0, Math.floor((api.clock.now() - sinceMs) / 1000));
}

function presentMissing(process: Process, index: number): object {
  return {
    type: process.type,
    index,
    state: "DOWN",
    routable: null,
    uptime: 0,
    isolation_segment: null,
    details: null,
  };
}

function presentInstance(api: Api, process: Process, instance: RunningInstance): object {
  return {
    type: process.type,
    index: instance.index,
    instance_guid: instance.guid,
    state: instance.state,
    routable: instance.state === "RUNNING" ? true : null,
    host: instance.host,
    instance_internal_ip: instance.instanceAddress,
    uptime: secondsSince(api, instance),
    mem_quota: process.memoryMb * 1024 * 1024,
    disk_quota: process.diskMb * 1024 * 1024,
    log_rate_limit: process.logRateLimitBytesPerSecond,
    fds_quota: 16384,
    isolation_segment: null,
    details: null,
    instance_ports: instance.ports.map((port) => ({
      external: port.external,
      internal: port.internal,
      external_tls_proxy_port: null,
      internal_tls_proxy_port: null,
    })),
    usage: {
      time: new Date(api.clock.now()).toISOString(),
      cpu: 0,
      cpu_entitlement: 0,
      mem: 0,
      disk: 0,
      log_rate: 0,
    },
  };
}
