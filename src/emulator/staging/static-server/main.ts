/** The process of a static app: `node main.js FOLDER [--pushstate]`, listening on PORT. */
import { parseArgs } from "node:util";
import { serveFolder } from "./static-server.js";

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { pushstate: { type: "boolean", default: false } },
});
const server = await serveFolder(positionals[0] ?? ".", { pushstate: values.pushstate });
await server.listen({ host: process.env["CF_INSTANCE_INTERNAL_IP"] ?? "127.0.0.1", port: Number(process.env["PORT"]) });
process.once("SIGTERM", () => {
  void server.close();
});
