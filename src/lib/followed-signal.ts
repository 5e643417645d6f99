/** What ends when a signal does, or before. */
export interface Followed {
  readonly signal: AbortSignal;
  abort(reason?: Error): void;
  /** To be called at the end: until then the signal that is followed knows of it. */
  letGo(): void;
}

/** AbortSignal.any keeps a little of each for as long as the signal lives that is followed: this keeps nothing. */
export function followed(signal: AbortSignal): Followed {
  const own = new AbortController();
  const end = () => own.abort(signal.reason);
  signal.addEventListener("abort", end, { once: true });
  if (signal.aborted) end();
  return {
    signal: own.signal,
    abort: (reason) => own.abort(reason),
    letGo: () => signal.removeEventListener("abort", end),
  };
}
