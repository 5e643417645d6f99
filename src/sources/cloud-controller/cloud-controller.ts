/**
 * Source "cloud-controller": routes with their destinations, weights and options, from the Cloud Controller's API v3.
 *
 * A full read at the start and every `resyncIntervalMs` is the truth. Between them looks for audit events and for updated
 * routes show what to read again, as often as `requestsPerSecond` leaves room for.
 */
import { KEY_SPACES } from "../../entries/keys.js";
import { type Clock, systemClock } from "../../lib/clock.js";
import type { Logger } from "../../lib/logger.js";
import { Alarm } from "../alarm.js";
import { type HttpCredentials, openAgent } from "../http.js";
import type { Source } from "../source.js";
import { CcClient } from "./cc-client.js";
import { Follower } from "./follower.js";
import { RequestBudget } from "./request-budget.js";
import type { RefreshHint } from "./route-sync.js";
import { StatusBoard } from "./status-board.js";

export interface CloudControllerCredentials extends HttpCredentials {
  readonly clientSecret: string;
}

export interface CloudControllerOptions {
  /** One or more that stand in for each other: when one fails, the next is asked. */
  readonly apiUrls: readonly string[];
  /** Likewise; from the links of GET / where left out. */
  readonly uaaUrls?: readonly string[];
  /** A UAA client with the authority cloud_controller.global_auditor. */
  readonly clientId: string;
  /** Asked for each token and at each connection, so that new ones need no restart; another object where they changed. */
  readonly credentials: () => CloudControllerCredentials;
  /** Requests to the Cloud Controller on average while nothing changes, full reads included; 2 where left out. */
  readonly requestsPerSecond?: number;
  /** From the end of one full read to the start of the next, at least; 60,000 where left out. */
  readonly resyncIntervalMs?: number;
  /** 1..5000, which it is where left out. */
  readonly pageSize?: number;
  /** For the head of an answer, and between two pieces of its body; 30,000 where left out. */
  readonly requestTimeoutMs?: number;
  readonly logger: Logger;
  readonly clock?: Clock;
}

export interface CloudControllerSource extends Source {
  /** Reads these now instead of at the next turn: someone else saw that they changed. */
  refresh(hint: RefreshHint): void;
}

/** A page of 5,000 routes with their destinations has about 10 MB. */
const MAX_ANSWER_BYTES = 256 * 1024 * 1024;
const DEFAULTS = { requestsPerSecond: 2, resyncIntervalMs: 60_000, pageSize: 5000, requestTimeoutMs: 30_000 };

export function cloudControllerSource(options: CloudControllerOptions): CloudControllerSource {
  const settings = {
    clock: systemClock,
    ...DEFAULTS,
    ...options,
    logger: options.logger.child({ source: "cloud-controller" }),
  };
  const budget = new RequestBudget(settings);
  const board = new StatusBoard(settings.logger);
  const alarm = new Alarm(settings.clock);
  /** They wait for the loop that takes them. */
  const hints: RefreshHint[] = [];
  return {
    name: "cloud-controller",
    get status() {
      return { ...board.status, requests: budget.usage };
    },
    refresh(hint) {
      hints.push(hint);
      alarm.wake();
    },
    async run(writer, signal) {
      if (writer.keySpace !== KEY_SPACES.cloudControllerRoutes) throw new Error(`not its to write: ${writer.keySpace}`);
      const agent = openAgent({ ...settings, maxAnswerBytes: MAX_ANSWER_BYTES });
      try {
        const client = new CcClient({ ...settings, uaaClient: settings, agent, budget });
        await new Follower({ ...settings, budget }, client, board, alarm, hints).run(writer, signal);
      } finally {
        await agent.destroy();
      }
    },
  };
}
