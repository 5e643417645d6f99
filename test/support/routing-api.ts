/** The emulated routing API as those use it who register routes there, and the clients that a test's foundation needs. */
import type { Foundation } from "../../src/emulator/foundation.js";

/** What the mesh needs: it may read routes, and nothing else. */
export const READER = { id: "mesh-reader", secret: "reader-secret-of-this-test", authorities: ["routing.routes.read"] };
const PUBLISHER = {
  id: "publisher",
  secret: "publisher-secret-of-this-test",
  authorities: ["routing.routes.read", "routing.routes.write"],
};
/** For `clients` of the foundation. */
export const ROUTING_CLIENTS = [READER, PUBLISHER];

export interface PostedRoute {
  readonly route: string;
  readonly port: number;
  readonly ip?: string;
  readonly ttl?: number;
  readonly log_guid?: string;
  readonly route_service_url?: string;
}

export class Publisher {
  readonly #foundation: Pick<Foundation, "apiUrl" | "uaaUrl">;
  #token: string | undefined;

  constructor(foundation: Pick<Foundation, "apiUrl" | "uaaUrl">) {
    this.#foundation = foundation;
  }

  async post(...routes: readonly PostedRoute[]): Promise<void> {
    await this.#call("POST", routes);
  }

  async remove(...routes: readonly PostedRoute[]): Promise<void> {
    await this.#call("DELETE", routes);
  }

  /** The routes that the API knows now. */
  async listed(): Promise<readonly string[]> {
    return (JSON.parse(await this.#call("GET")) as { route: string }[]).map(({ route }) => route);
  }

  /** To be called after all tokens were revoked. */
  forgetToken(): void {
    this.#token = undefined;
  }

  async #call(method: string, routes?: readonly PostedRoute[]): Promise<string> {
    this.#token ??= await this.#askForToken();
    const answer = await fetch(`${this.#foundation.apiUrl}/routing/v1/routes`, {
      method,
      headers: { authorization: `bearer ${this.#token}` },
      ...(routes && { body: JSON.stringify(routes.map((route) => ({ ip: "127.0.0.1", ...route }))) }),
    });
    const text = await answer.text();
    if (answer.ok) return text;
    throw new Error(`${method} /routing/v1/routes: ${answer.status} ${text}`);
  }

  async #askForToken(): Promise<string> {
    const { id, secret } = PUBLISHER;
    const answer = await fetch(`${this.#foundation.uaaUrl}/oauth/token`, {
      method: "POST",
      body: new URLSearchParams({ grant_type: "client_credentials", client_id: id, client_secret: secret }),
    });
    return ((await answer.json()) as { access_token: string }).access_token;
  }
}
