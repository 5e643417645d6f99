import { chmod, rm } from "node:fs/promises";
import { type Server, ServerCredentials } from "@grpc/grpc-js";

/** Has a gRPC server listen on a unix socket, for this user alone; one that was left behind there goes. */
export async function listenOnSocket(server: Server, socketPath: string): Promise<void> {
  await rm(socketPath, { force: true });
  await new Promise<void>((resolve, reject) => {
    server.bindAsync(`unix:${socketPath}`, ServerCredentials.createInsecure(), (error) =>
      error ? reject(error) : resolve(),
    );
  });
  await chmod(socketPath, 0o600);
}
