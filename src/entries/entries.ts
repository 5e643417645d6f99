/** The words of the mesh log: messages of proto/mesh/v1/entries.proto, and how they are written as bytes. */
import { create, fromBinary, toBinary, type MessageInitShape } from "@bufbuild/protobuf";
import {
  type Association,
  AssociationSchema,
  type Destination,
  type Instance,
  InstanceState,
  type Port,
  type Process,
  ProcessSchema,
  type Registration,
  RegistrationSchema,
  type Route,
  type RouteOptions,
  RouteSchema,
  type Tag,
} from "../gen/mesh/v1/entries_pb.js";

export {
  type Association,
  type Destination,
  type Instance,
  InstanceState,
  type Port,
  type Process,
  type Registration,
  type Route,
  type RouteOptions,
  type Tag,
};
export type RouteInit = MessageInitShape<typeof RouteSchema>;
export type ProcessInit = MessageInitShape<typeof ProcessSchema>;
export type RegistrationInit = MessageInitShape<typeof RegistrationSchema>;
export type AssociationInit = MessageInitShape<typeof AssociationSchema>;

/** Equal entries give equal bytes: protobuf-es writes fields in the order of their numbers, and the messages hold no maps. */
export const encodeRoute = (route: RouteInit): Uint8Array => toBinary(RouteSchema, create(RouteSchema, route));
export const encodeProcess = (process: ProcessInit): Uint8Array =>
  toBinary(ProcessSchema, create(ProcessSchema, process));
export const encodeRegistration = (registration: RegistrationInit): Uint8Array =>
  toBinary(RegistrationSchema, create(RegistrationSchema, registration));
export const encodeAssociation = (association: AssociationInit): Uint8Array =>
  toBinary(AssociationSchema, create(AssociationSchema, association));

/** Throws when the bytes are no such message: a broken invariant, since only our writers write entries. */
export const decodeRoute = (bytes: Uint8Array): Route => fromBinary(RouteSchema, bytes);
export const decodeProcess = (bytes: Uint8Array): Process => fromBinary(ProcessSchema, bytes);
export const decodeRegistration = (bytes: Uint8Array): Registration => fromBinary(RegistrationSchema, bytes);
export const decodeAssociation = (bytes: Uint8Array): Association => fromBinary(AssociationSchema, bytes);
