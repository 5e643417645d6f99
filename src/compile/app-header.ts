/** X-CF-ApplicationID: a header of the route, since the endpoints of most routes are of one app. */
import { replacedHeader } from "./direct-reply.js";
import type { PathPlan } from "./plan-path.js";

export const APP_HEADER = "x-cf-applicationid";

/** The app of all endpoints of a path, "" for no app; undefined where they are of several, or other apps get copies. */
export function onlyAppOf({ branches, copies }: PathPlan): string | undefined {
  if (copies.length > 0) return undefined;
  const apps = new Set(
    branches.flatMap(({ pools }) =>
      pools.flatMap(({ shares }) =>
        shares.flatMap(({ endpoints }) => endpoints.map(({ identity }) => identity.appGuid)),
      ),
    ),
  );
  return apps.size > 1 ? undefined : ([...apps][0] ?? "");
}

/** In the place of what a client sends. Where there are several apps, an endpoint's metadata says which. */
export function appHeader(app: string | undefined) {
  return { ...replacedHeader(APP_HEADER, (app ?? "").replaceAll("%", "%%")), keepEmptyValue: true };
}
