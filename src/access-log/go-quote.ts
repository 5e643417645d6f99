/** Text in quotes, as Go's strconv.Quote writes it: readers of Gorouter's log undo just that. */

const PLAIN = /^[ !#-[\]-~]*$/;
/** Go's unicode.IsPrint. */
const PRINTABLE = /^[\p{L}\p{M}\p{N}\p{P}\p{S} ]$/u;
const SHORT: Readonly<Record<string, string>> = {
  '"': '\\"',
  "\\": "\\\\",
  "\u0007": "\\a",
  "\b": "\\b",
  "\f": "\\f",
  "\n": "\\n",
  "\r": "\\r",
  "\t": "\\t",
  "\v": "\\v",
};

/** @param bytes  one in each character */
export function goQuote(bytes: string): string {
  if (PLAIN.test(bytes)) return `"${bytes}"`;
  const rest = Buffer.from(bytes, "latin1");
  let quoted = "";
  for (let place = 0; place < rest.length;) {
    const length = runeLength(rest, place);
    quoted += length === 0 ? hex("\\x", rest[place] ?? 0, 2) : escaped(rest.toString("utf8", place, place + length));
    place += Math.max(1, length);
  }
  return `"${quoted}"`;
}

/** The text that the bytes are in UTF-8. */
export function textOfBytes(bytes: string): string {
  return PLAIN.test(bytes) ? bytes : Buffer.from(bytes, "latin1").toString("utf8");
}

/** How many bytes the character takes that begins here; 0 when none does. */
function runeLength(bytes: Buffer, place: number): number {
  const first = bytes[place] ?? 0;
  if (first < 0x80) return 1;
  const length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  const rune = bytes.subarray(place, place + length);
  const text = rune.toString("utf8");
  const isValid = rune.length === length && Buffer.from(text).equals(rune);
  // Bytes that are valid together might be several characters.
  return isValid && text.length === (length === 4 ? 2 : 1) ? length : 0;
}

function escaped(rune: string): string {
  const short = SHORT[rune];
  if (short !== undefined) return short;
  if (PRINTABLE.test(rune)) return rune;
  const code = rune.codePointAt(0) ?? 0;
  if (code < 0x20 || code === 0x7f) return hex("\\x", code, 2);
  return code < 0x10000 ? hex("\\u", code, 4) : hex("\\U", code, 8);
}

function hex(prefix: string, value: number, digits: number): string {
  return prefix + value.toString(16).padStart(digits, "0");
}
