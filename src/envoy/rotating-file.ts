import { closeSync, fstatSync, openSync, renameSync, writeSync } from "node:fs";

/**
 * A log file of bounded size. At `maxBytes` it is renamed to `<path>.1`, over the one before, and begun anew. Written
 * synchronously: the writer has nothing else to do, and the lines before a crash count most. What can't be written
 * (disk full) is dropped, so that the one who logs keeps running.
 */
export class RotatingFile {
  readonly #path: string;
  readonly #maxBytes: number;
  #descriptor: number;
  #size: number;

  /** Throws the system's error when the file can't be opened. */
  constructor(path: string, maxBytes: number) {
    this.#path = path;
    this.#maxBytes = maxBytes;
    this.#descriptor = openSync(path, "a", 0o600);
    this.#size = fstatSync(this.#descriptor).size;
  }

  write(text: string | Uint8Array): void {
    const bytes = typeof text === "string" ? Buffer.from(text) : text;
    try {
      if (this.#size > 0 && this.#size + bytes.length > this.#maxBytes) this.#rotate();
      this.#size += writeSync(this.#descriptor, bytes);
    } catch {
      this.#size += bytes.length;
    }
  }

  close(): void {
    closeSync(this.#descriptor);
  }

  #rotate(): void {
    renameSync(this.#path, `${this.#path}.1`);
    const next = openSync(this.#path, "a", 0o600);
    closeSync(this.#descriptor);
    this.#descriptor = next;
    this.#size = 0;
  }
}
