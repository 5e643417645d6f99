/** A set of TCP routers, and the ports that may be routes of it. */
export interface RouterGroup {
  readonly guid: string;
  readonly name: string;
  readonly type: "tcp";
  /** Ports and ranges of ports: "1024-1123,2000". */
  readonly reservable_ports: string;
}

/** The one that every foundation has. Its guid is the same at each start: domains hold it. */
export const DEFAULT_ROUTER_GROUP: RouterGroup = {
  guid: "00000000-0000-4000-8000-74637064656e",
  name: "default-tcp",
  type: "tcp",
  reservable_ports: "1024-1123",
};

export const ROUTER_GROUPS: readonly RouterGroup[] = [DEFAULT_ROUTER_GROUP];
