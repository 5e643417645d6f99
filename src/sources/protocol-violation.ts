/** Bytes that break a protocol. The edge that knows whom they come from turns it into a MeshError. */
export class ProtocolViolation extends Error {
  override readonly name = "ProtocolViolation";
}
