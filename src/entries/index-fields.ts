/**
 * What an index needs of an entry, read from its bytes without decoding the rest: a reader of a million entries indexes
 * all of them, and looks into few.
 */
import { DestinationSchema, RegistrationSchema, RouteOptionsSchema, RouteSchema } from "../gen/mesh/v1/entries_pb.js";

export interface RouteIndexFields {
  readonly host: string;
  readonly path: string;
  readonly internal: boolean;
  readonly protocol: string;
  /** Of the destinations, in their order; "" for one without a process. */
  readonly processGuids: readonly string[];
  /** It has some. */
  readonly isAnnotated: boolean;
  readonly hasRouteService: boolean;
  /** Its domain enforces route policies. */
  readonly hasPolicyScope: boolean;
}

export interface RegistrationIndexFields {
  readonly host: string;
  readonly path: string;
  readonly processGuid: string;
  readonly isolationSegment: string;
  readonly hasRouteService: boolean;
  readonly hasPolicyScope: boolean;
}

const ROUTE = RouteSchema.field;
const PROCESS_GUID = DestinationSchema.field.processGuid.number;
const POLICY_SCOPE = RouteOptionsSchema.field.routePolicyScope.number;
const REGISTRATION = RegistrationSchema.field;

/** Throws when the bytes are no message: a broken invariant, since only our writers write entries. */
export function routeIndexFields(value: Uint8Array): RouteIndexFields {
  const bytes = bufferOf(value);
  const found = {
    host: "",
    path: "",
    internal: false,
    protocol: "",
    processGuids: [] as string[],
    isAnnotated: false,
    hasRouteService: false,
    hasPolicyScope: false,
  };
  forEachField(bytes, 0, bytes.length, (number, start, end) => {
    switch (number) {
      case ROUTE.host.number:
        found.host = bytes.toString("utf8", start, end);
        break;
      case ROUTE.path.number:
        found.path = bytes.toString("utf8", start, end);
        break;
      case ROUTE.internal.number:
        found.internal = bytes[start] !== 0;
        break;
      case ROUTE.protocol.number:
        found.protocol = bytes.toString("utf8", start, end);
        break;
      case ROUTE.options.number:
        found.hasPolicyScope = textOfField(bytes, start, end, POLICY_SCOPE) !== "";
        break;
      case ROUTE.destinations.number:
        found.processGuids.push(textOfField(bytes, start, end, PROCESS_GUID));
        break;
      case ROUTE.annotations.number:
        found.isAnnotated = true;
        break;
      case ROUTE.routeServiceUrl.number:
        found.hasRouteService = end > start;
    }
  });
  return found;
}

/** Throws when the bytes are no message: a broken invariant, since only our writers write entries. */
export function registrationIndexFields(value: Uint8Array): RegistrationIndexFields {
  const bytes = bufferOf(value);
  const found = {
    host: "",
    path: "",
    processGuid: "",
    isolationSegment: "",
    hasRouteService: false,
    hasPolicyScope: false,
  };
  forEachField(bytes, 0, bytes.length, (number, start, end) => {
    switch (number) {
      case REGISTRATION.host.number:
        found.host = bytes.toString("utf8", start, end);
        break;
      case REGISTRATION.path.number:
        found.path = bytes.toString("utf8", start, end);
        break;
      case REGISTRATION.processGuid.number:
        found.processGuid = bytes.toString("utf8", start, end);
        break;
      case REGISTRATION.isolationSegment.number:
        found.isolationSegment = bytes.toString("utf8", start, end);
        break;
      case REGISTRATION.options.number:
        found.hasPolicyScope = textOfField(bytes, start, end, POLICY_SCOPE) !== "";
        break;
      case REGISTRATION.routeServiceUrl.number:
        found.hasRouteService = end > start;
    }
  });
  return found;
}

/** Of a message within another one; "" where it is not there. */
function textOfField(bytes: Buffer, start: number, end: number, wanted: number): string {
  let text = "";
  forEachField(bytes, start, end, (number, from, to) => {
    if (number === wanted) text = bytes.toString("utf8", from, to);
  });
  return text;
}

function bufferOf(value: Uint8Array): Buffer {
  return Buffer.from(value.buffer, value.byteOffset, value.byteLength);
}

/** https://protobuf.dev/programming-guides/encoding/ */
const WIRE_TYPE = { varint: 0, fixed64: 1, lengthDelimited: 2, fixed32: 5 } as const;
const WIRE_TYPE_BITS = 3;
const PAYLOAD_BITS = 7;
const CONTINUES = 0x80;

/** Calls `take` for each field of a message, with the place of its content (without the length before it). */
function forEachField(
  bytes: Buffer,
  start: number,
  end: number,
  take: (number: number, start: number, end: number) => void,
): void {
  let place = start;
  while (place < end) {
    const tag = varintAt(bytes, place);
    const from = afterVarint(bytes, place);
    let content = from;
    let next: number;
    switch (tag % (1 << WIRE_TYPE_BITS)) {
      case WIRE_TYPE.varint:
        next = afterVarint(bytes, from);
        break;
      case WIRE_TYPE.fixed64:
        next = from + 8;
        break;
      case WIRE_TYPE.lengthDelimited:
        content = afterVarint(bytes, from);
        next = content + varintAt(bytes, from);
        break;
      case WIRE_TYPE.fixed32:
        next = from + 4;
        break;
      default:
        throw new Error(`byte ${place} of an entry begins no field`);
    }
    if (next > end) throw new Error(`an entry ends within the field at byte ${place}`);
    take(Math.floor(tag / (1 << WIRE_TYPE_BITS)), content, next);
    place = next;
  }
}

function varintAt(bytes: Buffer, start: number): number {
  let value = 0;
  let scale = 1;
  for (let place = start; ; place += 1) {
    const byte = bytes[place] ?? 0;
    value += (byte % CONTINUES) * scale;
    if (byte < CONTINUES) return value;
    scale *= 1 << PAYLOAD_BITS;
  }
}

/** Past the end for a varint that has none. */
function afterVarint(bytes: Buffer, start: number): number {
  let place = start;
  while ((bytes[place] ?? 0) >= CONTINUES) place += 1;
  return place + 1;
}
