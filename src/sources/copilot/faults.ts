/** What a call of the copilot API is refused with: a code of gRPC, and words that the client's developer reads. */
import { status } from "@grpc/grpc-js";

export class Refusal extends Error {
  override readonly name = "Refusal";
  readonly code: status;

  constructor(code: status, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

export const invalidArgument = (problem: string) => new Refusal(status.INVALID_ARGUMENT, problem);

export const undecodableBulk = (cause: Error) =>
  new Refusal(
    status.INVALID_ARGUMENT,
    `the chunks of this BulkSync are no BulkSyncRequest (${cause.message}); nothing was changed`,
    { cause },
  );

export const bulkTooLarge = (maxBytes: number) =>
  new Refusal(
    status.RESOURCE_EXHAUSTED,
    `the BulkSync calls that are under way would be larger than ${maxBytes} bytes together; nothing was changed`,
  );

export const vipTaken = (vip: string, holder: string) =>
  new Refusal(status.ALREADY_EXISTS, `vip ${vip} is route ${holder}'s; nothing was changed`);

export const vipsExhausted = (cidr: string) =>
  new Refusal(
    status.RESOURCE_EXHAUSTED,
    `every address of ${cidr} is some route's vip; nothing was changed: configure a larger copilot.vipCidr`,
  );

export const tooManyMappings = (routeGuid: string, most: number) =>
  new Refusal(status.RESOURCE_EXHAUSTED, `route ${routeGuid} has ${most} mappings, and takes no more`);

export const unknownName = (fqdn: string) => new Refusal(status.UNKNOWN, `route doesn't exist: ${fqdn}`);
