import { request } from "node:http";
import { setTimeout as delay } from "node:timers/promises";

/** A 2xx; or whatever an app says, which the router marks its own answers apart from. */
export type Expectation = "success" | "an app's answer";

export interface FirstAnswerOptions {
  /** Where the router listens. */
  readonly host: string;
  readonly port: number;
  /** Host and path of the route. */
  readonly url: string;
  readonly expected: Expectation;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

/** Pause between attempts. */
const PAUSE_MS = 50;

/** Asks until the answer through the router is as expected: true; false when time is up. Rejects when the signal aborts. */
export async function firstAnswer(options: FirstAnswerOptions): Promise<boolean> {
  const deadlineMs = performance.now() + options.timeoutMs;
  for (;;) {
    options.signal.throwIfAborted();
    if (await answersOnce(options)) return true;
    if (performance.now() > deadlineMs) return false;
    await delay(PAUSE_MS, undefined, { signal: options.signal });
  }
}

function answersOnce({ host, port, url, expected, timeoutMs }: FirstAnswerOptions): Promise<boolean> {
  // A wildcard host is asked for under some name below it.
  const [authority = "", ...path] = url.replace("*", "any").split("/");
  return new Promise((resolve) => {
    const call = request({ host, port, path: `/${path.join("/")}`, headers: { host: authority }, timeout: timeoutMs });
    call.once("response", ({ statusCode = 0, headers }) => {
      const isSuccess = statusCode >= 200 && statusCode < 300;
      resolve(isSuccess || (expected === "an app's answer" && headers["x-cf-routererror"] === undefined));
      // The body may have no end.
      call.destroy();
    });
    call.once("timeout", () => call.destroy());
    call.once("error", () => resolve(false));
    call.end();
  });
}
