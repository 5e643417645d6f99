import { pino, type DestinationStream, type Logger as PinoLogger } from "pino";

/** Structured logs: an object with stable keys first, then the sentence. Keys and tokens never go in. */
export type Logger = Pick<PinoLogger, "trace" | "debug" | "info" | "warn" | "error" | "fatal"> & {
  child(bindings: Record<string, unknown>): Logger;
};

export const LOG_LEVELS = ["debug", "info", "warn", "error"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export interface LeveledLogger extends Logger {
  /** What is logged at least from now on, by the loggers made of this one too. */
  setLevel(level: LogLevel): void;
}

export function createLogger(level: LogLevel, destination: DestinationStream): LeveledLogger {
  let least = pino.levels.values[level] ?? 0;
  const logger = pino(
    {
      // A child keeps the level that it was made with, so the level is looked at for each line.
      level: "debug",
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      hooks: {
        logMethod(args, method, lineLevel) {
          if (lineLevel >= least) method.apply(this, args);
        },
      },
    },
    destination,
  );
  return Object.assign(logger, {
    setLevel(replacement: LogLevel) {
      least = pino.levels.values[replacement] ?? 0;
    },
  });
}

/** For tests and tools that have no one to tell. */
export const silentLogger: Logger = pino({ level: "silent" });
