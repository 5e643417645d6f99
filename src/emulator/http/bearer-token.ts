import type { FastifyRequest } from "fastify";

/** The token of "Authorization: bearer ..."; undefined for any other header, or none. */
export function bearerToken({ headers }: Pick<FastifyRequest, "headers">): string | undefined {
  return /^bearer\s+(\S+)$/i.exec(headers.authorization ?? "")?.[1];
}
