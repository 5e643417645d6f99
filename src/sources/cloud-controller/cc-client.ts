/** Reads of the Cloud Controller's API v3, with a token of the UAA. */
import type { Agent } from "undici";
import { z } from "zod";
import type { Clock } from "../../lib/clock.js";
import { malformedAnswer, requestRefused } from "./faults.js";
import { exchange } from "./http.js";
import { type Page, PageSchema } from "./resources.js";
import { TokenSource, type UaaClient } from "./uaa.js";

/** undefined leaves a parameter out. */
export type Query = Readonly<Record<string, string | number | undefined>>;

export interface CcClientOptions {
  readonly apiUrl: string;
  /** From the links of GET / where left out. */
  readonly uaaUrl?: string;
  readonly uaaClient: UaaClient;
  readonly agent: Agent;
  readonly clock: Clock;
}

const RootSchema = z.object({ links: z.object({ uaa: z.object({ href: z.url() }).nullish() }) });

export class CcClient {
  readonly #server: string;
  readonly #apiUrl: string;
  readonly #agent: Agent;
  readonly #tokens: TokenSource;
  #uaaUrl: string | undefined;
  #newestDateMs: number | undefined;

  constructor({ apiUrl, uaaUrl, uaaClient, agent, clock }: CcClientOptions) {
    this.#apiUrl = withoutSlash(apiUrl);
    this.#server = `Cloud Controller at ${this.#apiUrl}`;
    this.#uaaUrl = uaaUrl === undefined ? undefined : withoutSlash(uaaUrl);
    this.#agent = agent;
    this.#tokens = new TokenSource(agent, uaaClient, clock);
  }

  /** Newest time that the Cloud Controller's Date headers told, Unix ms. Its clock is the one that stamps resources. */
  get newestDateMs(): number | undefined {
    return this.#newestDateMs;
  }

  /** Reads GET /: where the UAA is, and what time it is there. Throws as exchange(). */
  async discover(signal: AbortSignal): Promise<void> {
    const answer = await exchange(
      this.#agent,
      { server: this.#server, url: new URL(`${this.#apiUrl}/`), headers: {} },
      signal,
    );
    if (!answer.ok) throw requestRefused(this.#server, "GET /", answer.status, answer.detail);
    this.#sawDate(answer.dateMs);
    const href = RootSchema.safeParse(answer.body).data?.links.uaa?.href;
    if (href === undefined && this.#uaaUrl === undefined) {
      throw malformedAnswer(this.#server, "GET /", "no links.uaa.href; uaaUrl can say it instead");
    }
    if (href !== undefined) this.#uaaUrl ??= withoutSlash(href);
  }

  /**
   * One page of a list.
   *
   * Request  GET <api><path>?<query>.
   * Throws   as exchange(); MESH_SOURCE_REFUSED when a fresh token is refused too, or the query is;
   *          MESH_SOURCE_MALFORMED when the answer is no page.
   */
  async page(path: string, query: Query, signal: AbortSignal): Promise<Page> {
    const url = new URL(`${this.#apiUrl}${path}`);
    for (const [name, value] of Object.entries(query)) {
      if (value !== undefined) url.searchParams.set(name, String(value));
    }
    let answer = await this.#get(url, signal);
    if (!answer.ok && answer.status === 401) answer = await this.#get(url, signal);
    if (!answer.ok) throw requestRefused(this.#server, `GET ${path}`, answer.status, answer.detail);
    this.#sawDate(answer.dateMs);
    const parsed = PageSchema.safeParse(answer.body);
    if (parsed.success) return parsed.data;
    const problem = parsed.error.issues.map((issue) => `${issue.path.join(".")}: ${issue.message}`).join("; ");
    throw malformedAnswer(this.#server, `GET ${path}`, problem);
  }

  async #get(url: URL, signal: AbortSignal) {
    if (this.#uaaUrl === undefined) await this.discover(signal);
    if (this.#uaaUrl === undefined) throw new Error("discover() leaves a UAA URL or throws");
    const token = await this.#tokens.token(this.#uaaUrl, signal);
    const answer = await exchange(
      this.#agent,
      { server: this.#server, url, headers: { authorization: `bearer ${token}` } },
      signal,
    );
    if (!answer.ok && answer.status === 401) this.#tokens.refused(token);
    return answer;
  }

  #sawDate(dateMs: number | undefined): void {
    if (dateMs !== undefined && dateMs > (this.#newestDateMs ?? 0)) this.#newestDateMs = dateMs;
  }
}

function withoutSlash(url: string): string {
  return url.endsWith("/") ? url.slice(0, -1) : url;
}
