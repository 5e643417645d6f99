import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { encodeProcess, encodeRoute } from "../../src/entries/entries.js";
import { eventually } from "../support/eventually.js";
import { startTestRouter, type TestRouter } from "../support/router.js";

const HOST = "logged.example.com";
const APP = "4b0ba04e-cd4b-4a2c-8f4c-3f6b2f8ba2d6";
const INSTANCE = "f65a2d3e-7d52-4d07-5b61-5f7a";

describe("the access log", () => {
  let mesh: TestRouter;
  let directory: string;
  let file: string;
  let app: Server;
  let appPort: number;

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "cf-mesh-"));
    file = join(directory, "access.log");
    app = createServer((request, response) => {
      request.resume();
      request.on("end", () => response.end("four"));
    });
    app.listen(0, "127.0.0.1");
    await once(app, "listening");
    appPort = (app.address() as AddressInfo).port;
    mesh = await startTestRouter({ config: () => ({ accessLog: { file, extraHeaders: ["X-Extra"] } }) });
    await serve(mesh);
  });
  afterAll(async () => {
    await mesh.stop();
    app.close();
    app.closeAllConnections();
    await rm(directory, { recursive: true, force: true });
  });

  async function serve(router: TestRouter): Promise<void> {
    await router.log.append([
      {
        key: "route.cc.logged",
        value: encodeRoute({
          guid: "logged",
          host: HOST,
          destinations: [{ processGuid: "web", appGuid: APP, port: 8080, protocol: "http1" }],
        }),
      },
      {
        key: "process.bbs.web",
        value: encodeProcess({
          processGuid: "web",
          appGuid: APP,
          instances: [
            { guid: INSTANCE, index: 3, address: "127.0.0.1", ports: [{ containerPort: 8080, hostPort: appPort }] },
          ],
        }),
      },
    ]);
    await eventually(async () => (await router.client.get(HOST)).status === 200);
  }

  /** The line of the request whose URI has this in it. */
  async function lineOf(mark: string, path = file): Promise<string> {
    return eventually(async () => {
      const lines = (await readFile(path, "utf8").catch(() => "")).split("\n");
      return lines.find((line) => line.includes(mark));
    });
  }

  it("has Gorouter's line of a request, byte for byte", async () => {
    await mesh.client.get(HOST, "/orders?id=7", {
      method: "POST",
      body: "sixteen letters!",
      headers: { "user-agent": 'a "browser"', referer: "http://there/", "x-extra": "more" },
    });
    const line = await lineOf("/orders");
    expect(line).toMatch(
      new RegExp(
        [
          `^${HOST} - \\[\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d\\.\\d{9}Z\\] "POST /orders\\?id=7 HTTP/1\\.1" 200 16 4`,
          `"http://there/" "a \\\\"browser\\\\"" "127\\.0\\.0\\.1:\\d+" "127\\.0\\.0\\.1:${appPort}"`,
          `x_forwarded_for:"[^"]+" x_forwarded_proto:"http" vcap_request_id:"-"`,
          `response_time:0\\.\\d{6} gorouter_time:0\\.\\d{6} app_id:"-" app_index:"-" instance_id:"-"`,
          `x_cf_routererror:"-" x_extra:"more"$`,
        ].join(" "),
      ),
    );
  });
});
