/** Access tokens by the client credentials grant. */
import type { Agent } from "undici";
import { z } from "zod";
import type { Clock } from "../lib/clock.js";
import { clientRefused, malformedAnswer, type Remedies, scopeMissing } from "./http-faults.js";
import { exchange } from "./http.js";
import type { Servers } from "./servers.js";

export interface UaaClient {
  readonly clientId: string;
  /** Asked for each token. */
  readonly credentials: () => { readonly clientSecret: string };
  readonly needs: NeededScope;
  readonly remedies: Remedies;
}

/** What a token has to allow: it is refused at once where it does not. */
export interface NeededScope {
  /** One of these at least. */
  readonly anyOf: readonly string[];
  /** What the client can't do without, after its name: "may not read routes". */
  readonly without: string;
  readonly remedy: string;
}

const TokenSchema = z.object({
  access_token: z.string().min(1),
  expires_in: z.number().positive(),
  scope: z.string().optional(),
});

/** A token is not used in the last minute of its life, nor in the last half of a shorter one. */
const MAX_MARGIN_MS = 60_000;

export class TokenSource {
  readonly #agent: Agent;
  readonly #client: UaaClient;
  readonly #clock: Clock;
  #held: { readonly token: string; readonly renewAtMs: number } | undefined;
  #asked: Promise<string> | undefined;

  constructor(agent: Agent, client: UaaClient, clock: Clock) {
    this.#agent = agent;
    this.#client = client;
    this.#clock = clock;
  }

  /**
   * The token to use now; asks for one where there is none or it is about to expire, once for all that wait.
   *
   * Request  POST <uaa>/oauth/token, client id and secret in the form.
   * Throws   as exchange(); MESH_SOURCE_REFUSED when the UAA refuses the client, or the token does not allow what is needed.
   */
  token(uaa: Servers, signal: AbortSignal): Promise<string> {
    if (this.#held && this.#clock.now() < this.#held.renewAtMs) return Promise.resolve(this.#held.token);
    this.#asked ??= uaa.call((url) => this.#ask(url, signal), signal).finally(() => (this.#asked = undefined));
    return this.#asked;
  }

  /** The API refused this token: the next call asks for another. */
  refused(token: string): void {
    if (this.#held?.token === token) this.#held = undefined;
  }

  async #ask(uaaUrl: string, signal: AbortSignal): Promise<string> {
    const server = `UAA at ${uaaUrl}`;
    const { clientId, credentials, needs, remedies } = this.#client;
    const askedAtMs = this.#clock.now();
    const answer = await exchange(
      this.#agent,
      {
        server,
        url: new URL(`${uaaUrl}/oauth/token`),
        headers: {},
        form: { grant_type: "client_credentials", client_id: clientId, client_secret: credentials().clientSecret },
        remedies,
      },
      signal,
    );
    if (!answer.ok) throw clientRefused(server, clientId, answer.status, answer.detail);
    const parsed = TokenSchema.safeParse(answer.body);
    if (!parsed.success) throw malformedAnswer(server, "POST /oauth/token", "no access_token with expires_in");
    const { access_token: token, expires_in: seconds, scope } = parsed.data;
    if (scope !== undefined && !scope.split(" ").some((one) => needs.anyOf.includes(one))) {
      throw scopeMissing(server, clientId, scope, needs.without, needs.remedy);
    }
    const lifeMs = seconds * 1000;
    this.#held = { token, renewAtMs: askedAtMs + lifeMs - Math.min(MAX_MARGIN_MS, lifeMs / 2) };
    return token;
  }
}
