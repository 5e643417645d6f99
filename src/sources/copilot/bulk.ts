/** The bytes of a BulkSyncRequest, decoded piece by piece: a hundred thousand routes must not hold up other calls. */
import { setImmediate as nextTurn } from "node:timers/promises";
import { asError } from "../../lib/errors.js";
import { type BulkItem, readBulkItems } from "./bulk-reader.js";
import {
  associationProblem,
  mappingProblem,
  MAX_GUIDS_PER_ENTRY,
  routeProblem,
  toldAssociation,
  toldMapping,
  type ToldMapping,
  toldRoute,
} from "./edge.js";
import { undecodableBulk } from "./faults.js";
import type { ToldRoute } from "./picture.js";

/** All that a client wants to be so. Of two items with one key the later one counts, as copilot has it. */
export interface Told {
  readonly routes: ReadonlyMap<string, ToldRoute>;
  /** Weights by process guid, by route guid. */
  readonly weights: ReadonlyMap<string, ReadonlyMap<string, number>>;
  /** Diego's process guids by Cloud Controller's. */
  readonly associations: ReadonlyMap<string, readonly string[]>;
  readonly leftOut: LeftOut;
}

/** Items that can't be taken over are left out alone. */
export interface LeftOut {
  readonly count: number;
  /** The first few. */
  readonly examples: readonly string[];
}

const EXAMPLES = 5;
const ITEMS_PER_TURN = 2_000;

/** Throws a Refusal for bytes that are no BulkSyncRequest. No bytes at all are an empty one. */
export async function decodeBulk(bytes: Buffer): Promise<Told> {
  const bulk = new Bulk();
  let items = 0;
  try {
    for (const item of readBulkItems(bytes)) {
      bulk.take(item);
      items += 1;
      if (items % ITEMS_PER_TURN === 0) await nextTurn();
    }
  } catch (thrown) {
    throw undecodableBulk(asError(thrown));
  }
  return bulk;
}

class Bulk implements Told {
  readonly routes = new Map<string, ToldRoute>();
  readonly weights = new Map<string, Map<string, number>>();
  readonly associations = new Map<string, readonly string[]>();
  readonly #examples: string[] = [];
  #leftOutCount = 0;

  get leftOut(): LeftOut {
    return { count: this.#leftOutCount, examples: this.#examples };
  }

  take(item: BulkItem): void {
    const problem = this.#takeItem(item);
    if (problem === undefined) return;
    this.#leftOutCount += 1;
    if (this.#examples.length < EXAMPLES) this.#examples.push(problem);
  }

  /** Returns why it is left out, if it is. */
  #takeItem(item: BulkItem): string | undefined {
    switch (item.kind) {
      case "route": {
        const problem = routeProblem(item.route);
        if (problem === undefined) this.routes.set(item.route.guid, toldRoute(item.route));
        return problem;
      }
      case "mapping":
        return mappingProblem(item.mapping) ?? this.#map(toldMapping(item.mapping));
      case "association": {
        const problem = associationProblem(item.association);
        const { processGuid, lrpProcessGuids } = toldAssociation(item.association);
        if (problem === undefined) this.associations.set(processGuid, lrpProcessGuids);
        return problem;
      }
    }
  }

  #map({ routeGuid, processGuid, weight }: ToldMapping): string | undefined {
    const weights = this.weights.get(routeGuid) ?? new Map<string, number>();
    if (weights.size >= MAX_GUIDS_PER_ENTRY && !weights.has(processGuid)) {
      return `route ${routeGuid} has more than ${MAX_GUIDS_PER_ENTRY} mappings`;
    }
    this.weights.set(routeGuid, weights.set(processGuid, weight));
    return undefined;
  }
}
