/** Each code has a section in docs/errors.md; a test compares the two lists. */
export const ERROR_CODES = [
  "MESH_ACCESS_LOG_LOST",
  "MESH_CONFIG_INVALID",
  "MESH_ENVOY_MISSING",
  "MESH_ENVOY_FAILED",
  "MESH_NATS_MISSING",
  "MESH_LEASE_LOST",
  "MESH_LOG_CONFLICT",
  "MESH_LOG_UNAVAILABLE",
  "MESH_PORT_TAKEN",
  "MESH_SOURCE_UNREACHABLE",
  "MESH_SOURCE_REFUSED",
  "MESH_SOURCE_MALFORMED",
  "MESH_STATE_CORRUPT",
  "MESH_STATE_IN_USE",
  "MESH_STATUS_UNAVAILABLE",
] as const;
export type ErrorCode = (typeof ERROR_CODES)[number];

/** A fault of the outside world: what happened and what goes on, then what to do about it. */
export class MeshError extends Error {
  override readonly name = "MeshError";
  readonly code: ErrorCode;
  readonly fix: string;

  constructor(code: ErrorCode, message: string, fix: string, options?: ErrorOptions) {
    super(`[${code}] ${message}\n  fix: ${fix}`, options);
    this.code = code;
    this.fix = fix;
  }
}

/** The Error in whatever was thrown. */
export function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown));
}

/** The system's code of an error, as in "ECONNREFUSED"; undefined where it has none. */
export function systemCode(thrown: unknown): string | undefined {
  const code: unknown = thrown instanceof Error && "code" in thrown ? thrown.code : undefined;
  return typeof code === "string" ? code : undefined;
}
