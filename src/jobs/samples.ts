/** The sample apps and routes of a laptop, made the way a developer makes them: through Cloud Controller's API. */
import { request } from "node:http";
import { setTimeout as delay } from "node:timers/promises";
import { z } from "zod";
import type { Foundation } from "../emulator/foundation.js";

export interface SampleApp {
  readonly name: string;
  readonly guid: string;
  readonly weight?: number;
}

export interface SampleRoute {
  readonly guid: string;
  /** Host and path: "greet.mesh.localhost/es". */
  readonly url: string;
  readonly apps: readonly SampleApp[];
}

/** Pause between attempts while the first answer is waited for. */
const ATTEMPT_PAUSE_MS = 50;

/** Two apps, and five routes on `domain`; one of them splits its traffic 90:10. */
export async function pushSamples(foundation: Foundation, domain: string): Promise<readonly SampleRoute[]> {
  const [hello, hola] = await Promise.all([pushSample(foundation, "hello"), pushSample(foundation, "hola")]);
  const api = new Api(foundation.apiUrl, await foundation.adminToken());
  const domainGuid = await api.guidOf(`/v3/domains?names=${encodeURIComponent(domain)}`);
  const spaceGuid = await api.guidOf("/v3/spaces?names=dev");

  async function route(
    host: string,
    path: string,
    apps: readonly SampleApp[],
    on = { guid: domainGuid, name: domain },
  ): Promise<SampleRoute> {
    const guid = await api.create("/v3/routes", {
      host,
      ...(path !== "" && { path }),
      relationships: { space: { data: { guid: spaceGuid } }, domain: { data: { guid: on.guid } } },
    });
    const destinations = apps.map((app) => ({ app: { guid: app.guid }, weight: app.weight }));
    await api.patch(`/v3/routes/${guid}/destinations`, { destinations });
    return { guid, url: `${host}.${on.name}${path}`, apps };
  }
  // A host of Cloud Controller is one word, or "*".
  const wild = { name: `wild.${domain}`, guid: await api.create("/v3/domains", { name: `wild.${domain}` }) };
  return [
    await route("hello", "", [hello]),
    await route("hola", "", [hola]),
    await route("greet", "", [
      { ...hello, weight: 90 },
      { ...hola, weight: 10 },
    ]),
    await route("greet", "/es", [hola]),
    await route("*", "", [hello], wild),
  ];
}

async function pushSample(foundation: Foundation, name: "hello" | "hola"): Promise<SampleApp> {
  const { guid } = await foundation.pushSample(name, name, { instances: 1 });
  return { name, guid };
}

/** Resolves when the route answers 200 through the router; rejects when the signal aborts. */
export async function firstAnswer(host: string, port: number, url: string, signal: AbortSignal): Promise<void> {
  // A wildcard host is asked for under some name below it.
  const [authority = "", ...path] = url.replace("*", "any").split("/");
  for (;;) {
    signal.throwIfAborted();
    if ((await statusOf(host, port, authority, `/${path.join("/")}`)) === 200) return;
    await delay(ATTEMPT_PAUSE_MS, undefined, { signal });
  }
}

/** 0 when there is no answer. */
function statusOf(host: string, port: number, authority: string, path: string): Promise<number> {
  return new Promise((resolve) => {
    const call = request({ host, port, path, headers: { host: authority } }, (response) => {
      response.resume();
      response.once("end", () => resolve(response.statusCode ?? 0));
    });
    call.once("error", () => resolve(0));
    call.end();
  });
}

const ResourceSchema = z.object({ guid: z.string() });
const ListSchema = z.object({ resources: z.array(ResourceSchema).min(1) });

/** As much of a Cloud Controller client as the samples need. */
class Api {
  readonly #url: string;
  readonly #token: string;

  constructor(url: string, token: string) {
    this.#url = url;
    this.#token = token;
  }

  /** Of the only resource that a list holds. */
  async guidOf(path: string): Promise<string> {
    const { resources } = ListSchema.parse(await this.#call("GET", path));
    return resources[0]?.guid ?? "";
  }

  /** The guid of what was made. */
  async create(path: string, body: unknown): Promise<string> {
    return ResourceSchema.parse(await this.#call("POST", path, body)).guid;
  }

  async patch(path: string, body: unknown): Promise<void> {
    await this.#call("PATCH", path, body);
  }

  async #call(method: string, path: string, body?: unknown): Promise<unknown> {
    const response = await fetch(this.#url + path, {
      method,
      headers: { authorization: this.#token, "content-type": "application/json" },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: status ${response.status}: ${text}`);
    return JSON.parse(text);
  }
}
