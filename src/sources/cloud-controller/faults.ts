/** What can go wrong between the Cloud Controller and us, beyond what http-faults.ts tells. */
import { MeshError } from "../../lib/errors.js";
import { MEANWHILE, type Remedies } from "../http-faults.js";

export const REMEDIES: Remedies = {
  refused:
    "check that the API URL is that of a Cloud Controller with API v3, and that the UAA client has the authority " +
    "cloud_controller.global_auditor",
  rateLimited: "raise the rate limit of the mesh's UAA client, or lower cloudController.requestsPerSecond",
};

export const listUnreadable = (problem: string) =>
  new MeshError(
    "MESH_SOURCE_MALFORMED",
    `Cloud Controller: a list could not be read as a whole (${problem}); ${MEANWHILE}`,
    "nothing, if it passes; else look for what deletes and creates so many resources, or a pageSize that is too small",
  );
