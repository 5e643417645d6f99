/**
 * A program: the apps behind the routes. Four listeners on free ports of loopback, of which the first answers every request
 * with "1", the second with "2" and so on; prints their ports as a JSON array on one line. Knows requests without a body only.
 */
import { once } from "node:events";
import { createServer, type AddressInfo } from "node:net";

const END_OF_HEAD = "\r\n\r\n";

async function listen(body: string): Promise<number> {
  const answer = `HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: ${body.length}${END_OF_HEAD}${body}`;
  const server = createServer({ noDelay: true }, (socket) => {
    let rest = "";
    socket.setEncoding("latin1");
    socket.on("data", (text: string) => {
      const requests = (rest + text).split(END_OF_HEAD);
      rest = requests.pop() ?? "";
      if (requests.length > 0) socket.write(answer.repeat(requests.length));
    });
    // A proxy that is stopped resets its connections.
    socket.on("error", () => socket.destroy());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return (server.address() as AddressInfo).port;
}

process.stdout.write(`${JSON.stringify(await Promise.all(["1", "2", "3", "4"].map(listen)))}\n`);
