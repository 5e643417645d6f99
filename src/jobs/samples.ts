/** The sample apps and routes of a laptop, made the way a developer makes them: through Cloud Controller's API. */
import { z } from "zod";
import type { Foundation } from "../emulator/foundation.js";

export interface LaptopApp {
  readonly name: string;
  readonly guid: string;
  readonly isStarted: boolean;
  /** Its share in percent; undefined where none is said. */
  readonly weight: number | undefined;
}

export interface LaptopRoute {
  readonly guid: string;
  /** Host and path: "greet.mesh.localhost/es". */
  readonly url: string;
  /** In the order of their names. */
  readonly apps: readonly LaptopApp[];
}

interface Destination {
  readonly app: { readonly guid: string };
  readonly weight?: number;
}

/** Two apps, and five routes on `domain`; one of them splits its traffic 90:10. */
export async function pushSamples(foundation: Foundation, api: LaptopApi, domain: string): Promise<void> {
  const push = async (name: "hello" | "hola") => ({
    app: { guid: (await foundation.pushSample(name, name, { instances: 1 })).guid },
  });
  const [hello, hola] = await Promise.all([push("hello"), push("hola")]);
  const domainGuid = await api.guidOf(`/v3/domains?names=${encodeURIComponent(domain)}`);
  const spaceGuid = await api.guidOf("/v3/spaces?names=dev");

  async function route(host: string, path: string, destinations: readonly Destination[], on = domainGuid) {
    const guid = await api.create("/v3/routes", {
      host,
      ...(path !== "" && { path }),
      relationships: { space: { data: { guid: spaceGuid } }, domain: { data: { guid: on } } },
    });
    await api.patch(`/v3/routes/${guid}/destinations`, { destinations });
  }
  // A host of Cloud Controller is one word, or "*".
  const wildDomainGuid = await api.create("/v3/domains", { name: `wild.${domain}` });
  await route("hello", "", [hello]);
  await route("hola", "", [hola]);
  await route("greet", "", [
    { ...hello, weight: 90 },
    { ...hola, weight: 10 },
  ]);
  await route("greet", "/es", [hola]);
  await route("*", "", [hello], wildDomainGuid);
}

const ResourceSchema = z.object({ guid: z.string() });
const ListSchema = z.object({ resources: z.array(ResourceSchema).min(1) });
const AppsSchema = z.object({
  resources: z.array(z.object({ guid: z.string(), name: z.string(), state: z.enum(["STARTED", "STOPPED"]) })),
});
const RoutesSchema = z.object({
  resources: z.array(
    z.object({
      guid: z.string(),
      url: z.string(),
      destinations: z.array(z.object({ app: ResourceSchema, weight: z.number().nullish() })),
    }),
  ),
});

/** More than a laptop has: the largest page. */
const PAGE = "per_page=5000";

/** As much of a Cloud Controller client as a laptop's own start needs. */
export class LaptopApi {
  readonly #url: string;
  readonly #token: string;

  /** `token` as the Authorization header has it. */
  constructor(url: string, token: string) {
    this.#url = url;
    this.#token = token;
  }

  /** All routes that lead to an app, in the order in which they were made. */
  async routes(): Promise<readonly LaptopRoute[]> {
    const apps = AppsSchema.parse(await this.#call("GET", `/v3/apps?${PAGE}`)).resources;
    const appsByGuid = new Map(apps.map((app) => [app.guid, app]));
    const { resources } = RoutesSchema.parse(await this.#call("GET", `/v3/routes?${PAGE}`));
    return resources.flatMap(({ guid, url, destinations }) => {
      const reached = destinations.flatMap(({ app: { guid: appGuid }, weight }) => {
        const app = appsByGuid.get(appGuid);
        if (!app) return [];
        return [{ name: app.name, guid: appGuid, isStarted: app.state === "STARTED", weight: weight ?? undefined }];
      });
      reached.sort((a, b) => (a.name < b.name ? -1 : 1));
      return reached.length > 0 ? [{ guid, url, apps: reached }] : [];
    });
  }

  /** Of the first resource of a list. */
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
