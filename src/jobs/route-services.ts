/** Answers Envoy's questions about requests that go to a route service, or come back from one: it has the secret. */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { type sendUnaryData, Server, type ServerUnaryCall, status } from "@grpc/grpc-js";
import {
  ROUTE_SERVICE_CLUSTER,
  ROUTE_SERVICE_FILTER,
  ROUTE_SERVICE_HEADER,
  ROUTE_SERVICE_METADATA,
} from "../compile/names.js";
import type { RouterConfig } from "../config/router.js";
import type { RouteServicesConfig } from "../config/router-route-services.js";
import type { RouteServiceOptions } from "../envoy/bootstrap/route-services.js";
import {
  Authorization,
  type CheckRequest,
  CheckRequestSchema,
  type CheckResponse,
  CheckResponseSchema,
} from "../gen/envoy/service/auth/v3/external_auth_pb.js";
import { StatusCode } from "../gen/envoy/type/v3/http_status_pb.js";
import { asError } from "../lib/errors.js";
import { listenOnSocket } from "../lib/listen-on-socket.js";
import type { Logger } from "../lib/logger.js";
import type { RoutingTable } from "../model/routing-table.js";
import { type Arrival, forwardedHeaders, type ForwardedHeaderModes } from "../route-services/forwarded-headers.js";
import { checkReturned, type Refusal, type RequestTarget, type Rules, send } from "../route-services/protocol.js";
import {
  deriveKey,
  FORWARDED_URL_HEADER,
  METADATA_HEADER,
  PROOF_HEADERS,
  SIGNATURE_HEADER,
  type SignatureKeys,
} from "../route-services/signature.js";
import type { Credentials } from "./credentials.js";
import { followSecrets } from "./follow-secrets.js";

export interface RouteServices {
  /** For Envoy's bootstrap. */
  readonly options: RouteServiceOptions;
  close(): Promise<void>;
}

const CHECK = `/${Authorization.typeName}/${Authorization.method.check.name}`;
const DIRECTION = {
  key: "cf-mesh-direction",
  outbound: "outbound",
  returning: "returning",
  returningByTls: "returning-by-tls",
  returningByDomain: "returning-by-domain",
} as const;
/** What the first turn through Envoy wrote as if the cluster for route services were an app. */
const APP_HEADERS = ["x-cf-instanceid", "x-cf-instanceindex", "x-cf-applicationid"];

/**
 * Follows the files of secrets and CAs: what replaces them is used from then on.
 *
 * Returns  undefined where no route services are configured.
 * Throws   MESH_CONFIG_INVALID when a file can't be used; what the system says when the socket can't be made.
 */
export async function startRouteServices(
  { routeServices: config, runDirectory, http }: Pick<RouterConfig, "http" | "routeServices" | "runDirectory">,
  table: RoutingTable,
  credentials: Credentials,
  logger: Logger,
): Promise<RouteServices | undefined> {
  if (!config) return undefined;
  const { secretFile, decryptOnlySecretFile, caFile } = config;
  const section = "router.routeServices";
  const keys = await credentials.follow({
    section,
    files: { secretFile, decryptOnlySecretFile },
    make: (texts): SignatureKeys => ({
      current: deriveKey(texts.secretFile),
      former: texts.decryptOnlySecretFile === undefined ? undefined : deriveKey(texts.decryptOnlySecretFile),
    }),
  });
  const [ca] = await followSecrets(
    { section, files: { caFile }, secretsOf: (texts) => [{ name: "route-services-ca", ca: texts.caFile }] },
    runDirectory,
    credentials,
    logger,
  );
  if (!ca) throw new Error("a secret was followed, and there is none");
  const modes = { clientCert: http.forwardedClientCert, proto: http.forwardedProto };
  const checkSocketPath = join(runDirectory, "route-services.sock");
  const server = await serveChecks(checkSocketPath, logger, (request, direction) =>
    answer(request, direction, rulesOf(config, keys(), table), modes),
  );
  return {
    options: {
      checkSocketPath,
      outboundSocketPath: join(runDirectory, "route-services-out.sock"),
      inboundSocketPath: join(runDirectory, "route-services-in.sock"),
      cluster: ROUTE_SERVICE_CLUSTER,
      ca,
      signatureHeader: SIGNATURE_HEADER,
      forwardedUrlHeader: FORWARDED_URL_HEADER,
      checkedHeaders: [...PROOF_HEADERS, ROUTE_SERVICE_HEADER],
      direction: DIRECTION,
      internalMark: { filter: ROUTE_SERVICE_FILTER, key: ROUTE_SERVICE_METADATA.isInternal },
    },
    async close() {
      server.forceShutdown();
      await rm(checkSocketPath, { force: true });
    },
  };
}

function rulesOf(config: RouteServicesConfig, keys: SignatureKeys, table: RoutingTable): Rules {
  const { timeoutMs, recommendHttps, strict, hairpinning, hairpinningAllowList } = config;
  return {
    keys,
    timeoutMs,
    recommendHttps,
    strict,
    hairpinningHosts: hairpinning ? hairpinningAllowList : undefined,
    find: (host, path) => table.find(host, path),
  };
}

/** A question without an answer is an error to Envoy, which then refuses the request. */
async function serveChecks(
  socketPath: string,
  logger: Logger,
  decide: (request: CheckRequest, direction: string) => CheckResponse,
): Promise<Server> {
  const server = new Server();
  server.register(
    CHECK,
    (call: ServerUnaryCall<CheckRequest, CheckResponse>, reply: sendUnaryData<CheckResponse>) => {
      try {
        reply(null, decide(call.request, String(call.metadata.get(DIRECTION.key)[0] ?? "")));
      } catch (error) {
        logger.error({ error: asError(error).message }, "a request for a route service could not be checked: refused");
        reply({ code: status.INTERNAL });
      }
    },
    (response: CheckResponse) => Buffer.from(toBinary(CheckResponseSchema, response)),
    (bytes: Buffer) => fromBinary(CheckRequestSchema, bytes),
    "unary",
  );
  await listenOnSocket(server, socketPath);
  return server;
}

function answer(
  { attributes }: CheckRequest,
  direction: string,
  rules: Rules,
  modes: ForwardedHeaderModes,
): CheckResponse {
  const http = attributes?.request?.http;
  if (!http) throw new Error("Envoy asked about no request");
  const target = { host: http.host, path: http.path };
  if (direction === DIRECTION.outbound) return outbound(target, http.headers[ROUTE_SERVICE_HEADER] ?? "", rules);
  const headers = {
    signature: http.headers[SIGNATURE_HEADER] ?? "",
    metadata: http.headers[METADATA_HEADER] ?? "",
    forwardedUrl: http.headers[FORWARDED_URL_HEADER] ?? "",
  };
  const returned = checkReturned(target, headers, rules, Date.now());
  if (returned.kind === "refused") return refused(returned);
  const arrival: Arrival = {
    isTls: direction !== DIRECTION.returning,
    clientCert: derOf(attributes.source?.certificate ?? ""),
  };
  // A domain with clients of its own says what becomes of their certificates: Envoy has done it.
  const isOfDomain = direction === DIRECTION.returningByDomain;
  const { set, remove } = forwardedHeaders(returned, arrival, {
    ...modes,
    ...(isOfDomain && { clientCert: "always_forward" as const }),
  });
  const changes = { headers: headersOf(set), headersToRemove: [...remove] };
  if (returned.kind === "passed") return allowed(changes, {});
  // Envoy looks for the route again when a header changed.
  changes.headersToRemove.push(ROUTE_SERVICE_HEADER);
  return allowed(changes, { [ROUTE_SERVICE_METADATA.hasBeenThere]: true });
}

/** Base64 of a certificate that Envoy tells as PEM, with the characters of a URL; undefined for none. */
function derOf(certificate: string): string | undefined {
  if (certificate === "") return undefined;
  return decodeURIComponent(certificate).replace(/-----[^-]+-----|\s/g, "");
}

function outbound(target: RequestTarget, serviceUrl: string, rules: Rules): CheckResponse {
  const sent = send(target, serviceUrl, rules, Date.now());
  // The compiler lets no such URL pass.
  if (!sent) throw new Error("a route service has no URL of HTTPS");
  const headers = {
    [SIGNATURE_HEADER]: sent.signature,
    [METADATA_HEADER]: sent.metadata,
    [FORWARDED_URL_HEADER]: sent.forwardedUrl,
    ":authority": sent.authority,
    ":path": sent.path,
  };
  return allowed(
    {
      headers: headersOf(headers),
      headersToRemove: [ROUTE_SERVICE_HEADER, ...APP_HEADERS],
    },
    { [ROUTE_SERVICE_METADATA.isInternal]: sent.isInternal },
  );
}

/** Each takes the place of one that is there. */
function headersOf(headers: Readonly<Record<string, string>>) {
  return Object.entries(headers).map(([key, value]) => ({ header: { key, value } }));
}

type Response = NonNullable<MessageInitShape<typeof CheckResponseSchema>["httpResponse"]>;
type Changes = Extract<Response, { case: "okResponse" }>["value"];

function allowed(value: Changes, dynamicMetadata: Record<string, boolean>): CheckResponse {
  return create(CheckResponseSchema, {
    status: { code: status.OK },
    httpResponse: { case: "okResponse", value },
    dynamicMetadata,
  });
}

const STATUS = { 400: StatusCode.BadRequest, 502: StatusCode.BadGateway, 504: StatusCode.GatewayTimeout } as const;

function refused({ status: code, routerError, message }: Refusal): CheckResponse {
  return create(CheckResponseSchema, {
    status: { code: status.PERMISSION_DENIED },
    httpResponse: {
      case: "deniedResponse",
      value: {
        status: { code: STATUS[code] },
        headers: headersOf({ "x-cf-routererror": routerError }),
        // The bootstrap makes a whole answer of it, as of the router's other errors.
        body: message,
      },
    },
  });
}
