/**
 * A router.register or router.unregister message: JSON in which `null` stands for a missing field. Checked here, once.
 *
 * Source   RegistryMessage of cloudfoundry/gorouter (mbus/subscriber.go) and of cloudfoundry/route-emitter
 *          (routingtable/registry_message.go).
 */
import { z } from "zod";
import type { Registration, RouteOptions } from "../../entries/entries.js";
import { readPolicyOptions } from "../../entries/route-policies.js";
import { compareText } from "../../lib/compare-text.js";
import { placeOfUri, type UriPlace } from "../uri.js";

/** NATS itself takes up to a megabyte. What is repeated for each URI must stay small. */
export const MAX_MESSAGE_BYTES = 256 * 1_024;
const MAX_URIS = 1_000;
const MAX_TAGS = 64;
const MAX_TEXT = 1_024;
const MAX_INT64 = 2n ** 63n - 1n;

/** An IP address, or a name that can be resolved. */
const ADDRESS = /^(?:[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252})|[0-9A-Fa-f:.]{2,45})$/;

const text = z.string().max(MAX_TEXT).nullish();
const port = z.int().min(0).max(65_535).nullish();

const MessageSchema = z.object({
  host: z.string().regex(ADDRESS, "is neither an IP address nor a host name"),
  port,
  tls_port: port,
  uris: z.array(z.string()).max(MAX_URIS).nullish(),
  protocol: text,
  app: text,
  private_instance_id: text,
  private_instance_index: text,
  server_cert_domain_san: text,
  isolation_segment: text,
  availability_zone: text,
  route_service_url: text.refine(
    (url) => (url ?? "") === "" || url?.startsWith("https") === true,
    "must be an https URL, or Gorouter would not take the message either",
  ),
  stale_threshold_in_seconds: z.int().nullish(),
  /** Made a string before, since it exceeds 2^53. */
  endpoint_updated_at_ns: z
    .string()
    .regex(/^-?\d{1,19}$/)
    .transform(BigInt)
    .refine((value) => value <= MAX_INT64 && value >= -MAX_INT64)
    .nullish(),
  tags: z
    .record(z.string().max(MAX_TEXT), z.string().max(MAX_TEXT).nullable())
    .refine((tags) => Object.keys(tags).length <= MAX_TAGS, `has more than ${MAX_TAGS} tags`)
    .nullish(),
  options: z
    .object({
      loadbalancing: text,
      hash_header: text,
      hash_balance: z.union([z.number(), z.string().max(MAX_TEXT)]).nullish(),
      route_policy_scope: text,
      route_policy_sources: z.string().nullish(),
    })
    .nullish(),
});

/** What an entry says of each URI alike. */
export type RegisteredEndpoint = Pick<
  Registration,
  | "address"
  | "port"
  | "tls"
  | "certSan"
  | "protocol"
  | "appGuid"
  | "processGuid"
  | "instanceGuid"
  | "instanceIndex"
  | "availabilityZone"
  | "isolationSegment"
  | "routeServiceUrl"
  | "updatedAtNs"
> & {
  readonly options: Omit<RouteOptions, "$typeName" | "$unknown"> | undefined;
  /** In the order of their names. */
  readonly tags: readonly { readonly name: string; readonly value: string }[];
};

export interface RegistryMessage {
  readonly endpoint: RegisteredEndpoint;
  /** Without doubles. */
  readonly places: readonly UriPlace[];
  /** URIs that are no host and path; the message's others count. */
  readonly badUris: readonly string[];
  /** Of its route policies, what lets nobody in because it is not understood. */
  readonly problems: readonly string[];
  /** As the message has it; 0 where it has none. */
  readonly staleThresholdSeconds: number;
}

/** A message that can't be taken, and why. */
export class BadMessage extends Error {
  override readonly name = "BadMessage";
}

/** Throws BadMessage. */
export function parseRegistryMessage(data: Uint8Array): RegistryMessage {
  const parsed = MessageSchema.safeParse(json(data));
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new BadMessage(`${issue?.path.join(".") || "the message"}: ${issue?.message ?? "is refused"}`);
  }
  const message = parsed.data;
  const tlsPort = message.tls_port ?? 0;
  const chosenPort = tlsPort === 0 ? (message.port ?? 0) : tlsPort;
  if (chosenPort === 0) throw new BadMessage("port: neither port nor tls_port says where the endpoint listens");
  const places = new Map<string, UriPlace>();
  const badUris: string[] = [];
  for (const uri of message.uris ?? []) {
    const place = placeOfUri(uri);
    if (place) places.set(place.host + place.path, place);
    else badUris.push(uri);
  }
  const { options, problems } = optionsOf(message.options);
  return {
    endpoint: {
      address: message.host,
      port: chosenPort,
      tls: tlsPort !== 0,
      certSan: message.server_cert_domain_san ?? "",
      // Gorouter takes any other word for HTTP/1.1.
      protocol: message.protocol === "http2" ? "http2" : "http1",
      appGuid: message.app ?? "",
      processGuid: message.tags?.["process_id"] ?? "",
      instanceGuid: message.private_instance_id ?? "",
      instanceIndex: message.private_instance_index ?? "",
      availabilityZone: message.availability_zone ?? "",
      isolationSegment: message.isolation_segment ?? "",
      routeServiceUrl: message.route_service_url ?? "",
      updatedAtNs: message.endpoint_updated_at_ns ?? 0n,
      options,
      tags: Object.entries(message.tags ?? {})
        .map(([name, value]) => ({ name, value: value ?? "" }))
        .sort((a, b) => compareText(a.name, b.name)),
    },
    places: [...places.values()],
    badUris,
    problems,
    staleThresholdSeconds: message.stale_threshold_in_seconds ?? 0,
  };
}

function optionsOf(options: z.infer<typeof MessageSchema>["options"]) {
  const loadbalancing = options?.loadbalancing ?? "";
  const hashHeader = options?.hash_header ?? "";
  const hashBalance = String(options?.hash_balance ?? "");
  const { problems, ...policies } = readPolicyOptions(options);
  const wanted = { loadbalancing, hashHeader, hashBalance, ...policies };
  const isEmpty = Object.values(wanted).every((value) => value.length === 0);
  return { options: isEmpty ? undefined : wanted, problems };
}

const decoder = new TextDecoder("utf-8", { fatal: true });

function json(data: Uint8Array): unknown {
  if (data.length > MAX_MESSAGE_BYTES) throw new BadMessage(`it has ${data.length} bytes, over ${MAX_MESSAGE_BYTES}`);
  try {
    // Within a string the quotes would have backslashes.
    const exact = decoder.decode(data).replace(/("endpoint_updated_at_ns"\s*:\s*)(-?\d+)(?=\s*[,}])/, '$1"$2"');
    return JSON.parse(exact) as unknown;
  } catch {
    throw new BadMessage("it is no JSON in UTF-8");
  }
}
