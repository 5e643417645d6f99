import { lookup } from "node:dns/promises";
import type { Dev } from "../jobs/dev.js";
import type { LaptopFoundation } from "../jobs/dev-foundation.js";
import type { LaptopRoute } from "../jobs/samples.js";
import type { StateDirectory } from "../jobs/state-directory.js";

export interface IntroductionContext {
  readonly host: string;
  readonly port: number;
  readonly apiPort: number;
  readonly domain: readonly string[];
  readonly systemDomain: string;
  /** The state directory's. */
  readonly path: string;
  readonly state: StateDirectory;
}

/** How many routes are listed: a screen has to hold the rest too. */
const LISTED_ROUTE_COUNT = 10;

const LOGIN = "cf login -u admin -p admin -o laptop -s dev";

/** What a newcomer sees when all of it serves: where it is, and what to try, with the cf CLI and with curl. */
export async function introduction(dev: Dev, context: IntroductionContext): Promise<string> {
  const { host, port, apiPort, systemDomain, domain, path, state } = context;
  const split = dev.routes.find(({ apps }) => apps.length === 2 && apps.every(({ weight }) => weight !== undefined));
  return [
    facts([
      ["Router", `http://${host}:${port}`],
      [
        "Cloud Controller",
        `http://api.${systemDomain}:${port} through the router, or http://${host}:${apiPort} itself`,
      ],
      ["User", "admin, password admin; organization laptop, space dev"],
      ["Domains", domain.join(", ")],
      [
        "Envoy",
        `process ${dev.mesh.router?.envoy.pid ?? "?"}; curl --unix-socket ${dev.adminSocketPath} http://envoy/clusters`,
      ],
      ["Status, faults", `npx cf-mesh status -d ${path}; npx cf-mesh fault list -d ${path}`],
      ["Log", state.logFile],
    ]),
    section("Routes", routeLines(dev.routes, port)),
    section("With the cf CLI", [
      ...(await proxyLines(systemDomain, host, port)),
      `cf api http://api.${systemDomain}:${port}`,
      LOGIN,
      "cf push my-app                      # in an app's folder; cf apps, cf logs, cf scale, cf map-route …",
      ...(split ? [`cf curl -X PATCH ${destinationsPath(split)} -d '${halves(split)}'`] : []),
    ]),
    section("With curl", await curlLines(dev, context, split)),
    "  Ctrl-C stops all of it.\n",
  ].join("\n");
}

/** Where a foundation without a mesh is reached, by people and by a mesh. */
export function foundationIntroduction(laptop: LaptopFoundation, context: IntroductionContext): string {
  const { systemDomain, domain, path, state } = context;
  const { foundation, bbsUrl, natsUrl, natsUser, files } = laptop;
  const { apiUrl, policyServerUrl } = foundation;
  return [
    facts([
      ["Cloud Controller", `${apiUrl} (UAA as well)`],
      ["User", "admin, password admin; organization laptop, space dev"],
      ["UAA client", `${foundation.clientId}, its secret in ${files.clientSecret}`],
      ["BBS", bbsUrl],
      ["  CA", files.bbsCa],
      ["  certificate", files.bbsCertificate],
      ["  key", files.bbsKey],
      ["NATS", natsUrl],
      ["  user", `${natsUser}, its password in ${files.natsPassword}`],
      ["Policy server", `${policyServerUrl ?? "none"}, with the BBS's certificates`],
      ["Domains", `${domain.join(", ")}; system domain ${systemDomain}`],
      ["Faults", `npx cf-mesh fault list -d ${path}`],
      ["Log", state.logFile],
    ]),
    section("With the cf CLI", [`cf api ${apiUrl}`, LOGIN]),
    section("A mesh for it", [`npx cf-mesh up --config ${state.meshConfigFile}`]),
    "  Ctrl-C stops all of it.\n",
  ].join("\n");
}

function facts(lines: readonly (readonly [name: string, value: string])[]): string {
  return lines.map(([name, value]) => `  ${name.padEnd(20)}${value}\n`).join("");
}

function section(title: string, lines: readonly string[]): string {
  return [`  ${title}`, ...lines.map((line) => `    ${line}`), ""].join("\n");
}

function routeLines(routes: readonly LaptopRoute[], port: number): readonly string[] {
  if (routes.length === 0) return ["none yet"];
  const lines = routes.slice(0, LISTED_ROUTE_COUNT).map(({ url, apps }) => {
    const shares = apps.map(({ name, weight }) => (weight === undefined ? name : `${name} ${weight} %`));
    return `http://${withPort(url, port)}`.padEnd(48) + ` ${shares.join(", ")}`;
  });
  const more = routes.length - lines.length;
  return more > 0 ? [...lines, `and ${more} more: cf routes`] : lines;
}

/** Programs that ask the system's resolver find no name below localhost on many systems; curl needs no resolver. */
async function proxyLines(systemDomain: string, host: string, port: number): Promise<readonly string[]> {
  const address = await lookup(`api.${systemDomain}`, { family: 4 }).then(
    (found) => found.address,
    () => undefined,
  );
  if (address === host) return [];
  return [
    // Cloud Controller's own port lies at the same address, and is no route.
    `export http_proxy=http://${host}:${port} no_proxy=${host}   # for this shell: this machine's resolver does not know its names`,
  ];
}

async function curlLines(
  { laptop }: Dev,
  { host, port, apiPort, domain }: IntroductionContext,
  split: LaptopRoute | undefined,
): Promise<readonly string[]> {
  const unresolved = domain.find((name) => !name.endsWith(".localhost"));
  const asking =
    unresolved === undefined
      ? []
      : [`curl -H 'Host: my-app.${unresolved}' http://${host}:${port}/   # ${unresolved} has no address: say the host`];
  if (!split) return asking;
  // One connection, a hundred requests.
  const requests = `curl -s "http://${withPort(split.url, port)}/?[1-100]" | grep -o '"app":"[^"]*"' | sort | uniq -c`;
  return [
    ...asking,
    `export CF_TOKEN='Authorization: ${await laptop.foundation.adminToken()}'`,
    "1. send 100 requests:",
    `   ${requests}`,
    "2. change the weights (here to 50:50):",
    `   curl -s -X PATCH -H "$CF_TOKEN" http://${host}:${apiPort}${destinationsPath(split)} -d '${halves(split)}'`,
    "3. give it a second to be live, send them again, and see that the share moved:",
    `   sleep 1; ${requests}`,
  ];
}

const destinationsPath = ({ guid }: LaptopRoute) => `/v3/routes/${guid}/destinations`;

function halves({ apps }: LaptopRoute): string {
  return JSON.stringify({ destinations: apps.map(({ guid }) => ({ app: { guid }, weight: 50 })) });
}

/** "greet.mesh.localhost:8080/es" of "greet.mesh.localhost/es"; a wildcard under a name that it matches. */
function withPort(url: string, port: number): string {
  const [host = "", ...path] = url.replace("*", "any").split("/");
  return [`${host}:${port}`, ...path].join("/");
}
