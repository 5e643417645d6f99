/**
 * Files that hold certificates, keys and passwords, looked at while a process runs: what replaces them is checked, and
 * then used for connections from then on. Those that are open stay.
 */
import { X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createSecureContext } from "node:tls";
import { asError, MeshError, systemCode } from "../lib/errors.js";
import type { Logger } from "../lib/logger.js";

/** The path of a file, or undefined for one that the configuration does not name, by the last part of its key. */
export type Files = Readonly<Record<string, string | undefined>>;
/** Their texts; those of passwords and tokens without the line's end that editors add. */
export type Texts<F extends Files> = {
  readonly [Name in keyof F]: F[Name] extends string ? string : string | undefined;
};

export interface CredentialFiles<F extends Files, T> {
  /** The section of the configuration that names them: "diego". */
  readonly section: string;
  readonly files: F;
  /** What is made of their texts: the same object until they change. May throw; its reasons must not hold a text. */
  readonly make: (texts: Texts<F>) => T;
  /** Hears of each replacement that was taken. */
  readonly onReplaced?: (value: T) => void;
}

export interface CredentialsStatus {
  /** Replacements that were taken. */
  readonly replacedCount: number;
  /** Files whose present contents are not used, because they can't be: "diego.certificateFile". */
  readonly refused: readonly string[];
  /** When a certificate that is in use ends, Unix time in milliseconds, by the key of its file; the first to end of several. */
  readonly certificateEndsMs: Readonly<Record<string, number>>;
}

/** Mounts are replaced by renaming links, of which fs.watch does not hear; so the files are read. */
const LOOK_MS = 2_000;

export class Credentials {
  readonly #logger: Logger;
  readonly #sets: { readonly look: (isHurried: boolean) => Promise<void>; readonly status: () => SetStatus }[] = [];
  readonly #timer: NodeJS.Timeout;
  #looking = Promise.resolve();

  /** @param lookMs  pause between looks */
  constructor(logger: Logger, lookMs = LOOK_MS) {
    this.#logger = logger;
    this.#timer = setInterval(() => void this.#look(false), lookMs);
  }

  get status(): CredentialsStatus {
    const sets = this.#sets.map(({ status }) => status());
    return {
      replacedCount: sets.reduce((sum, { replacedCount }) => sum + replacedCount, 0),
      refused: [...new Set(sets.flatMap(({ refused }) => refused))],
      certificateEndsMs: Object.assign({}, ...sets.map(({ endsMs }) => endsMs)) as Record<string, number>,
    };
  }

  /**
   * Returns  what the files hold, as of the last time that they could be used.
   * Throws   MESH_CONFIG_INVALID when they can't be used now, by their keys; or what `make` throws.
   */
  async follow<F extends Files, T extends object>(wanted: CredentialFiles<F, T>): Promise<() => T> {
    const { section, files, make, onReplaced } = wanted;
    let texts = await readAll(section, files);
    let endsMs = checked(section, files, texts);
    let value = make(texts);
    let replacedCount = 0;
    let refused: readonly string[] = [];
    /** Seen at the last look, and not used: files are written one after the other. */
    let pending: Texts<F> | undefined;
    /** A fault is told once. */
    let told: string | undefined;

    const look = async (isHurried: boolean) => {
      let changed: readonly string[] = [];
      try {
        const now = await readAll(section, files);
        changed = differing(texts, now);
        if (changed.length > 0 && !isHurried && (!pending || differing(pending, now).length > 0)) {
          pending = now;
          return;
        }
        pending = undefined;
        if (changed.length > 0) {
          const nowEndsMs = checked(section, files, now);
          value = make(now);
          texts = now;
          endsMs = nowEndsMs;
          replacedCount += 1;
          const names = changed.map((name) => files[name]);
          this.#logger.info({ section, files: names }, "credentials were replaced: new connections use them");
          onReplaced?.(value);
        }
        refused = [];
        told = undefined;
      } catch (error) {
        pending = undefined;
        const { message } = asError(error);
        refused = changed.map((name) => `${section}.${name}`);
        if (refused.length === 0) refused = [section];
        if (message !== told) this.#logger.error({ section }, `${message}\n  until then: what was read before is used`);
        told = message;
      }
    };
    this.#sets.push({ look, status: () => ({ replacedCount, refused, endsMs }) });
    return () => value;
  }

  /** Reads all files now, and takes what has changed without waiting whether more will. */
  async reload(): Promise<void> {
    await this.#look(true);
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#looking;
  }

  /** One look after the other. */
  #look(isHurried: boolean): Promise<void> {
    this.#looking = this.#looking.then(async () => {
      for (const { look } of this.#sets) await look(isHurried);
    });
    return this.#looking;
  }
}

interface SetStatus {
  readonly replacedCount: number;
  readonly refused: readonly string[];
  readonly endsMs: Readonly<Record<string, number>>;
}

async function readAll<F extends Files>(section: string, files: F): Promise<Texts<F>> {
  const texts = await Promise.all(
    Object.entries(files).map(async ([name, file]) => {
      if (file === undefined) return [name, undefined] as const;
      const text = await readFile(file, "utf8").catch((error: unknown) => {
        throw unusable(section, `${name}: ${file} can't be read (${systemCode(error) ?? "unknown"})`, error);
      });
      return [name, PEMS.includes(name) ? text : text.trim()] as const;
    }),
  );
  return Object.fromEntries(texts) as Texts<F>;
}

const CERTIFICATES: readonly string[] = ["caFile", "certificateFile"];
const PEMS: readonly string[] = [...CERTIFICATES, "keyFile"];
/** Those of a PEM text, one by one. */
export const certificatesIn = (pem: string): readonly string[] => pem.match(CERTIFICATE) ?? [];
const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g;

/** Returns when its certificates end, by their keys. Throws MESH_CONFIG_INVALID for what can't be used. */
function checked(section: string, files: Files, texts: Files): Readonly<Record<string, number>> {
  const endsMs: Record<string, number> = {};
  for (const [name, text] of Object.entries(texts)) {
    if (text === undefined) continue;
    const place = `${name}: ${files[name] ?? ""}`;
    if (text.trim() === "") throw unusable(section, `${place} is empty`, undefined);
    if (!CERTIFICATES.includes(name)) continue;
    const problem = `${place} is no certificate in PEM`;
    const times = trying(section, problem, () =>
      certificatesIn(text).map((pem) => Date.parse(new X509Certificate(pem).validTo)),
    );
    if (times.length === 0) throw unusable(section, problem, undefined);
    // A bundle of CAs serves for as long as one of them is valid; those of systems have some that are not.
    endsMs[`${section}.${name}`] = name === "certificateFile" ? Math.min(...times) : Math.max(...times);
  }
  const { certificateFile: certificate, keyFile: key } = texts;
  if (certificate !== undefined && key !== undefined) {
    trying(section, `keyFile: ${files["keyFile"] ?? ""} is not the key of certificateFile`, () =>
      createSecureContext({ cert: certificate, key }),
    );
  }
  return endsMs;
}

function trying<T>(section: string, problem: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw unusable(section, `${problem} (${asError(error).message})`, error);
  }
}

function unusable(section: string, problem: string, cause: unknown): MeshError {
  return new MeshError(
    "MESH_CONFIG_INVALID",
    `${section}.${problem}`,
    "put a file there that this process can read, of the kind that docs/config.md tells",
    { cause },
  );
}

function differing(one: object, other: object): readonly string[] {
  const others = new Map<string, unknown>(Object.entries(other));
  return (Object.entries(one) as [string, unknown][])
    .filter(([name, text]) => others.get(name) !== text)
    .map(([name]) => name);
}
