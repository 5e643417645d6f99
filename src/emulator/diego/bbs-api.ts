/** What the BBS answers to each call, from its records. */
import {
  create,
  type DescMessage,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import {
  type ActualLRP,
  ActualLRPsByProcessGuidsRequestSchema,
  type ActualLRPsRequest,
  ActualLRPSchema,
  ActualLRPsRequestSchema,
  ActualLRPsResponseSchema,
  CellsResponseSchema,
  type DesiredLRPsRequest,
  DesiredLRPByProcessGuidRequestSchema,
  DesiredLRPResponseSchema,
  DesiredLRPSchema,
  DesiredLRPsRequestSchema,
  DomainsResponseSchema,
  PingResponseSchema,
} from "../../gen/bbs/v1/bbs_pb.js";
import { type BbsRecords, DOMAIN } from "./bbs-records.js";
import { CELLS } from "./lrp.js";

/** A protobuf message in pieces, so that a long list is not copied together. */
export type Answer = readonly Uint8Array[];

const INVALID_REQUEST = 4;
const RESOURCE_NOT_FOUND = 13;

/** Both list responses have their entries in field 2, after the error. */
const LIST_ENTRY_TAG = (2 << 3) | 2;

/** By path; undefined for a path that this BBS does not know. Errors of the BBS are in the answer, as in the real one. */
export function answerTo(path: string, body: Uint8Array, records: BbsRecords): Answer | undefined {
  switch (path) {
    case "/v1/ping":
      return message(PingResponseSchema, { available: true });
    case "/v1/domains/list":
      return message(DomainsResponseSchema, { domains: records.isDomainFresh ? [DOMAIN] : [] });
    case "/v1/cells/list.r1":
      return message(CellsResponseSchema, { cells: CELLS.map(({ id, zone }) => ({ cellId: id, zone })) });
    case "/v1/actual_lrps/list":
      return decoded(ActualLRPsRequestSchema, body, (request) => list(actuals(records, request)));
    case "/v1/actual_lrps/list_by_process_guids":
      return decoded(ActualLRPsByProcessGuidsRequestSchema, body, ({ processGuids }) =>
        list(processGuids.flatMap((guid) => records.actualBytes(guid))),
      );
    case "/v1/desired_lrps/list.r3":
      return decoded(DesiredLRPsRequestSchema, body, (request) => list(desireds(records, request, "all")));
    case "/v1/desired_lrp_routing_infos/list":
      return decoded(DesiredLRPsRequestSchema, body, (request) => list(desireds(records, request, "routing info")));
    case "/v1/desired_lrps/get_by_process_guid.r3":
      return decoded(DesiredLRPByProcessGuidRequestSchema, body, ({ processGuid }) => {
        const desiredLrp = records.desired(processGuid);
        if (desiredLrp !== undefined) return message(DesiredLRPResponseSchema, { desiredLrp });
        return errorAnswer(RESOURCE_NOT_FOUND, "the requested resource could not be found");
      });
    default:
      return undefined;
  }
}

/** Every response has its error in field 1, so this is an answer to any call. */
export function errorAnswer(type: number, text: string): Answer {
  return message(ActualLRPsResponseSchema, { error: { type, message: text } });
}

function message<Schema extends DescMessage>(schema: Schema, init: MessageInitShape<Schema>): Answer {
  return [toBinary(schema, create(schema, init))];
}

function decoded<Schema extends DescMessage>(
  schema: Schema,
  body: Uint8Array,
  answer: (request: MessageShape<Schema>) => Answer,
): Answer {
  let request: MessageShape<Schema>;
  try {
    request = fromBinary(schema, body);
  } catch {
    return errorAnswer(INVALID_REQUEST, "the request received was invalid");
  }
  return answer(request);
}

function actuals(records: BbsRecords, request: ActualLRPsRequest): readonly Uint8Array[] {
  const { domain, cellId, processGuid, index } = request;
  if (domain !== "" && domain !== DOMAIN) return [];
  const all = (processGuid === "" ? records.processGuids() : [processGuid]).flatMap((guid) =>
    records.actualBytes(guid),
  );
  if (cellId === "" && index === undefined) return all;
  const isWanted = (lrp: ActualLRP): boolean =>
    (cellId === "" || lrp.instanceKey?.cellId === cellId) && (index === undefined || lrp.key?.index === index);
  return all.filter((bytes) => isWanted(fromBinary(ActualLRPSchema, bytes)));
}

function desireds(
  records: BbsRecords,
  { domain, processGuids, appGuids }: DesiredLRPsRequest,
  part: "all" | "routing info",
): readonly Uint8Array[] {
  if (domain !== "" && domain !== DOMAIN) return [];
  const guids = processGuids.length === 0 ? records.processGuids() : processGuids;
  const all = guids.flatMap((guid) => records.desiredBytes(guid, part) ?? []);
  if (appGuids.length === 0) return all;
  const wanted = new Set(appGuids);
  return all.filter((bytes) => wanted.has(fromBinary(DesiredLRPSchema, bytes).logGuid));
}

/** The pieces of a list response: before each entry its tag and length. */
function list(entries: readonly Uint8Array[]): Answer {
  return entries.flatMap((entry) => [entryHead(entry.length), entry]);
}

function entryHead(length: number): Uint8Array {
  const head = [LIST_ENTRY_TAG];
  let left = length;
  for (; left > 0x7f; left >>>= 7) head.push((left & 0x7f) | 0x80);
  return Uint8Array.of(...head, left);
}
