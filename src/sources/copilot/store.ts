/** The state of the copilot API: in the log first, in memory then. One change at a time. */
import { decodeAssociation, decodeRoute } from "../../entries/entries.js";
import { KEY_SPACES } from "../../entries/keys.js";
import { asError } from "../../lib/errors.js";
import type { KeySpaceWriter, Want, WriteCounts } from "../../log/key-space-writer.js";
import type { MeshLog } from "../../log/log.js";
import type { Told } from "./bulk.js";
import { MAX_GUIDS_PER_ENTRY, type ToldAssociation, type ToldMapping } from "./edge.js";
import { Refusal, tooManyMappings, vipsExhausted, vipTaken } from "./faults.js";
import { type MappedRoute, NO_WEIGHTS, Picture, routeOfEntry, type ToldRoute, untold } from "./picture.js";
import { associationDeletes, associationPuts, associationWant, pictureOf, routeChanges, routeWant } from "./changes.js";
import { chooseVip, type VipRange } from "./vips.js";
import { planVips } from "./vip-plan.js";

export interface StoreOptions {
  readonly log: Pick<MeshLog, "read">;
  /** Of KEY_SPACES.copilotRoutes and copilotAssociations. */
  readonly routes: KeySpaceWriter;
  readonly associations: KeySpaceWriter;
  readonly vipRange: VipRange;
}

type Changed = Pick<WriteCounts, "written" | "deleted">;

export interface ReplaceReport {
  readonly routes: Changed;
  readonly associations: Changed;
  /** As in VipPlan. */
  readonly displaced: readonly string[];
}

/** Reads what an earlier run left. Throws what the log throws. */
export async function openStore(options: StoreOptions): Promise<CopilotStore> {
  return new CopilotStore(options, await readPicture(options.log));
}

async function readPicture(log: Pick<MeshLog, "read">): Promise<Picture> {
  const picture = new Picture();
  for await (const entries of log.read(KEY_SPACES.copilotRoutes)) {
    for (const { value } of entries) if (value) picture.putRoute(routeOfEntry(decodeRoute(value)));
  }
  for await (const entries of log.read(KEY_SPACES.copilotAssociations)) {
    for (const { value } of entries) {
      if (!value) continue;
      const { processGuid, lrpProcessGuids } = decodeAssociation(value);
      picture.putAssociation(processGuid, lrpProcessGuids);
    }
  }
  return picture;
}

/**
 * Every change resolves when it is durable, and is seen in `picture` from then on.
 *
 * Throws   a Refusal for what can't be done; what the log throws when it can't be written: the picture is then what the
 *          log holds.
 */
export class CopilotStore {
  readonly #options: StoreOptions;
  #picture: Picture;
  /** True when the log may hold a part of a change that failed. */
  #isDoubtful = false;
  #lastFault: Error | undefined;
  #lastChange: Promise<unknown> = Promise.resolve();

  constructor(options: StoreOptions, picture: Picture) {
    this.#options = options;
    this.#picture = picture;
  }

  get picture(): Picture {
    return this.#picture;
  }

  /** Why the last change could not be written; undefined when it was. */
  get lastFault(): Error | undefined {
    return this.#lastFault;
  }

  upsertRoute(told: ToldRoute): Promise<void> {
    return this.#inTurn(() => {
      const before = this.#picture.routes.get(told.guid);
      return this.#put({ ...told, vip: this.#vipFor(told), weights: before?.weights ?? NO_WEIGHTS });
    });
  }

  /** Mappings stay, for the route may be told again. */
  deleteRoute(guid: string): Promise<void> {
    return this.#inTurn(() => this.#put(untold(guid, this.#weightsOf(guid))));
  }

  /** A mapping that is there already gets the new weight. */
  map({ routeGuid, processGuid, weight }: ToldMapping): Promise<void> {
    return this.#inTurn(() => {
      const weights = new Map(this.#weightsOf(routeGuid)).set(processGuid, weight);
      if (weights.size > MAX_GUIDS_PER_ENTRY) throw tooManyMappings(routeGuid, MAX_GUIDS_PER_ENTRY);
      return this.#put({ ...(this.#picture.routes.get(routeGuid) ?? untold(routeGuid)), weights });
    });
  }

  unmap({ routeGuid, processGuid }: Pick<ToldMapping, "routeGuid" | "processGuid">): Promise<void> {
    return this.#inTurn(() => {
      const weights = new Map(this.#weightsOf(routeGuid));
      weights.delete(processGuid);
      return this.#put({ ...(this.#picture.routes.get(routeGuid) ?? untold(routeGuid)), weights });
    });
  }

  associate({ processGuid, lrpProcessGuids }: ToldAssociation): Promise<void> {
    return this.#inTurn(async () => {
      await this.#options.associations.apply([associationWant(processGuid, lrpProcessGuids)]);
      this.#picture.putAssociation(processGuid, lrpProcessGuids);
    });
  }

  dissociate(processGuid: string): Promise<void> {
    return this.#inTurn(async () => {
      if (!this.#picture.associations.has(processGuid)) return;
      await this.#options.associations.apply([associationWant(processGuid, undefined)]);
      this.#picture.removeAssociation(processGuid);
    });
  }

  /** Makes all three sets so. What is new is in the log before anything that goes: no host is without a route meanwhile. */
  replaceAll(told: Told): Promise<ReplaceReport> {
    return this.#inTurn(async () => {
      const { routes, associations, vipRange } = this.#options;
      const before = this.#picture;
      const plan = planVips(told.routes.values(), before, vipRange);
      if (!plan) throw vipsExhausted(vipRange.cidr);
      const next = await pictureOf(told, plan.vips);
      const associated = await applyAll(associations, associationPuts(before, next));
      const routed = await applyAll(routes, routeChanges(before, next));
      const dissociated = await applyAll(associations, associationDeletes(before, next));
      this.#picture = next;
      return {
        routes: routed,
        associations: { written: associated.written, deleted: dissociated.deleted },
        displaced: plan.displaced,
      };
    });
  }

  /** Resolves when no change is under way. */
  async idle(): Promise<void> {
    await this.#lastChange;
  }

  #weightsOf(routeGuid: string): ReadonlyMap<string, number> {
    return this.#picture.routes.get(routeGuid)?.weights ?? NO_WEIGHTS;
  }

  /** What the client names, else what the route has, else a free one for an internal route. */
  #vipFor({ guid, vip, internal }: ToldRoute): string {
    if (vip !== "") {
      const holder = this.#picture.holderOf(vip);
      if (holder !== undefined && holder !== guid) throw vipTaken(vip, holder);
      return vip;
    }
    const own = this.#picture.routes.get(guid)?.vip ?? "";
    if (own !== "" || !internal) return own;
    const { vipRange } = this.#options;
    const chosen = chooseVip(vipRange, guid, (one) => this.#picture.holderOf(one) !== undefined);
    if (chosen === undefined) throw vipsExhausted(vipRange.cidr);
    return chosen;
  }

  /** A route that was neither told nor mapped is none. */
  async #put(route: MappedRoute): Promise<void> {
    const isGone = route.host === "" && route.weights.size === 0;
    if (isGone && !this.#picture.routes.has(route.guid)) return;
    await this.#options.routes.apply([routeWant(route.guid, isGone ? undefined : route)]);
    if (isGone) this.#picture.removeRoute(route.guid);
    else this.#picture.putRoute(route);
  }

  /** Runs the change after those before it, whatever became of them. */
  #inTurn<T>(change: () => Promise<T>): Promise<T> {
    const result = this.#lastChange.then(async () => {
      await this.#settleDoubt();
      return this.#attempt(change);
    });
    this.#lastChange = result.catch(() => undefined);
    return result;
  }

  async #attempt<T>(change: () => Promise<T>): Promise<T> {
    try {
      const answer = await change();
      this.#lastFault = undefined;
      return answer;
    } catch (error) {
      // A refusal comes before anything is written.
      if (error instanceof Refusal) throw error;
      this.#lastFault = asError(error);
      this.#isDoubtful = true;
      // Where even this fails, the next change begins with it.
      await this.#settleDoubt().catch(() => undefined);
      throw error;
    }
  }

  async #settleDoubt(): Promise<void> {
    if (!this.#isDoubtful) return;
    this.#picture = await readPicture(this.#options.log);
    this.#isDoubtful = false;
  }
}

const WANTS_PER_APPLY = 5_000;

/** Piece by piece: the encoded entries of a hundred thousand routes need not be in memory at once. */
async function applyAll(writer: KeySpaceWriter, wants: Iterable<Want>): Promise<Changed> {
  let changed = { written: 0, deleted: 0 };
  let piece: Want[] = [];
  const apply = async () => {
    const { written, deleted } = await writer.apply(piece);
    changed = { written: changed.written + written, deleted: changed.deleted + deleted };
    piece = [];
  };
  for (const want of wants) {
    piece.push(want);
    if (piece.length >= WANTS_PER_APPLY) await apply();
  }
  await apply();
  return changed;
}
