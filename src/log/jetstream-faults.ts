import { errors, type PermissionViolationError } from "@nats-io/transport-node";
import { MeshError } from "../lib/errors.js";

const unavailable = (stream: string, what: string, fix: string, cause?: Error) =>
  new MeshError("MESH_LOG_UNAVAILABLE", `mesh log in stream ${stream}: ${what}`, fix, cause && { cause });

export const streamLogClosed = (stream: string) => unavailable(stream, "it is closed", "open the log again");

export function natsUnreachable(stream: string, servers: readonly string[], cause: Error): MeshError {
  const happened = `no NATS server of ${servers.join(", ")} takes a connection (${cause.message}); what is known goes on serving`;
  return unavailable(stream, happened, connectingAdvice(cause), cause);
}

function connectingAdvice(cause: Error): string {
  if (cause instanceof errors.AuthorizationError || cause instanceof errors.UserAuthenticationExpiredError) {
    return (
      "the servers run, and do not know who this is: check log.jetstream's user with its passwordFile, or tokenFile, and " +
      "certificateFile where they map certificates to users"
    );
  }
  return "see that the servers run and can be reached, and that log.jetstream's caFile, certificateFile and keyFile fit theirs";
}

/** The server knows the user, and does not let it do this. */
export const rightsMissing = (stream: string, { operation, subject }: PermissionViolationError) =>
  unavailable(
    stream,
    `the user of log.jetstream may not ${operation === "publish" ? "publish to" : "subscribe to"} ${subject}; what is known goes on serving`,
    "give the user the rights that docs/operations.md lists, with this stream's name in them",
  );

export const natsTooOld = (stream: string, server: string, version: string) =>
  unavailable(
    stream,
    `the NATS server ${server} has version ${version}, and the log needs atomic batches; nothing was written`,
    "upgrade the NATS servers to 2.12 or later",
  );

export const noJetStream = (stream: string, cause: Error) =>
  unavailable(
    stream,
    `JetStream does not answer (${cause.message}); what is known goes on serving`,
    "switch JetStream on in the NATS servers and for this account; in a cluster, see that a majority of servers runs",
    cause,
  );

/** @param differences as in "max_msgs_per_subject is -1, has to be 1" */
export const streamUnsuitable = (stream: string, differences: readonly string[]) =>
  unavailable(
    stream,
    `it is there with settings that can't hold the log: ${differences.join("; ")}. It was left as it is`,
    "set these back with `nats stream edit`; or name another stream in log.jetstream.stream, and its sources fill it",
  );

export const streamRefused = (stream: string, cause: Error) =>
  unavailable(
    stream,
    `the NATS server does not make the stream (${cause.message})`,
    "see that the account may make it: limits, rights, and as many servers as log.jetstream.replicas says",
    cause,
  );

export const streamMissing = (stream: string) =>
  unavailable(
    stream,
    "the stream is gone; what is known goes on serving",
    "none is needed: the next write makes it anew, and the writers fill it; find out who deleted it",
  );

export const streamSilent = (stream: string, cause: Error) =>
  unavailable(
    stream,
    `it can't be read (${cause.message}); what is known goes on serving`,
    "see that the NATS servers run; in a cluster, that a majority does",
    cause,
  );

/** The server said no. */
export const streamUnwritable = (stream: string, cause: Error) =>
  unavailable(
    stream,
    `nothing was appended (${cause.message}); reads go on, and later appends are tried`,
    "when it is full, raise its max_bytes with `nats stream edit`, or make room on the NATS servers' disks",
    cause,
  );

/** Nobody answered. */
export const appendUnanswered = (stream: string, cause: Error) =>
  unavailable(
    stream,
    `it is not known whether a batch was appended: no answer (${cause.message}); a writer reads before it tries again`,
    "see that the NATS servers run; in a cluster, that a majority does",
    cause,
  );

export const payloadTooLarge = (stream: string, bytes: number, maxBytes: number) =>
  unavailable(
    stream,
    `an entry needs ${bytes} bytes, and the NATS server takes ${maxBytes}; nothing was appended`,
    "raise max_payload in the configuration of the NATS servers to 1 MB (1048576) or more",
  );
