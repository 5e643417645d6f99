/** Reads of the Cloud Controller's API v3, with a token of the UAA. */
import type { Agent } from "undici";
import { z } from "zod";
import type { Clock } from "../../lib/clock.js";
import { exchange, type HttpAnswer } from "../http.js";
import { malformedAnswer, requestRefused } from "../http-faults.js";
import { Servers } from "../servers.js";
import { type NeededScope, TokenSource, type UaaClient } from "../uaa.js";
import { REMEDIES } from "./faults.js";
import type { RequestBudget } from "./request-budget.js";
import { type Page, PageSchema } from "./resources.js";
import { ServerClock } from "./server-clock.js";

/** undefined leaves a parameter out. */
export type Query = Readonly<Record<string, string | number | undefined>>;

export interface CcClientOptions {
  /** Of Cloud Controllers that stand in for each other; at least one. */
  readonly apiUrls: readonly string[];
  /** Likewise; from the links of GET / where left out. */
  readonly uaaUrls?: readonly string[];
  readonly uaaClient: Pick<UaaClient, "clientId" | "credentials">;
  readonly agent: Agent;
  readonly clock: Clock;
  readonly budget: RequestBudget;
}

/** A client with none of these gets lists of what its own roles show: to us they would look complete. */
const READ_ALL: NeededScope = {
  anyOf: ["cloud_controller.admin", "cloud_controller.admin_read_only", "cloud_controller.global_auditor"],
  without: "would see only a part of the routes",
  remedy: "give the client the authority cloud_controller.global_auditor (or cloud_controller.admin_read_only)",
};

const RootSchema = z.object({ links: z.object({ uaa: z.object({ href: z.url() }).nullish() }) });

export class CcClient {
  readonly #api: Servers;
  readonly #agent: Agent;
  readonly #tokens: TokenSource;
  readonly #budget: RequestBudget;
  readonly #serverClock: ServerClock;
  #uaa: Servers | undefined;

  constructor({ apiUrls, uaaUrls, uaaClient, agent, clock, budget }: CcClientOptions) {
    this.#api = new Servers(apiUrls);
    this.#uaa = uaaUrls && new Servers(uaaUrls);
    this.#agent = agent;
    this.#tokens = new TokenSource(agent, { ...uaaClient, needs: READ_ALL, remedies: REMEDIES }, clock);
    this.#budget = budget;
    this.#serverClock = new ServerClock(clock);
  }

  /** The Cloud Controller's time at its latest answer, Unix ms. Its clock is the one that stamps resources. */
  get serverMs(): number | undefined {
    return this.#serverClock.latestMs;
  }

  /** Reads GET /: where the UAA is, and what time it is there. Returns the UAA. Throws as exchange(). */
  async discover(signal: AbortSignal): Promise<Servers> {
    return this.#api.call(async (apiUrl) => {
      const server = nameOf(apiUrl);
      const answer = await this.#exchange(server, new URL(`${apiUrl}/`), {}, signal);
      if (!answer.ok) throw requestRefused(server, "GET /", answer.status, answer.detail, REMEDIES);
      const href = RootSchema.safeParse(answer.body).data?.links.uaa?.href;
      this.#uaa ??= href === undefined ? undefined : new Servers([href]);
      if (this.#uaa) return this.#uaa;
      throw malformedAnswer(server, "GET /", "no links.uaa.href; uaaUrl can say it instead");
    }, signal);
  }

  /**
   * One page of a list.
   *
   * Request  GET <api><path>?<query>.
   * Throws   as exchange(); MESH_SOURCE_REFUSED when a fresh token is refused too, or the query is;
   *          MESH_SOURCE_MALFORMED when the answer is no page.
   */
  async page(path: string, query: Query, signal: AbortSignal): Promise<Page> {
    const search = new URLSearchParams();
    for (const [name, value] of Object.entries(query)) if (value !== undefined) search.set(name, String(value));
    let asked = await this.#ask(path, search, signal);
    // A token may have been revoked, or its key replaced: a fresh one tells.
    if ("refusal" in asked && asked.refusal.status === 401) asked = await this.#ask(path, search, signal);
    if ("page" in asked) return asked.page;
    const { server, status, detail } = asked.refusal;
    throw requestRefused(server, `GET ${path}`, status, detail, REMEDIES);
  }

  async #ask(path: string, search: URLSearchParams, signal: AbortSignal): Promise<Asked> {
    const uaa = this.#uaa ?? (await this.discover(signal));
    const token = await this.#tokens.token(uaa, signal);
    const asked = await this.#api.call<Asked>(async (apiUrl) => {
      const server = nameOf(apiUrl);
      const answer = await this.#exchange(
        server,
        new URL(`${apiUrl}${path}?${search.toString()}`),
        { authorization: `bearer ${token}` },
        signal,
      );
      if (!answer.ok) return { refusal: { server, ...answer } };
      const parsed = PageSchema.safeParse(answer.body);
      if (parsed.success) return { page: parsed.data };
      const problem = parsed.error.issues.map((issue) => `${issue.path.join(".")}: ${issue.message}`).join("; ");
      throw malformedAnswer(server, `GET ${path}`, problem);
    }, signal);
    if ("refusal" in asked && asked.refusal.status === 401) this.#tokens.refused(token);
    return asked;
  }

  async #exchange(
    server: string,
    url: URL,
    headers: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): Promise<HttpAnswer> {
    this.#budget.sent();
    const answer = await exchange(this.#agent, { server, url, headers, remedies: REMEDIES }, signal);
    if (answer.ok) {
      // The root is not limited, so it says nothing of the limit.
      if ("authorization" in headers) this.#budget.limited(answer.rateLimit);
      if (answer.dateMs !== undefined) this.#serverClock.saw(answer.dateMs);
    }
    return answer;
  }
}

type Asked =
  | { readonly page: Page }
  | { readonly refusal: { readonly server: string; readonly status: number; readonly detail: string } };

function nameOf(apiUrl: string): string {
  return `Cloud Controller at ${apiUrl}`;
}
