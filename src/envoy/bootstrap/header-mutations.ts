/** Changes of headers, as Envoy's header mutations take them. */
import { type } from "./json.js";

type AppendAction = "ADD_IF_ABSENT" | "OVERWRITE_IF_EXISTS_OR_ADD";

/** `value` is a format of Envoy's. */
export const append = (key: string, value: string, append_action: AppendAction = "OVERWRITE_IF_EXISTS_OR_ADD") => ({
  append: { header: { key, value }, append_action },
});

export const remove = (name: string) => ({ remove: name });

export const headerMutation = (mutations: object) => ({
  "@type": type("extensions.filters.http.header_mutation.v3.HeaderMutation"),
  mutations,
});
