/** HTML pages in the place of Gorouter's plain errors, from templates like its own. */

export interface ErrorPages {
  /** The template for every domain without one of its own; undefined: plain text. */
  readonly page: string | undefined;
  readonly domains: readonly { readonly domain: string; readonly page: string }[];
}

export interface PageFields {
  readonly status: number;
  readonly statusText: string;
  /** A format: it may have Envoy's commands in it. */
  readonly message: string;
  readonly routerError: string;
}

const PLACEHOLDER = /\{\{\s*(.*?)\s*\}\}/g;
const ROUTER_ERROR = /^\.Header\.Get\s+"X-Cf-RouterError"$/i;

/** The page as a format of Envoy's. Throws a plain Error that names a placeholder that there is not. */
export function pageFormat(page: string, { status, statusText, message, routerError }: PageFields): string {
  const text = page.split(PLACEHOLDER);
  // What the expression caught stands at odd places.
  return text
    .map((part, index) => {
      if (index % 2 === 0) return part.replaceAll("%", "%%");
      if (part === ".Status") return String(status);
      if (part === ".StatusText") return escapeHtml(statusText);
      if (part === ".Message") return escapeHtml(message);
      if (ROUTER_ERROR.test(part)) return escapeHtml(routerError);
      throw new Error(
        `{{${part}}} is no placeholder; there are {{.Status}}, {{.StatusText}}, {{.Message}} and {{.Header.Get "X-Cf-RouterError"}}`,
      );
    })
    .join("");
}

/** Of our own words: what Envoy puts in for its commands has no such characters, as hosts have none. */
function escapeHtml(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll("'", "&#39;");
}
