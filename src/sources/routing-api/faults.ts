/** What can go wrong with the routing API, beyond what http-faults.ts tells. */
import { MeshError } from "../../lib/errors.js";
import { MEANWHILE, type Remedies } from "../http-faults.js";
import type { NeededScope } from "../uaa.js";

export const READ_ROUTES: NeededScope = {
  anyOf: ["routing.routes.read"],
  without: "may not read the routes of the routing API",
  remedy: "give the client of routingApi.clientId the authority routing.routes.read",
};

export const REMEDIES: Remedies = {
  refused:
    "check that routingApi.url leads to a routing API, and that the client of routingApi.clientId has the authority " +
    "routing.routes.read",
  rateLimited:
    "raise the limit of what stands between the mesh and the routing API, or raise routingApi.listIntervalMs",
};

/** The stream ended as answers do. Whatever stands in between may do so by the clock. */
export class StreamEnded extends MeshError {
  constructor(server: string) {
    super(
      "MESH_SOURCE_UNREACHABLE",
      `${server}: it ended the event stream; subscribing again, ${MEANWHILE}`,
      "none needed when it restarts, or when a router in between limits how long a request takes; if it repeats within " +
        "seconds, see the log of the routing API",
    );
  }
}

export const nothingReadable = (count: number, problem: string) =>
  new MeshError(
    "MESH_SOURCE_MALFORMED",
    `Routing API: of ${count} routes none can be read (${problem}); ${MEANWHILE}`,
    "check that routingApi.url leads to a routing API; if it does, its version may be too new for this one",
  );

export const streamDeaf = (server: string) =>
  new MeshError(
    "MESH_SOURCE_UNREACHABLE",
    `${server}: routes changed, and the event stream said nothing; subscribing again, meanwhile lists tell of them`,
    "look for a proxy or firewall between the mesh and the routing API that drops idle connections or holds answers back",
  );
