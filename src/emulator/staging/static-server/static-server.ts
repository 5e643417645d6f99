/** Serves the files of one folder over HTTP. */
import { createReadStream } from "node:fs";
import { realpath, stat } from "node:fs/promises";
import { extname, join, sep } from "node:path";
import { fastify, type FastifyInstance, type FastifyReply, type FastifyRequest } from "fastify";

export interface FolderOptions {
  /** Answers with index.html where no file is: for apps that route in the browser. */
  readonly pushstate: boolean;
}

const CLOSE_SWEEP_MS = 50;

const MEDIA_TYPES: Readonly<Record<string, string>> = {
  ".avif": "image/avif",
  ".css": "text/css; charset=utf-8",
  ".csv": "text/csv; charset=utf-8",
  ".gif": "image/gif",
  ".htm": "text/html; charset=utf-8",
  ".html": "text/html; charset=utf-8",
  ".ico": "image/x-icon",
  ".jpeg": "image/jpeg",
  ".jpg": "image/jpeg",
  ".js": "text/javascript; charset=utf-8",
  ".json": "application/json",
  ".map": "application/json",
  ".mjs": "text/javascript; charset=utf-8",
  ".mp4": "video/mp4",
  ".pdf": "application/pdf",
  ".png": "image/png",
  ".svg": "image/svg+xml",
  ".txt": "text/plain; charset=utf-8",
  ".wasm": "application/wasm",
  ".webmanifest": "application/manifest+json",
  ".webp": "image/webp",
  ".woff": "font/woff",
  ".woff2": "font/woff2",
  ".xml": "application/xml",
};

/**
 * GET and HEAD of the folder's files, with ETag and Last-Modified; a folder answers with its index.html. Names that
 * begin with a dot, and links that lead out of the folder, are not there. The caller listens, and closes.
 */
export async function serveFolder(folder: string, options: FolderOptions): Promise<FastifyInstance> {
  const root = await realpath(folder);
  const server = fastify({ forceCloseConnections: "idle" });
  server.addHook("preClose", (done) => {
    // A connection that was busy at first would stay open for its whole keep-alive time otherwise.
    const sweep = setInterval(() => server.server.closeIdleConnections(), CLOSE_SWEEP_MS);
    server.server.once("close", () => clearInterval(sweep));
    done();
  });
  server.get("/*", async (request, reply) => {
    const path = pathOf(request);
    const found =
      (path === undefined ? undefined : await find(root, path)) ??
      (options.pushstate ? await find(root, "/index.html") : undefined);
    if (found === undefined) return reply.status(404).type("text/plain; charset=utf-8").send("Not Found\n");
    if (found.kind === "folder") return reply.redirect(`${path ?? ""}/`, 301);
    return sendFile(request, reply, found);
  });
  return await server;
}

type Found =
  | { readonly kind: "folder" }
  | { readonly kind: "file"; readonly path: string; readonly size: number; readonly modified: Date };

/** Decoded; undefined for a text that is no path. */
function pathOf(request: FastifyRequest): string | undefined {
  try {
    // Redirects repeat the path, and two slashes would begin another host.
    const path = decodeURIComponent(request.url.replace(/\?.*$/s, "")).replace(/^\/+/, "/");
    return path.includes("\0") || /(^|\/)\./.test(path) ? undefined : path;
  } catch {
    return undefined;
  }
}

async function find(root: string, path: string): Promise<Found | undefined> {
  const name = path.endsWith("/") ? `${path}index.html` : path;
  const real = await realpath(join(root, name)).catch(() => undefined);
  if (real === undefined || (real !== root && !real.startsWith(`${root}${sep}`))) return undefined;
  const { isDirectory, size, mtime } = await stat(real).then((stats) => ({
    isDirectory: stats.isDirectory(),
    size: stats.size,
    mtime: stats.mtime,
  }));
  if (!isDirectory) return { kind: "file", path: real, size, modified: mtime };
  return (await find(root, `${name}/`)) === undefined ? undefined : { kind: "folder" };
}

function sendFile(
  request: FastifyRequest,
  reply: FastifyReply,
  { path, size, modified }: Found & { kind: "file" },
): FastifyReply {
  const tag = `"${size.toString(16)}-${modified.getTime().toString(16)}"`;
  reply.header("etag", tag).header("last-modified", modified.toUTCString());
  if (request.headers["if-none-match"]?.split(/\s*,\s*/).includes(tag)) return reply.status(304).send();
  reply.type(MEDIA_TYPES[extname(path).toLowerCase()] ?? "application/octet-stream").header("content-length", size);
  return reply.send(createReadStream(path));
}
