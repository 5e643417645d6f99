/**
 * The key spaces of the mesh log. Each has one writer, and its name is the prefix of its keys; the first word is the
 * kind of the value. Readers pass over keys of other spaces: a newer version's. Keys are also NATS subjects: tokens of letters, digits, "-" and "_", joined by dots.
 */
export const KEY_SPACES = {
  cloudControllerRoutes: "route.cc.",
  /** What the copilot API was told. A route that has mappings but was not told yet has no host. */
  copilotRoutes: "route.copilot.",
  copilotAssociations: "association.copilot.",
  /** Routes that Diego knows of, for as long as Cloud Controller can't be asked. The route-syncer's. */
  diegoRoutes: "route.bbs.",
  diegoProcesses: "process.bbs.",
  natsRegistrations: "registration.nats.",
  routingApiRegistrations: "registration.routingapi.",
} as const;
export type KeySpace = (typeof KEY_SPACES)[keyof typeof KEY_SPACES];
