import type { Instance, Port, Process, Registration } from "../entries/entries.js";
import { isIpAddress } from "../lib/ip-address.js";

/** What a proxy dials. */
export interface Endpoint {
  readonly address: string;
  readonly port: number;
  /** undefined: in plain text. */
  readonly tls: EndpointTls | undefined;
  /** The app's name, or its guid where none is known; "" for what is no app. */
  readonly appName: string;
  readonly identity: EndpointIdentity;
  /** "" where none is known. */
  readonly availabilityZone: string;
  readonly origin: EndpointOrigin;
}

/** What told of an endpoint, with all that it said. */
export type EndpointOrigin =
  | { readonly kind: "instance"; readonly instance: Instance }
  | { readonly kind: "registration"; readonly registration: Registration };

/** Whom an endpoint belongs to; "" for what is not known. */
export interface EndpointIdentity {
  readonly appGuid: string;
  readonly processGuid: string;
  readonly instanceGuid: string;
  /** A number, as registrations tell it. */
  readonly instanceIndex: string;
}

export interface EndpointTls {
  /** The name that its certificate must have; "" takes any that the router's CA for apps has signed. */
  readonly certSan: string;
}

/** What a destination without a port leads to, where an instance listens there. */
const DEFAULT_PORT = 8080;

/**
 * Where an instance takes the requests of a destination: at its TLS port when `dialsTls` (as Gorouter prefers it), else
 * in plain text. `containerPort` 0 stands for 8080, or for the lowest port of an instance that has no 8080.
 *
 * Returns  undefined where the router can't dial it: the instance has no such port, or it takes TLS alone.
 */
export function endpointOfInstance(
  instance: Instance,
  { appGuid, processGuid }: Pick<Process, "appGuid" | "processGuid">,
  containerPort: number,
  appName: string,
  dialsTls: boolean,
): Endpoint | undefined {
  const { address, certSan, guid, index, ports, availabilityZone } = instance;
  const port = containerPort === 0 ? defaultPort(ports) : ports.find((each) => each.containerPort === containerPort);
  if (!port) return undefined;
  const known = {
    address,
    appName,
    identity: { appGuid, processGuid, instanceGuid: guid, instanceIndex: String(index) },
    availabilityZone,
    origin: { kind: "instance" as const, instance },
  };
  if (dialsTls && port.hostTlsPort !== 0 && certSan !== "") {
    return { ...known, port: port.hostTlsPort, tls: { certSan } };
  }
  return port.hostPort === 0 ? undefined : { ...known, port: port.hostPort, tls: undefined };
}

/**
 * Returns  undefined for an endpoint of TLS when not `dialsTls`; and for one that is registered by a name, which Envoy takes
 *          in no list of endpoints: it would refuse the whole list.
 */
export function endpointOfRegistration(registration: Registration, dialsTls: boolean): Endpoint | undefined {
  const { address, port, tls, certSan, appGuid, processGuid, instanceGuid, instanceIndex, availabilityZone, tags } =
    registration;
  if ((tls && !dialsTls) || !isIpAddress(address)) return undefined;
  const appName = tags.find(({ name }) => name === "app_name")?.value ?? appGuid;
  const identity = { appGuid, processGuid, instanceGuid, instanceIndex };
  const origin = { kind: "registration" as const, registration };
  return { address, port, tls: tls ? { certSan } : undefined, appName, identity, availabilityZone, origin };
}

/** Adds those of `more` whose address and port no other has; `taken` holds what was added so far. */
export function* distinct(endpoints: Iterable<Endpoint>, taken: Set<string>): Iterable<Endpoint> {
  for (const endpoint of endpoints) {
    const socket = `${endpoint.address}:${endpoint.port}`;
    if (!taken.has(socket)) yield endpoint;
    taken.add(socket);
  }
}

function defaultPort(ports: readonly Port[]): Port | undefined {
  const usual = ports.find(({ containerPort }) => containerPort === DEFAULT_PORT);
  return usual ?? [...ports].sort((a, b) => a.containerPort - b.containerPort)[0];
}
