/** Domains that are reached by mutual TLS alone: connections whose client names one of them at its handshake are its own. */
import type { ForwardedClientCert, XfccFormat } from "./forwarded-client-cert.js";
import { type } from "./json.js";
import { filterWhere, requestHeader } from "./matchers.js";
import type { SecretFile } from "./secrets.js";

export interface ClientDomain {
  /** "apps.identity", or "*.apps.identity" for all names below it; of several, the narrowest counts. */
  readonly name: string;
  /** Of the certificates that its clients must show. */
  readonly ca: SecretFile;
  readonly forwardedClientCert: ForwardedClientCert;
  readonly xfccFormat: XfccFormat;
  /** Regular expressions of authorities: those of the domain, and those among them that are another, narrower one's. */
  readonly authority: { readonly pattern: string; readonly exceptions: readonly string[] };
}

/** What routes tell connections and callers by. */
export interface DomainMarks {
  /** A key of the connection's filter state; its value is the domain's name. */
  readonly connectionDomain: string;
  /** A request header: the subject of the client's certificate as RFC 2253 writes it. On connections of domains alone. */
  readonly callerHeader: string;
  /** To a request for another domain than its connection is for. */
  readonly misdirected: { readonly status: number; readonly message: string; readonly routerError: string };
}

/** Marks a connection, before its first request. */
export function connectionMark({ connectionDomain }: DomainMarks, { name }: ClientDomain) {
  return {
    name: "envoy.filters.network.set_filter_state",
    typed_config: {
      "@type": type("extensions.filters.network.set_filter_state.v3.Config"),
      on_new_connection: [
        {
          object_key: connectionDomain,
          factory_key: "envoy.string",
          format_string: { text_format_source: { inline_string: name } },
        },
      ],
    },
  };
}

/** Requests of other hosts: they would come past what their own domain asks of clients. */
export function misdirectedFilter({ misdirected }: DomainMarks, { authority }: ClientDomain) {
  const of = (regex: string) => requestHeader(":authority", { safe_regex: { google_re2: {}, regex } });
  const isStrange = [{ not_matcher: of(authority.pattern) }, ...authority.exceptions.map(of)] as const;
  const lua = {
    "@type": type("extensions.filters.http.lua.v3.Lua"),
    default_source_code: { inline_string: refusalLua(misdirected) },
  };
  return filterWhere("cf-mesh.misdirected", lua, [...isStrange]);
}

const refusalLua = ({ status, message, routerError }: DomainMarks["misdirected"]) => `
function envoy_on_request(handle)
  handle:respond({ [":status"] = "${status}", ["x-cf-routererror"] = "${routerError}" }, "${message}")
end
`;
