/** What people and supervisors send to end a process. */
const SIGNALS = ["SIGINT", "SIGTERM"] as const;

/** Exit code of a process that a second signal ends at once. */
const IMPATIENT_EXIT = 130;

/**
 * Resolves at the first signal to end. A second one ends the process at once: children notice by themselves (the keeper
 * stops Envoy, the reaper stops apps).
 */
export function stopSignal(): Promise<void> {
  return new Promise((resolve) => {
    let asked = false;
    for (const signal of SIGNALS) {
      process.on(signal, () => {
        if (asked) process.exit(IMPATIENT_EXIT);
        asked = true;
        resolve();
      });
    }
  });
}
