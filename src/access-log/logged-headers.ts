/** Request headers that lines end with. */

/** What Gorouter adds where it carries traces, by handlers/zipkin.go and w3c.go. */
const TRACES = {
  b3: ["X-B3-TraceId", "X-B3-SpanId", "X-B3-ParentSpanId", "b3"],
  w3c: ["traceparent", "tracestate"],
} as const;

/** Those that are asked for, then those of traces; each once. */
export function loggedHeaders(
  asked: readonly string[],
  { b3, w3c }: { readonly b3: boolean; readonly w3c: boolean },
): string[] {
  return [...new Set([...asked, ...(b3 ? TRACES.b3 : []), ...(w3c ? TRACES.w3c : [])])];
}
