/** What an xDS server serves: types of named resources. It knows nothing of routing beyond this. */

/** One named message, encoded. */
export interface XdsResource {
  readonly name: string;
  /** Same content, same version. */
  readonly version: string;
  readonly body: Uint8Array;
}

export interface ResourceType {
  readonly typeUrl: string;
  /** The resource under a name as it is now; undefined when there is none. */
  get(name: string): XdsResource | undefined;
  /**
   * The resource under a name that is gone, as it last was, as far as that is remembered: for a proxy that goes by what
   * it was sent before, and asks for this only now.
   */
  former?(name: string): XdsResource | undefined;
  /** The group (here: the host) that a name belongs to; changes are told by group. */
  groupOf(name: string): string;
  /**
   * eager: a proxy that asks for everything gets every group's resource (its name is the group's), removals included,
   * which are told lingerMs late.
   * onDemand: only what was asked for by name; what ceases to exist stays with the proxy until it is retired, since
   * requests may still be using it.
   */
  readonly delivery:
    | { readonly mode: "eager"; readonly names: () => Iterable<string>; readonly lingerMs: number }
    | { readonly mode: "onDemand" };
  /** A later type whose resource of the same name has to be sent again after a change of this one. */
  readonly followedBy?: string;
  /**
   * What a resource of this type refers to, of an earlier type. A proxy that goes over from one version to another gets
   * what the new one refers to, and the old one did not, before it.
   */
  readonly uses?: {
    readonly typeUrl: string;
    names(name: string): readonly string[];
    /** Those of them that a proxy never asks for: it gets them with the first version, too. */
    neverAskedFor(name: string): readonly string[];
  };
  /**
   * A later type whose resources refer to those of this one, within their group. What vanished stays with a proxy until
   * it has confirmed that group's resources of that type, as they are now.
   */
  readonly usedBy?: string;
}
