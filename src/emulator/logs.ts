/** What apps, staging and the API said about each app: the lines that `cf logs` shows. */

/** One line of an app's log. */
export interface LogLine {
  /** Unix time in milliseconds. */
  readonly timestampMs: number;
  readonly stream: "stdout" | "stderr";
  /** Who said it, with the instance's index, as Loggregator names it: "APP/PROC/WEB/0", "STG/0", "API/0". */
  readonly source: string;
  readonly text: string;
}

/** As many as Log Cache keeps of one source by default. */
const MAX_LINES = 10_000;
/** Loggregator drops what does not fit a datagram; here a long line is cut. */
const MAX_TEXT_LENGTH = 60_000;
/** Arrays are cut when they grew by this much, so that a line costs no copy of all the others. */
const SLACK = 1_000;

/** The last lines of each app, in the order in which they came. */
export class AppLogs {
  readonly #lines = new Map<string, LogLine[]>();

  append(appGuid: string, line: LogLine): void {
    const lines = this.#lines.get(appGuid) ?? [];
    lines.push(line.text.length > MAX_TEXT_LENGTH ? { ...line, text: line.text.slice(0, MAX_TEXT_LENGTH) } : line);
    if (lines.length > MAX_LINES + SLACK) lines.splice(0, lines.length - MAX_LINES);
    this.#lines.set(appGuid, lines);
  }

  /** At most `limit` of the newest lines, oldest first; none for an app that never wrote. */
  recent(appGuid: string, limit = MAX_LINES): readonly LogLine[] {
    return limit <= 0 ? [] : (this.#lines.get(appGuid) ?? []).slice(-Math.min(limit, MAX_LINES));
  }

  /** Drops the lines of an app that is gone. */
  forget(appGuid: string): void {
    this.#lines.delete(appGuid);
  }
}
