import type { FastifyInstance, FastifyReply } from "fastify";
import { type Api, link, newResource, presentTimes } from "./api.js";
import { notFound } from "./errors.js";

/** Answers 202 with the Location of a job. The work is done before, so the job is complete at its first look. */
export function acceptJob(api: Api, reply: FastifyReply, operation: string): FastifyReply {
  const job = api.store.jobs.add({ ...newResource(api), operation });
  return reply.status(202).header("location", `${api.url()}/v3/jobs/${job.guid}`).send();
}

export function serveJobs(server: FastifyInstance, api: Api): void {
  server.get<{ Params: { guid: string } }>("/v3/jobs/:guid", (request) => {
    const job = api.store.jobs.get(request.params.guid);
    if (job === undefined) throw notFound("Job");
    return {
      ...presentTimes(job),
      operation: job.operation,
      state: "COMPLETE",
      errors: [],
      warnings: [],
      links: { self: link(api, `/v3/jobs/${job.guid}`) },
    };
  });
}
