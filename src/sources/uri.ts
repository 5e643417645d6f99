/** URIs of registrations: a host and a path, without a scheme. */

/** Where requests come in: the host in lower case, "*.example.com" for a wildcard; the path "" or with "/" at its begin only. */
export interface UriPlace {
  readonly host: string;
  readonly path: string;
}

const MAX_HOST = 253;
const MAX_PATH = 2_048;
/** A wildcard stands for all of the leftmost words, and for nothing else. */
const HOST = /^(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*$/;
/** Neither blanks nor control characters, nor what belongs to other parts of a URI. */
const PATH = /^(?:\/[^\s#\u0000-\u001f\u007f]*)?$/u;

/** As Gorouter reads it: the query dropped, and slashes at the end. undefined when it has no host that requests could name. */
export function placeOfUri(uri: string): UriPlace | undefined {
  const query = uri.indexOf("?");
  const bare = query < 0 ? uri : uri.slice(0, query);
  const slash = bare.indexOf("/");
  const host = (slash < 0 ? bare : bare.slice(0, slash)).toLowerCase();
  const path = slash < 0 ? "" : withoutSlashAtEnd(bare.slice(slash));
  return host.length <= MAX_HOST && path.length <= MAX_PATH && HOST.test(host) && PATH.test(path)
    ? { host, path }
    : undefined;
}

function withoutSlashAtEnd(path: string): string {
  let end = path.length;
  while (path[end - 1] === "/") end -= 1;
  return path.slice(0, end);
}
