/** How long the fuzz and property tests run, and from which seed; and bytes that almost are what a reader expects. */
import fc from "fast-check";

const factor = Number(process.env["FUZZ_FACTOR"] ?? 1);
const seed = Number(process.env["FUZZ_SEED"] ?? 20260301);

/** For fc.assert, which prints seed and path of a failure. FUZZ_FACTOR multiplies the runs, FUZZ_SEED chooses others. */
export function runs(count: number): { readonly seed: number; readonly numRuns: number } {
  return { seed, numRuns: Math.ceil(count * factor) };
}

/** For a test that runs so. Milliseconds. */
export const RUNS_TIMEOUT_MS = 30_000 * Math.max(1, factor);

type Mutation = (bytes: Buffer) => Buffer;

const at = fc.double({ min: 0, max: 1, noNaN: true });

const mutation: fc.Arbitrary<Mutation> = fc.oneof(
  fc.tuple(at, fc.nat(7)).map(([where, bit]) => (bytes: Buffer) => {
    const flipped = Buffer.from(bytes);
    const index = Math.floor(where * (bytes.length - 1));
    if (bytes.length > 0) flipped[index] = (flipped[index] ?? 0) ^ (1 << bit);
    return flipped;
  }),
  fc.tuple(at, fc.uint8Array({ minLength: 1, maxLength: 8 })).map(([where, inserted]) => (bytes: Buffer) => {
    const index = Math.floor(where * bytes.length);
    return Buffer.concat([bytes.subarray(0, index), inserted, bytes.subarray(index)]);
  }),
  fc.tuple(at, at).map(([a, b]) => (bytes: Buffer) => {
    const [from, to] = range(bytes, a, b);
    return Buffer.concat([bytes.subarray(0, from), bytes.subarray(to)]);
  }),
  fc.tuple(at, at).map(([a, b]) => (bytes: Buffer) => {
    const [from, to] = range(bytes, a, b);
    return Buffer.concat([bytes.subarray(0, to), bytes.subarray(from)]);
  }),
  at.map((where) => (bytes: Buffer) => bytes.subarray(0, Math.floor(where * bytes.length))),
);

function range(bytes: Buffer, a: number, b: number): readonly [number, number] {
  return [Math.floor(Math.min(a, b) * bytes.length), Math.floor(Math.max(a, b) * bytes.length)];
}

/** One of the examples after one to four accidents; now and then bytes that have nothing to do with any. */
export function mutated(...examples: readonly (Uint8Array | string)[]): fc.Arbitrary<Buffer> {
  const example = fc.constantFrom(...examples.map((one) => Buffer.from(one)));
  return fc.oneof(
    {
      weight: 9,
      arbitrary: fc
        .tuple(example, fc.array(mutation, { minLength: 1, maxLength: 4 }))
        .map(([bytes, mutations]) => mutations.reduce<Buffer>((current, mutate) => mutate(current), bytes)),
    },
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)) },
  );
}

/** The bytes cut into pieces of random lengths, as a network does. */
export function pieces(bytes: fc.Arbitrary<Buffer>): fc.Arbitrary<readonly Buffer[]> {
  return fc
    .tuple(bytes, fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 10 }))
    .map(([all, sizes]) => {
      const cut: Buffer[] = [];
      for (let offset = 0, index = 0; offset < all.length; index += 1) {
        const size = sizes[index % sizes.length] ?? 1;
        cut.push(all.subarray(offset, offset + size));
        offset += size;
      }
      return cut;
    });
}
