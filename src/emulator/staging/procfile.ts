import { StagingError } from "./staging-error.js";

const LINE = /^([A-Za-z0-9_-]+):\s*(\S.*)$/;

/**
 * Shell lines by process type, of a Procfile with lines as "web: node server.js". Other lines are passed over.
 *
 * Throws   a StagingError for a text that names no process type at all.
 */
export function parseProcfile(text: string): Readonly<Record<string, string>> {
  const found = text.split(/\r?\n/).flatMap((line) => {
    const [, type, command] = LINE.exec(line.trim()) ?? [];
    return type === undefined || command === undefined ? [] : [[type, command] as const];
  });
  if (found.length > 0) return Object.fromEntries(found);
  throw new StagingError(
    "BuildpackReleaseFailed",
    'App staging failed in the buildpack release phase: the Procfile names no process type. Write lines like "web: command"',
  );
}
