import type { Dev } from "../jobs/dev.js";

export interface IntroductionContext {
  readonly host: string;
  readonly port: number;
  readonly apiPort: number;
  readonly domain: readonly string[];
  readonly logFile: string;
  readonly tookMs: number;
}

/** What a newcomer sees when all of it serves: where it is, and three commands to try. */
export async function introduction(dev: Dev, context: IntroductionContext): Promise<string> {
  const { host, port, apiPort } = context;
  const token = await dev.foundation.adminToken();
  const split = dev.routes.find(({ apps }) => apps.length > 1);
  if (!split) throw new Error("one of the sample routes is split");
  const destinations = split.apps.map(({ guid }) => ({ app: { guid }, weight: 50 }));
  const routes = dev.routes.map(({ url, apps }) => {
    const shares = apps.map(({ name, weight }) => (weight === undefined ? name : `${name} ${weight} %`));
    return `    http://${withPort(url, port)}`.padEnd(52) + shares.join(", ");
  });
  // One connection, a hundred requests.
  const requests = `curl -s "http://${withPort(split.url, port)}/?[1-100]" | grep -o '"app":"[^"]*"' | sort | uniq -c`;
  return `
ready in ${(context.tookMs / 1_000).toFixed(1)} s

  Router              http://${host}:${port}
  Cloud Controller    http://${host}:${apiPort}
  Envoy admin         curl --unix-socket ${dev.adminSocketPath} http://envoy/clusters
  Domains             ${context.domain.join(", ")}
  Log                 ${context.logFile}

  Routes
${routes.join("\n")}

  For curl
    export CF_TOKEN='Authorization: ${token}'

  Try
    1. send 100 requests:
       ${requests}
    2. change the weights (here to 50:50):
       curl -s -X PATCH -H "$CF_TOKEN" http://${host}:${apiPort}/v3/routes/${split.guid}/destinations -d '${JSON.stringify({ destinations })}'
    3. send them again, and watch the share move:
       ${requests}

  Ctrl-C stops all of it.
`;
}

/** "greet.mesh.localhost:8080/es" of "greet.mesh.localhost/es"; a wildcard under a name that it matches. */
function withPort(url: string, port: number): string {
  const [host = "", ...path] = url.replace("*", "any").split("/");
  return [`${host}:${port}`, ...path].join("/");
}
