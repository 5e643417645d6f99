import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { FastifyInstance } from "fastify";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { serveFolder } from "./static-server.js";

describe("the static server", () => {
  let root: string;
  let server: FastifyInstance;
  let url: string;
  beforeAll(async () => {
    root = await mkdtemp(join(tmpdir(), "cf-mesh-static-"));
    const site = join(root, "site");
    await mkdir(join(site, "docs"), { recursive: true });
    await mkdir(join(site, "empty"));
    await writeFile(join(root, "secret.txt"), "secret");
    await writeFile(join(site, "index.html"), "<h1>home</h1>");
    await writeFile(join(site, "docs", "index.html"), "docs");
    await writeFile(join(site, "a b.css"), "body {}");
    await writeFile(join(site, ".env"), "hidden");
    await symlink(join(root, "secret.txt"), join(site, "out.txt"));
    server = await serveFolder(site, { pushstate: false });
    url = await server.listen({ host: "127.0.0.1", port: 0 });
  });
  afterAll(async () => {
    await server.close();
    await rm(root, { recursive: true, force: true });
  });

  const get = (path: string, init: RequestInit = {}) => fetch(`${url}${path}`, { redirect: "manual", ...init });

  it("answers with files, their media types and sizes, and with a folder's index.html", async () => {
    const home = await get("/");
    expect([home.status, home.headers.get("content-type"), await home.text()]).toEqual([
      200,
      "text/html; charset=utf-8",
      "<h1>home</h1>",
    ]);
    const style = await get("/a%20b.css?v=1");
    expect([style.headers.get("content-type"), style.headers.get("content-length")]).toEqual([
      "text/css; charset=utf-8",
      "7",
    ]);
    const folder = await get("/docs");
    expect([folder.status, folder.headers.get("location")]).toEqual([301, "/docs/"]);
    expect(await (await get("/docs/")).text()).toBe("docs");
  });

  it("answers 304 to a client that has the file, and HEAD without a body", async () => {
    const tag = (await get("/")).headers.get("etag") ?? "";
    expect((await get("/", { headers: { "if-none-match": tag } })).status).toBe(304);
    const head = await get("/", { method: "HEAD" });
    expect([head.status, head.headers.get("content-length"), await head.text()]).toEqual([200, "13", ""]);
  });

  it.each(["/nothing", "/.env", "/out.txt", "/%2e%2e/secret.txt", "/..%2fsecret.txt", "/empty", "/%00", "/%zz"])(
    "has nothing at %s",
    async (path) => {
      expect((await get(path)).status).toBeGreaterThanOrEqual(400);
      expect(await (await get(path)).text()).not.toContain("secret");
    },
  );

  it("answers with index.html everywhere for apps that route in the browser", async () => {
    const spa = await serveFolder(join(root, "site"), { pushstate: true });
    const address = await spa.listen({ host: "127.0.0.1", port: 0 });
    expect(await (await fetch(`${address}/any/where`)).text()).toBe("<h1>home</h1>");
    await spa.close();
  });
});
