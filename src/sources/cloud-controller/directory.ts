/** What routes are joined with, held in as few words as the joins need: domains, apps with their processes, spaces, bindings, policies. */
import { RouteBindings } from "./route-bindings.js";
import { RoutePolicies } from "./route-policies.js";

export interface DomainFacts {
  /** Lower case. */
  readonly name: string;
  readonly internal: boolean;
  /** "tcp" for domains of TCP routers. */
  readonly protocol: "http" | "tcp";
  /** "" where the domain enforces no route policies. It may be one that is not known. */
  readonly routePolicyScope: string;
}

export interface ProcessReference {
  readonly guid: string;
  readonly type: string;
}

export interface AppFacts {
  readonly name: string;
  /** "" where it is not known. */
  readonly spaceGuid: string;
  /** In the order of their guids. Two of one type stand side by side during a rolling deployment. */
  readonly processes: readonly ProcessReference[];
}

export interface SpaceFacts {
  readonly name: string;
  readonly organizationGuid: string;
  readonly organizationName: string;
}

export class Directory {
  readonly domains = new Map<string, DomainFacts>();
  readonly apps = new Map<string, AppFacts>();
  readonly spaces = new Map<string, SpaceFacts>();
  readonly bindings = new RouteBindings();
  readonly policies = new RoutePolicies();
  readonly #spaceGuids = new Map<string, string>();

  /** Adds a process to what is known of its app, known by name yet or not. */
  addProcess(appGuid: string, process: ProcessReference): void {
    const { name = "", spaceGuid = "", processes = [] } = this.apps.get(appGuid) ?? {};
    if (processes.some(({ guid }) => guid === process.guid)) return;
    this.apps.set(appGuid, { name, spaceGuid, processes: [...processes, process].sort(byGuid) });
  }

  nameApp(appGuid: string, name: string, spaceGuid: string): void {
    this.apps.set(appGuid, {
      name,
      spaceGuid: this.#shared(spaceGuid),
      processes: this.apps.get(appGuid)?.processes ?? [],
    });
  }

  /** undefined: the app is gone. */
  setApp(appGuid: string, facts: AppFacts | undefined): void {
    if (facts === undefined) this.apps.delete(appGuid);
    else this.apps.set(appGuid, facts);
  }

  /** The apps of processes that are known here, by the guid of the process. */
  appsOfProcesses(processGuids: Iterable<string>): ReadonlyMap<string, string> {
    const found = new Map<string, string>();
    const others = new Set<string>();
    for (const guid of processGuids) {
      // An app's first web process has its guid: nearly all are found without a search.
      if (this.apps.get(guid)?.processes.some((process) => process.guid === guid)) found.set(guid, guid);
      else others.add(guid);
    }
    if (others.size === 0) return found;
    for (const [appGuid, { processes }] of this.apps) {
      for (const { guid } of processes) if (others.has(guid)) found.set(guid, appGuid);
    }
    return found;
  }

  /** One string for each space instead of one for each of its apps. */
  #shared(spaceGuid: string): string {
    const known = this.#spaceGuids.get(spaceGuid);
    if (known === undefined) this.#spaceGuids.set(spaceGuid, spaceGuid);
    return known ?? spaceGuid;
  }

  processGuids(appGuid: string, type: string): readonly string[] {
    const processes = this.apps.get(appGuid)?.processes ?? [];
    return processes.filter((process) => process.type === type).map(({ guid }) => guid);
  }
}

export function sameApp(one: AppFacts | undefined, other: AppFacts | undefined): boolean {
  if (one === undefined || other === undefined) return one === other;
  return (
    one.name === other.name &&
    one.spaceGuid === other.spaceGuid &&
    one.processes.length === other.processes.length &&
    one.processes.every(({ guid, type }, place) => {
      const twin = other.processes[place];
      return twin !== undefined && guid === twin.guid && type === twin.type;
    })
  );
}

function byGuid(a: { readonly guid: string }, b: { readonly guid: string }): number {
  return a.guid < b.guid ? -1 : a.guid > b.guid ? 1 : 0;
}
