/** Services of generated descriptors on a gRPC server: methods, errors, reflection. */
import {
  create,
  type DescFile,
  type DescMessage,
  type DescMethodClientStreaming,
  type DescMethodUnary,
  type DescService,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { type sendUnaryData, type Server, type ServerReadableStream, status } from "@grpc/grpc-js";
import { ReflectionService } from "@grpc/reflection";
import { asError, MeshError } from "../../lib/errors.js";
import type { Logger } from "../../lib/logger.js";
import { Refusal } from "./faults.js";

const MAX_DETAILS_LENGTH = 1_000;

/** Serves a method by a function. What it throws becomes the call's status: a Refusal's own, UNAVAILABLE for a MeshError. */
export function serveUnary<I extends DescMessage, O extends DescMessage>(
  server: Server,
  method: DescMethodUnary<I, O>,
  logger: Logger,
  answer: (request: MessageShape<I>) => Promise<MessageInitShape<O>> | MessageInitShape<O>,
): void {
  server.register<MessageShape<I>, MessageShape<O>>(
    pathOf(method),
    (call: { readonly request: MessageShape<I> }, callback: sendUnaryData<MessageShape<O>>) => {
      void respond(method, logger, callback, async () => answer(call.request));
    },
    (response) => Buffer.from(toBinary(method.output, response)),
    (bytes) => fromBinary(method.input, bytes),
    "unary",
  );
}

/** As serveUnary, for what a client sends in pieces. A call that its client gave up is never answered. */
export function serveClientStream<I extends DescMessage, O extends DescMessage>(
  server: Server,
  method: DescMethodClientStreaming<I, O>,
  logger: Logger,
  answer: (requests: AsyncIterable<MessageShape<I>>) => Promise<MessageInitShape<O>>,
): void {
  server.register<MessageShape<I>, MessageShape<O>>(
    pathOf(method),
    (call: ServerReadableStream<MessageShape<I>, MessageShape<O>>, callback: sendUnaryData<MessageShape<O>>) => {
      // Without this the pieces of a client that went away would be waited for. `answer` hears of it as it reads.
      call.once("cancelled", () => call.destroy(new Refusal(status.CANCELLED, "the client gave the call up")));
      call.on("error", () => undefined);
      void respond(method, logger, callback, () => answer(call as AsyncIterable<MessageShape<I>>));
    },
    (response) => Buffer.from(toBinary(method.output, response)),
    (bytes) => fromBinary(method.input, bytes),
    "clientStream",
  );
}

async function respond<I extends DescMessage, O extends DescMessage>(
  method: DescMethodUnary<I, O> | DescMethodClientStreaming<I, O>,
  logger: Logger,
  callback: sendUnaryData<MessageShape<O>>,
  answer: () => Promise<MessageInitShape<O>>,
): Promise<void> {
  try {
    callback(null, create(method.output, await answer()));
  } catch (thrown) {
    const refusal = refusalOf(thrown);
    const subject = { method: method.name, code: status[refusal.code], reason: refusal.message };
    if (refusal.code === status.INTERNAL) logger.error(subject, "a call of the copilot API failed");
    else if (refusal.code === status.UNKNOWN) logger.debug(subject, "DNS asked for a name that is no route's");
    else logger.info(subject, "a call of the copilot API was refused");
    callback({ code: refusal.code, details: detailsOf(refusal) });
  }
}

function refusalOf(thrown: unknown): Refusal {
  if (thrown instanceof Refusal) return thrown;
  if (thrown instanceof MeshError) return new Refusal(status.UNAVAILABLE, thrown.message, { cause: thrown });
  return new Refusal(status.INTERNAL, asError(thrown).message, { cause: thrown });
}

/** They go as an HTTP/2 header, which no peer takes at any length: the call would never end. */
function detailsOf({ message }: Refusal): string {
  if (message.length <= MAX_DETAILS_LENGTH) return message;
  // By way of bytes: half of a surrogate pair at the cut can't be sent.
  return `${Buffer.from(message.slice(0, MAX_DETAILS_LENGTH)).toString()}...`;
}

function pathOf({ parent, name }: { readonly parent: DescService; readonly name: string }): string {
  return `/${parent.typeName}/${name}`;
}

/** Lets clients such as grpcurl ask a server what it serves. */
export function serveReflection(server: Server, service: DescService): void {
  const fileDescriptorProtos = filesOf(service.file).map((file) =>
    Buffer.from(toBinary(FileDescriptorProtoSchema, file.proto)),
  );
  // Reflection reads the files alone; of the kinds of definition, an enum's needs nothing more.
  const definition = { format: "Protocol Buffer 3 EnumDescriptorProto" as const, type: {}, fileDescriptorProtos };
  new ReflectionService({ [service.typeName]: definition }, { services: [service.typeName] }).addToServer(server);
}

/** A file and all that it refers to. */
function filesOf(file: DescFile): readonly DescFile[] {
  return [...new Set([...file.dependencies.flatMap(filesOf), file])];
}
