/** The stream that holds the mesh log: its settings, and what makes one log another. */
import { randomUUID } from "node:crypto";
import {
  DiscardPolicy,
  JetStreamApiCodes,
  JetStreamApiError,
  type JetStreamManager,
  RetentionPolicy,
  StorageType,
  type StreamConfig,
  type StreamInfo,
} from "@nats-io/jetstream";
import { asError } from "../lib/errors.js";
import { streamMissing, streamRefused, streamUnsuitable } from "./jetstream-faults.js";

export interface StreamSettings {
  /** Name of the stream, and first token of its subjects. */
  readonly stream: string;
  readonly replicas: number;
  readonly deleteMarkerTtlMs: number;
  /** Left out: as much as the account may have. */
  readonly maxBytes?: number | undefined;
}

const NANOS_PER_MS = 1_000_000;
const LOG_ID = "cf-mesh-log-id";

/** What the log can't do without: none of it is changed where it is otherwise. */
function neededConfig(stream: string) {
  return {
    subjects: [`${stream}.>`],
    retention: RetentionPolicy.Limits,
    storage: StorageType.File,
    // Full, it refuses writes; the other way it would forget the oldest routes.
    discard: DiscardPolicy.New,
    discard_new_per_subject: false,
    max_msgs_per_subject: 1,
    max_msgs: -1,
    max_age: 0,
    max_msg_size: -1,
    allow_atomic: true,
    allow_msg_ttl: true,
    sealed: false,
    no_ack: false,
  } satisfies Partial<StreamConfig>;
}

const newConfig = ({ stream, replicas, deleteMarkerTtlMs, maxBytes }: StreamSettings) => ({
  ...neededConfig(stream),
  name: stream,
  num_replicas: replicas,
  max_bytes: maxBytes ?? -1,
  subject_delete_marker_ttl: deleteMarkerTtlMs * NANOS_PER_MS,
  metadata: { [LOG_ID]: randomUUID() },
});

/** Throws MESH_LOG_UNAVAILABLE when there is none, or one that can't hold the log; else the client's errors. */
export async function findStream(
  manager: JetStreamManager,
  { stream }: Pick<StreamSettings, "stream">,
): Promise<StreamInfo> {
  const info = await manager.streams.info(stream).catch((error: unknown) => {
    throw isMissing(error) ? streamMissing(stream) : asError(error);
  });
  const differences = differencesOf(info.config, stream);
  if (differences.length > 0) throw streamUnsuitable(stream, differences);
  return info;
}

/** Makes the stream when there is none; returns whether it did. Throws MESH_LOG_UNAVAILABLE, or the client's errors. */
export async function makeStream(manager: JetStreamManager, settings: StreamSettings): Promise<boolean> {
  const { stream } = settings;
  const isThere = await manager.streams.info(stream).then(
    () => true,
    (error: unknown) => {
      if (isMissing(error)) return false;
      throw asError(error);
    },
  );
  if (isThere) return false;
  try {
    await manager.streams.add(newConfig(settings));
    return true;
  } catch (error) {
    if (!(error instanceof JetStreamApiError)) throw error;
    // Of several that make it at once one is first; the others, with ids of their own, are told that it differs.
    if (error.code === STREAM_NAME_IN_USE) return false;
    throw streamRefused(stream, error);
  }
}

const STREAM_NAME_IN_USE = 10_058;

export function isMissing(error: unknown): boolean {
  return error instanceof JetStreamApiError && error.code === JetStreamApiCodes.StreamNotFound;
}

function differencesOf(actual: StreamConfig, stream: string): readonly string[] {
  const differences = Object.entries(neededConfig(stream)).flatMap(([name, needed]) => {
    // What a server leaves out is off.
    const value = actual[name as keyof StreamConfig] ?? false;
    return JSON.stringify(value) === JSON.stringify(needed)
      ? []
      : [`${name} is ${JSON.stringify(value)}, has to be ${JSON.stringify(needed)}`];
  });
  // Less would forget deletions before a router that restarts hears of them; none keeps them for ever.
  return deleteMarkerTtlMs(actual) > 0
    ? differences
    : [...differences, "subject_delete_marker_ttl is 0, has to be set"];
}

/** The stream's own: all who write and read must have the same. */
export const deleteMarkerTtlMs = (config: StreamConfig) => (config.subject_delete_marker_ttl ?? 0) / NANOS_PER_MS;

/** Another one when the stream was made anew, even with the same settings. */
export function logIdOf({ config, created }: StreamInfo): string {
  return `${config.metadata?.[LOG_ID] ?? "log"}@${created}`;
}

/** Makes the log another one: who read it before it went back in time reads it anew. */
export async function renewLogId(manager: JetStreamManager, { config }: StreamInfo): Promise<void> {
  await manager.streams.update(config.name, { metadata: { ...config.metadata, [LOG_ID]: randomUUID() } });
}
