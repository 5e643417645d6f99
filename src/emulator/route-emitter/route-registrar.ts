/** What route-registrar says of the platform's own parts: the messages of `router.register`. */

export interface SystemRoutes {
  /** "sys.example.com" */
  readonly systemDomain: string;
  /** Where Cloud Controller, UAA and Log Cache listen. */
  readonly host: string;
  readonly port: number;
}

/** How often it says them, in milliseconds: what cf-deployment sets for the API. */
export const REGISTRATION_INTERVAL_MS = 10_000;

const COMPONENTS = [
  { component: "CloudController", names: ["api"] },
  { component: "uaa", names: ["uaa", "login"] },
  { component: "log-cache", names: ["log-cache"] },
];

/** JSON, one message for each part. Source: messagebus of cloudfoundry/route-registrar. */
export function systemRegistrations({ systemDomain, host, port }: SystemRoutes): readonly string[] {
  return COMPONENTS.map(({ component, names }) =>
    JSON.stringify({
      uris: names.map((name) => `${name}.${systemDomain}`),
      host,
      port,
      protocol: "http1",
      tags: { component },
      private_instance_id: `${component}-0`,
    }),
  );
}
