/**
 * The items of a BulkSyncRequest, read by hand: they come by the hundred thousand, and protobuf-es takes three times as
 * long for its messages. Fields of newer clients, or of another wire type, are passed over.
 *
 * Source   cloud_controller.proto; protobuf.dev, "Encoding".
 */
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { BulkSyncRequestSchema } from "../../gen/copilot/cloud_controller_pb.js";
import type { AssociationFields, MappingFields, RouteFields } from "./edge.js";

export type BulkItem =
  | { readonly kind: "route"; readonly route: RouteFields }
  | { readonly kind: "mapping"; readonly mapping: MappingFields }
  | { readonly kind: "association"; readonly association: AssociationFields };

const { routes, routeMappings, capiDiegoProcessAssociations } = BulkSyncRequestSchema.field;

/** Throws when the bytes are no BulkSyncRequest. */
export function* readBulkItems(bytes: Buffer): Generator<BulkItem> {
  const reader = new BinaryReader(bytes, textOf);
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    if (wireType !== WireType.LengthDelimited) {
      reader.skip(wireType, field);
      continue;
    }
    const end = reader.uint32() + reader.pos;
    if (end > reader.len) throw new RangeError("premature EOF");
    if (field === routes.number) yield { kind: "route", route: readRoute(reader, end) };
    else if (field === routeMappings.number) yield { kind: "mapping", mapping: readMapping(reader, end) };
    else if (field === capiDiegoProcessAssociations.number) {
      yield { kind: "association", association: readAssociation(reader, end) };
    } else reader.pos = end;
    if (reader.pos !== end) throw new RangeError("an item that does not end where it says");
  }
}

/** Faster than a TextDecoder for texts as short as these. */
function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString();
}

function readRoute(reader: BinaryReader, end: number): RouteFields {
  const route = { guid: "", host: "", path: "", internal: false, vip: "" };
  readFields(reader, end, (field, wireType) => {
    if (wireType === WireType.Varint && field === 4) route.internal = reader.bool();
    else if (wireType !== WireType.LengthDelimited) return false;
    else if (field === 1) route.guid = reader.string();
    else if (field === 2) route.host = reader.string();
    else if (field === 3) route.path = reader.string();
    else if (field === 5) route.vip = reader.string();
    else return false;
    return true;
  });
  return route;
}

function readMapping(reader: BinaryReader, end: number): MappingFields {
  const mapping = { capiProcessGuid: "", routeGuid: "", routeWeight: 0 };
  readFields(reader, end, (field, wireType) => {
    if (wireType === WireType.Varint && field === 3) mapping.routeWeight = reader.uint32();
    else if (wireType !== WireType.LengthDelimited) return false;
    else if (field === 1) mapping.capiProcessGuid = reader.string();
    else if (field === 2) mapping.routeGuid = reader.string();
    else return false;
    return true;
  });
  return mapping;
}

function readAssociation(reader: BinaryReader, end: number): AssociationFields {
  const association = { capiProcessGuid: "", diegoProcessGuids: [] as string[] };
  readFields(reader, end, (field, wireType) => {
    if (wireType !== WireType.LengthDelimited) return false;
    if (field === 1) association.capiProcessGuid = reader.string();
    else if (field === 2) association.diegoProcessGuids.push(reader.string());
    else return false;
    return true;
  });
  return association;
}

/** `take` reads a field, or says that it does not know it. */
function readFields(reader: BinaryReader, end: number, take: (field: number, wireType: WireType) => boolean): void {
  while (reader.pos < end) {
    const [field, wireType] = reader.tag();
    if (!take(field, wireType)) reader.skip(wireType, field);
  }
}
