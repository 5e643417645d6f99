import { AsyncLocalStorage } from "node:async_hooks";
import type { FastifyInstance, FastifyRequest } from "fastify";

export interface ClientUrlsOptions {
  /** Where the foundation itself listens, as in "http://127.0.0.1:8081"; known once it listens. */
  readonly ownUrl: () => string;
  /** Names its parts as clients see them: "api.<system domain>". Left out: all are at the own URL. */
  readonly systemDomain: string | undefined;
}

/** A part of the foundation that has a name of its own in the system domain. */
export type Component = "api" | "uaa" | "login" | "log-cache";

const LOOPBACK = /^(127\.0\.0\.1|localhost|\[::1\])(:\d+)?$/;

/**
 * The beginning of hrefs: they lead back the way that the request came. Clients reach the same Cloud Controller through
 * a router, by a name of the system domain and the router's port, and directly, by address: a client that follows a link
 * must not need the other way.
 */
export class ClientUrls {
  readonly #options: ClientUrlsOptions;
  readonly #current = new AsyncLocalStorage<(component: Component) => string>();

  constructor(options: ClientUrlsOptions) {
    this.#options = options;
  }

  /** To be called before routes are added. */
  install(server: FastifyInstance): void {
    // Reading a body leaves the context of the first hook.
    for (const stage of ["onRequest", "preHandler"] as const) {
      server.addHook(stage, (request: FastifyRequest, _reply: unknown, done: () => void) => {
        this.#current.run(this.#urlsFor(request), done);
      });
    }
  }

  /** As the client of the request that is being served reaches a part; outside of requests, its own URL. */
  of(component: Component): string {
    return this.#current.getStore()?.(component) ?? this.#options.ownUrl();
  }

  #urlsFor(request: FastifyRequest): (component: Component) => string {
    const { systemDomain, ownUrl } = this.#options;
    const host = (request.headers.host ?? "").toLowerCase();
    const scheme = request.headers["x-forwarded-proto"] === "https" ? "https" : "http";
    const [name = "", port] = host.split(":");
    if (systemDomain !== undefined && name.endsWith(`.${systemDomain}`)) {
      return (component) => `${scheme}://${component}.${systemDomain}${port === undefined ? "" : `:${port}`}`;
    }
    // Any other name may be made up by whoever sent the request.
    const isOwn = LOOPBACK.test(host) || host === new URL(ownUrl()).host;
    return () => (isOwn ? `${scheme}://${host}` : ownUrl());
  }
}
