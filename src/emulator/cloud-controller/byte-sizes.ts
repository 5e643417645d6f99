/** Sizes as people write them: "512M", "1 GB". Source: ByteConverter of cloud_controller_ng. */

const EXPONENTS: Readonly<Record<string, number>> = { B: 0, K: 1, M: 2, G: 3, T: 4 };

export type ByteSize = { readonly bytes: number } | { readonly problem: string };

/** Whole bytes, or what is wrong with the text: "must use a supported unit: ..." or "is not a number". */
export function parseByteSize(value: unknown): ByteSize {
  const [, digits, unit = ""] = /^\s*(-?\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*$/.exec(String(value)) ?? [];
  if (digits === undefined) return { problem: "is not a number" };
  const exponent = /^(B|[KMGT]B?)$/i.test(unit) ? EXPONENTS[unit.charAt(0).toUpperCase()] : undefined;
  if (exponent === undefined) {
    return { problem: "must use a supported unit: B, K, KB, M, MB, G, GB, T, or TB" };
  }
  return { bytes: Math.floor(Number(digits) * 1024 ** exponent) };
}

/** "1G", "512M", "100B": the largest unit that says it in whole numbers. */
export function formatByteSize(bytes: number): string {
  const [unit, exponent] =
    Object.entries(EXPONENTS)
      .reverse()
      .find(([, power]) => bytes !== 0 && bytes % 1024 ** power === 0) ?? (["B", 0] as const);
  return `${bytes / 1024 ** exponent}${unit}`;
}
