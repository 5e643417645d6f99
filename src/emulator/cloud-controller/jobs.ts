import type { FastifyInstance, FastifyReply } from "fastify";
import { type Api, link, newResource, presentTimes } from "./api.js";
import { notFound } from "./errors.js";
import type { Job } from "./records.js";

export interface JobResult {
  readonly errors?: Job["errors"];
  readonly warnings?: readonly string[];
}

/** Answers 202 with the Location of a job. The work is done before, so the job has ended at its first look. */
export function acceptJob(api: Api, reply: FastifyReply, operation: string, result: JobResult = {}): FastifyReply {
  const { errors = [], warnings = [] } = result;
  const job = api.store.jobs.add({ ...newResource(api), operation, errors, warnings });
  return reply.status(202).header("location", `${api.url()}/v3/jobs/${job.guid}`).send();
}

export function serveJobs(server: FastifyInstance, api: Api): void {
  server.get<{ Params: { guid: string } }>("/v3/jobs/:guid", (request) => {
    const job = api.store.jobs.get(request.params.guid);
    if (job === undefined) throw notFound("Job");
    return {
      ...presentTimes(job),
      operation: job.operation,
      state: job.errors.length > 0 ? "FAILED" : "COMPLETE",
      errors: job.errors,
      warnings: job.warnings.map((detail) => ({ detail })),
      links: { self: link(api, `/v3/jobs/${job.guid}`) },
    };
  });
}
