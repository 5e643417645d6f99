/**
 * A program: an emulated foundation with two apps that run and so many routes to apps that do not (`process.argv`: a
 * directory, the number, and the URL of a NATS server when routes are to be registered there). Prints how it is reached
 * as JSON on one line, and serves until SIGTERM.
 */
import { randomUUID } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { stopSignal } from "../src/cli/stop-signals.js";
import { createCertificates } from "../src/emulator/certificates.js";
import { startDiego } from "../src/emulator/diego/emulated-diego.js";
import { type Foundation, type FoundationOptions, startFoundation } from "../src/emulator/foundation.js";
import { FoundationFiles } from "../src/emulator/persistence/foundation-files.js";
import { silentLogger } from "../src/lib/logger.js";

/** What the program prints. */
export interface BenchFoundation {
  readonly apiUrl: string;
  readonly clientId: string;
  readonly clientSecret: string;
  /** For the Authorization header of an admin. */
  readonly token: string;
  /** Guids of the apps that run. */
  readonly apps: readonly [string, string];
  /** A section of the configuration. */
  readonly diego: object;
}

export const FOUNDATION_DOMAIN = "apps.example.com";
const SAMPLE_APP = fileURLToPath(new URL("../src/emulator/sample-app/main.js", import.meta.url));

async function main(home: string, routeCount: number, natsUrl: string | undefined): Promise<void> {
  const certificates = await createCertificates();
  const diego = await startDiego({ host: "127.0.0.1", bbsPort: 0, certificates, logger: silentLogger });
  const options: FoundationOptions = {
    ...(natsUrl !== undefined && { nats: { servers: [natsUrl] } }),
    appDomains: [FOUNDATION_DOMAIN],
    diego,
    dataDirectory: join(home, "foundation"),
    droplets: [
      { name: "sample", command: [process.execPath, SAMPLE_APP, "hello"], workingDirectory: dirname(SAMPLE_APP) },
    ],
    logger: silentLogger,
  };
  const first = await startFoundation(options);
  const apps = [await pushed(first, "one"), await pushed(first, "two")] as const;
  await first.close();
  await fill(join(home, "foundation"), routeCount);
  const foundation = await startFoundation(options);

  const files = { caFile: join(home, "ca"), certificateFile: join(home, "certificate"), keyFile: join(home, "key") };
  await writeFile(files.caFile, certificates.ca);
  await writeFile(files.certificateFile, certificates.client.certificate);
  await writeFile(files.keyFile, certificates.client.key, { mode: 0o600 });
  const { apiUrl, clientId, clientSecret } = foundation;
  const token = await foundation.adminToken();
  const shown: BenchFoundation = {
    apiUrl,
    clientId,
    clientSecret,
    token,
    apps,
    diego: { urls: [diego.bbsUrl], ...files },
  };
  process.stdout.write(`${JSON.stringify(shown)}\n`);
  await stopSignal();
  await foundation.close();
  await diego.close();
}

async function pushed(foundation: Foundation, name: string): Promise<string> {
  return (await foundation.pushSample(name, "sample", { instances: 1 })).guid;
}

/** Adds routes, each with an app of its own that is stopped, to what the foundation will start with. */
async function fill(directory: string, routeCount: number): Promise<void> {
  const files = await FoundationFiles.open(directory);
  const { state, secrets } = files;
  const [app] = state?.apps ?? [];
  const [process] = state?.processes ?? [];
  const domain = state?.domains.find(({ name }) => name === FOUNDATION_DOMAIN);
  if (!state || !secrets || !app || !process || !domain) throw new Error("the foundation did not keep its state");
  const metadata = { labels: {}, annotations: {} };
  const indexes = Array.from({ length: routeCount }, (_, index) => index);
  // Half a second apart from each other, as if they had come one by one.
  const times = (index: number) => {
    const createdAt = app.createdAt - (routeCount - index) / 2;
    return { createdAt: Math.floor(createdAt), updatedAt: Math.floor(createdAt) };
  };
  const guids = indexes.map(() => ({ app: randomUUID(), route: randomUUID() }));
  const filled = guids.map((guid, index) => {
    const common = { metadata, ...times(index) };
    const name = `app-${index}`;
    return {
      app: { ...app, ...common, guid: guid.app, name, state: "STOPPED" as const },
      process: { ...process, ...common, guid: guid.app, appGuid: guid.app },
      route: {
        ...{ ...common, guid: guid.route, host: name, path: "", port: null },
        ...{ spaceGuid: app.spaceGuid, domainGuid: domain.guid, options: {} },
      },
      destination: {
        ...{ ...times(index), guid: randomUUID(), routeGuid: guid.route, appGuid: guid.app },
        ...{ processType: "web", port: 8080, weight: null, protocol: "http1" as const },
      },
    };
  });
  await files.save(
    {
      ...state,
      apps: [...state.apps, ...filled.map((one) => one.app)],
      processes: [...state.processes, ...filled.map((one) => one.process)],
      routes: [...state.routes, ...filled.map((one) => one.route)],
      destinations: [...state.destinations, ...filled.map((one) => one.destination)],
    },
    secrets,
  );
}

const [, program, home = "", routeCount = "", natsUrl] = process.argv;
if (program === fileURLToPath(import.meta.url)) await main(home, Number(routeCount), natsUrl);
