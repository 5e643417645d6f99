/** What may befall a mesh, one thing each. */
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { connect } from "@nats-io/transport-node";
import { eventually } from "../support/eventually.js";
import type { NatsServer } from "../../src/emulator/nats/nats-server.js";
import type { Link } from "./link.js";
import { envoyPids, type Links, type Stage, type StageJob, STREAM } from "./stage.js";

export interface Fault {
  readonly name: string;
  /** For how long it lasts before it is mended, in milliseconds; 0: it is over by itself. */
  readonly holdMs: number;
  /** Breaks connections of clients by its nature: an Envoy or its machine is gone. */
  readonly breaksConnections?: boolean;
  /** Why a new route can't be served while it lasts, where that is so by its nature. */
  readonly withholdsRoutes?: string;
  /** Why it can't be made here; undefined where it can. */
  readonly impossible?: (stage: Stage) => string | undefined;
  /** Resolves with what mends it. */
  readonly inject: (stage: Stage) => Promise<() => Promise<void> | void>;
}

/** Longer than every lease, ping and read timeout that others have for the process. */
const PAUSE_MS = 12_000;
const PARTITION_MS = 12_000;
const LOG_OUTAGE_MS = 6_000;
const REGISTRATIONS = 5_000;
const ROUTER = 0;

const nothing = () => undefined;

type Role = "leader" | "standby";

/** What a job is judged by: a control follows several sources, whose leases may lie apart. */
const SOURCE = { controls: "diego", syncers: "cloud-controller" } as const;

async function jobOf(stage: Stage, kind: keyof typeof SOURCE, role: Role): Promise<StageJob> {
  return eventually(async () => {
    for (const job of stage[kind]) {
      const status = await job.process.status();
      if (status?.sources.some((source) => source.name === SOURCE[kind] && source.role === role)) return job;
    }
    return undefined;
  }, 30_000);
}

const silence = (links: readonly Link[]) => {
  for (const link of links) link.silence();
  return () => links.forEach((link) => link.mend());
};
const cut = (links: readonly Link[]) => {
  for (const link of links) link.cut();
  return () => links.forEach((link) => link.mend());
};

function ofJob(kind: keyof typeof SOURCE, role: Role): readonly Fault[] {
  const name = `${kind === "controls" ? "control" : "route-syncer"}, ${role}`;
  return [
    {
      name: `${name}: killed`,
      holdMs: 0,
      async inject(stage) {
        (await jobOf(stage, kind, role)).process.kill();
        return nothing;
      },
    },
    {
      name: `${name}: restarted`,
      holdMs: 0,
      async inject(stage) {
        const ended = (await jobOf(stage, kind, role)).process.restart();
        return () => ended;
      },
    },
    {
      name: `${name}: paused for ${PAUSE_MS / 1_000} s`,
      holdMs: PAUSE_MS,
      async inject(stage) {
        const { process } = await jobOf(stage, kind, role);
        process.pause();
        return () => process.resume();
      },
    },
    {
      name: `${name}: cut off from the log`,
      holdMs: PARTITION_MS,
      inject: async (stage) => silence((await jobOf(stage, kind, role)).links.log),
    },
  ];
}

function ofRouter(): readonly Fault[] {
  return [
    {
      name: "router agent: killed",
      holdMs: 0,
      inject({ routers }) {
        routers[ROUTER].process.kill();
        return Promise.resolve(nothing);
      },
    },
    {
      name: "router agent: restarted, with its Envoy",
      holdMs: 0,
      breaksConnections: true,
      inject({ routers }) {
        const ended = routers[ROUTER].process.restart();
        return Promise.resolve(() => ended);
      },
    },
    {
      name: `router agent: paused for ${PAUSE_MS / 1_000} s`,
      holdMs: PAUSE_MS,
      inject({ routers }) {
        const { process } = routers[ROUTER];
        process.pause();
        return Promise.resolve(() => process.resume());
      },
    },
    {
      name: "Envoy: killed",
      holdMs: 0,
      breaksConnections: true,
      async inject({ routers }) {
        const { envoy } = await envoyPids(routers[ROUTER].runDirectory);
        for (const pid of envoy) process.kill(pid, "SIGKILL");
        return nothing;
      },
    },
    {
      name: "Envoy's keeper: killed",
      holdMs: 0,
      breaksConnections: true,
      async inject({ routers }) {
        const { keeper } = await envoyPids(routers[ROUTER].runDirectory);
        for (const pid of keeper) process.kill(pid, "SIGKILL");
        return nothing;
      },
    },
    {
      name: "router: cut off from the log",
      holdMs: PARTITION_MS,
      inject: ({ routers }) => Promise.resolve(silence(routers[ROUTER].links.log)),
    },
    {
      name: "router: its mirror's disk full",
      holdMs: PARTITION_MS,
      impossible: ({ routers }) =>
        routers[ROUTER].mirrorDisk === undefined ? "this user may not mount a file system" : undefined,
      async inject({ routers }) {
        const file = join(routers[ROUTER].mirrorDisk ?? "", "filler");
        // It writes what there is room for.
        await writeFile(file, Buffer.alloc(64 * 1024 * 1024)).catch(() => undefined);
        return () => rm(file, { force: true });
      },
    },
    {
      name: `router agent: a slow consumer, paused while ${REGISTRATIONS} entries are written`,
      holdMs: PAUSE_MS,
      async inject({ foundation, routers }) {
        const { process } = routers[ROUTER];
        process.pause();
        await register(foundation);
        return () => process.resume();
      },
    },
  ];
}

/** As publishers of routes do. */
async function register({ sections, natsPassword }: Stage["foundation"]): Promise<void> {
  const { servers, user } = sections.nats;
  const connection = await connect({ servers: [...servers], user, pass: natsPassword });
  for (let index = 0; index < REGISTRATIONS; index += 1) {
    const message = { host: "127.0.0.1", port: 1, uris: [`bulk-${index}.example.test`], app: "bulk" };
    connection.publish("router.register", JSON.stringify(message));
  }
  await connection.drain();
}

async function follower({ cluster }: Stage): Promise<NatsServer> {
  const leader = await cluster.leaderOf(STREAM);
  const other = cluster.servers.find((server) => server !== leader);
  if (!other) throw new Error("a cluster of one");
  return other;
}

const POWER_CUT_MS = 500;

function ofLog(): readonly Fault[] {
  const kinds = [
    { name: "leader of the stream", find: ({ cluster }: Stage) => cluster.leaderOf(STREAM) },
    { name: "follower of the stream", find: follower },
  ];
  return [
    ...kinds.flatMap(({ name, find }): readonly Fault[] => [
      {
        name: `log server, ${name}: killed`,
        holdMs: POWER_CUT_MS,
        async inject(stage) {
          const server = await find(stage);
          await server.stop("SIGKILL");
          return () => server.start();
        },
      },
      {
        name: `log server, ${name}: restarted`,
        holdMs: POWER_CUT_MS,
        async inject(stage) {
          const server = await find(stage);
          await server.stop();
          return () => server.start();
        },
      },
      {
        name: `log server, ${name}: paused for ${PAUSE_MS / 1_000} s`,
        holdMs: PAUSE_MS,
        async inject(stage) {
          const server = await find(stage);
          server.pause();
          return () => server.resume();
        },
      },
    ]),
    {
      name: "all log servers: killed, and back after 6 s",
      holdMs: LOG_OUTAGE_MS,
      withholdsRoutes: "nobody can write",
      async inject({ cluster }) {
        await Promise.all(cluster.servers.map((server) => server.stop("SIGKILL")));
        return async () => {
          await Promise.all(cluster.servers.map((server) => server.start()));
        };
      },
    },
  ];
}

function ofPlatform(): readonly Fault[] {
  const both = (stage: Stage, link: keyof Omit<Links, "log">) =>
    [...stage.controls, ...stage.syncers].map(({ links }) => links[link]);
  const ways = [
    {
      name: "Cloud Controller",
      link: "cloudController",
      withholds: "nobody can read it; after 5 s Diego tells of it, whose route it then is",
    },
    { name: "UAA", link: "uaa", withholds: undefined },
    { name: "Diego's BBS", link: "diego", withholds: undefined },
    { name: "NATS", link: "nats", withholds: undefined },
  ] as const;
  return ways.flatMap(({ name, link, withholds }) =>
    [
      { how: "refuses connections", breaks: cut },
      { how: "is silent", breaks: silence },
    ].map(({ how, breaks }) => ({
      name: `${name}: ${how}`,
      holdMs: PARTITION_MS,
      ...(withholds !== undefined && { withholdsRoutes: withholds }),
      inject: (stage: Stage) => Promise.resolve(breaks(both(stage, link))),
    })),
  );
}

function ofClocks(): readonly Fault[] {
  const jobs = [
    { name: "control, leader", find: (stage: Stage) => jobOf(stage, "controls", "leader") },
    { name: "route-syncer, leader", find: (stage: Stage) => jobOf(stage, "syncers", "leader") },
    { name: "router agent", find: ({ routers }: Stage) => Promise.resolve<StageJob>(routers[ROUTER]) },
  ];
  return jobs.map(({ name, find }) => ({
    name: `${name}: its clock a day ahead, and back`,
    holdMs: PARTITION_MS,
    async inject(stage) {
      const { process } = await find(stage);
      process.shiftClock();
      return () => process.shiftClock();
    },
  }));
}

export const FAULTS: readonly Fault[] = [
  ...ofJob("controls", "leader"),
  ...ofJob("controls", "standby"),
  ...ofJob("syncers", "leader"),
  ...ofJob("syncers", "standby"),
  ...ofRouter(),
  ...ofLog(),
  ...ofPlatform(),
  ...ofClocks(),
];
