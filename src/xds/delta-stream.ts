/**
 * One proxy's delta xDS stream as a state machine: requests and changes in, responses out. Pure; time is an argument.
 *
 * Versions are content hashes. A response holds only what differs from what the proxy holds, and is taken to be held
 * once sent: an ACK confirms it, a NACK is narrowed down to the resource at fault, which is then left alone until its
 * content changes.
 */
import type { DeltaDiscoveryRequest } from "../gen/envoy/service/discovery/v3/discovery_pb.js";
import type { DeltaResponse } from "./encode-response.js";
import type { ResourceType, XdsResource } from "./resources.js";
import { Subscription } from "./subscription.js";

/** Resources of an eager type in one response: what a proxy applies in some milliseconds. */
const EAGER_BATCH = 20_000;

/** While there is more than a batch to send, the next one is written as the proxy applies the one before. */
const EAGER_WINDOW = 2;

/**
 * A proxy applies a push of an eager type at a cost that grows with all it holds. Changes are joined for this many
 * times what the last push took it, so that applying them never keeps it busy for more than a part of its time.
 */
const EAGER_PAUSE_FACTOR = 2;

export interface Refusal {
  readonly typeUrl: string;
  readonly name: string;
  readonly version: string;
  readonly reason: string;
}

export interface TypeStatus {
  readonly typeUrl: string;
  readonly heldCount: number;
  /** Responses sent, confirmed, and refused in whole or in part. */
  readonly pushes: number;
  readonly acks: number;
  readonly nacks: number;
  /** Responses without an answer yet. */
  readonly unanswered: number;
  /** Changed and not sent yet. */
  readonly pending: number;
  /** The proxy has had all of it at once, confirmed, at some time since it connected. Types on demand have no such moment. */
  readonly wasComplete: boolean;
}

interface Sent {
  readonly names: readonly (readonly [string, string])[];
  readonly atMs: number;
}

interface TypeState {
  readonly subscription: Subscription;
  readonly pending: Set<string>;
  readonly unanswered: Map<string, Sent>;
  /** Parts of a refused response, to be sent one by one. */
  readonly retries: string[][];
  readonly refusals: Map<string, Refusal>;
  /** Held by the proxy, of an on-demand type, and no longer there. */
  readonly vanished: Set<string>;
  /** Of each resource that refers to others, what it refers to in the version that the proxy holds. */
  readonly uses: Map<string, ReadonlySet<string>>;
  /** Of an eager type: what is gone, and when the proxy is told; the first to be told comes first. */
  readonly leaving: Map<string, number>;
  /** It asked for everything, and waits to hear, were it that there is nothing. */
  answerDue: boolean;
  wasComplete: boolean;
  pushes: number;
  acks: number;
  nacks: number;
  lastPushTookMs: number;
  lastAnswerMs: number;
}

export interface DeltaStreamEvents {
  send(response: DeltaResponse): void;
  /** One resource that the proxy does not accept; it goes on with the version before. */
  refused(refusal: Refusal): void;
}

export class DeltaStream {
  readonly #types: ReadonlyMap<string, ResourceType>;
  readonly #events: DeltaStreamEvents;
  readonly #states = new Map<string, TypeState>();
  #nonce = 0;

  /** `types` in the order in which changes are sent: first what others refer to. */
  constructor(types: readonly ResourceType[], events: DeltaStreamEvents) {
    this.#types = new Map(types.map((type) => [type.typeUrl, type]));
    this.#events = events;
  }

  /** Returns false for a type that is not served. */
  receive(request: DeltaDiscoveryRequest, nowMs: number): boolean {
    const type = this.#types.get(request.typeUrl);
    if (!type) return false;
    const known = this.#states.get(type.typeUrl);
    const state = known ?? newState(type);
    this.#states.set(type.typeUrl, state);
    if (request.responseNonce !== "") this.#answered(state, request, nowMs);

    const { subscription } = state;
    subscription.resume(Object.entries(request.initialResourceVersions));
    for (const name of request.resourceNamesUnsubscribe) {
      subscription.unsubscribe(name);
      state.pending.delete(name);
      state.vanished.delete(name);
      state.uses.delete(name);
    }
    // Nobody named on the first request means everything.
    const asksAll = !known && request.resourceNamesSubscribe.length === 0;
    if (asksAll || request.resourceNamesSubscribe.includes("*")) {
      subscription.wantAll();
      state.answerDue = true;
      for (const name of subscription.names()) state.pending.add(name);
    }
    for (const name of request.resourceNamesSubscribe) {
      if (name === "*") continue;
      subscription.subscribe(name);
      // Asked for anew, it must be answered even when nothing changed: the proxy waits for it.
      if (request.initialResourceVersions[name] === undefined) subscription.told(name, "?");
      state.pending.add(name);
    }
    this.flush(nowMs);
    return true;
  }

  /** Notes that the resources of these groups may have changed; `flush` sends what really did. */
  changed(groups: Iterable<string>): void {
    for (const group of groups) {
      for (const { subscription, pending } of this.#states.values()) {
        for (const name of subscription.namesOf(group)) pending.add(name);
      }
    }
  }

  /** What the proxy holds of an on-demand type that no longer exists, and that nothing it goes by refers to. */
  vanished(typeUrl: string): readonly string[] {
    const state = this.#states.get(typeUrl);
    if (!state || state.vanished.size === 0) return [];
    const { type } = state.subscription;
    if (type.usedBy === undefined) return [...state.vanished];
    const users = this.#states.get(type.usedBy);
    // A proxy that has just come back has not told yet by which it goes.
    if (!users) return [];
    const unconfirmed = unconfirmedNames(users);
    const isUsed = (name: string) =>
      [...users.subscription.namesOf(type.groupOf(name))].some((user) => unconfirmed.has(user));
    return [...state.vanished].filter((name) => !isUsed(name));
  }

  /**
   * Tells the proxy to drop those of `names` that are vanished still. Envoy never asks again for a name that was removed,
   * so its subscription stays: the resource is sent as soon as it exists again.
   */
  retire(typeUrl: string, names: readonly string[], nowMs: number): void {
    const state = this.#states.get(typeUrl);
    const vanished = new Set(this.vanished(typeUrl));
    const gone = names.filter((name) => vanished.has(name));
    if (!state || gone.length === 0) return;
    for (const name of gone) state.vanished.delete(name);
    this.#send(state, [], gone, nowMs);
  }

  /** Sends what may be sent now. Returns the time in ms to call again at; undefined when nothing waits for time. */
  flush(nowMs: number): number | undefined {
    let next: number | undefined;
    for (const typeUrl of this.#types.keys()) {
      const state = this.#states.get(typeUrl);
      if (!state) continue;
      next = earliest(next, this.#flushType(state, nowMs));
      if (state.subscription.wantsAll && isSettled(state)) state.wasComplete = true;
    }
    return next;
  }

  status(): readonly TypeStatus[] {
    return [...this.#states.values()].map((state) => ({
      typeUrl: state.subscription.type.typeUrl,
      heldCount: state.subscription.heldCount,
      pushes: state.pushes,
      acks: state.acks,
      nacks: state.nacks,
      unanswered: state.unanswered.size,
      pending: state.pending.size,
      wasComplete: state.wasComplete,
    }));
  }

  /** What the proxy does not accept, now. */
  refusals(): readonly Refusal[] {
    return [...this.#states.values()].flatMap(({ refusals }) => [...refusals.values()]);
  }

  #flushType(state: TypeState, nowMs: number): number | undefined {
    if (state.retries.length > 0) {
      this.#retryPart(state, nowMs);
      return undefined;
    }
    const eager = state.subscription.wantsAll;
    if (eager) {
      for (const [name, dueMs] of state.leaving) {
        if (dueMs > nowMs) break;
        state.pending.add(name);
      }
      if (state.unanswered.size >= windowOf(state)) return undefined;
      const dueMs = state.lastAnswerMs + EAGER_PAUSE_FACTOR * state.lastPushTookMs;
      if (state.pending.size < EAGER_BATCH && state.pending.size > 0 && nowMs < dueMs) return dueMs;
    }
    while (state.pending.size > 0) {
      this.#sendDifferences(state, eager ? EAGER_BATCH : state.pending.size, nowMs);
      if (eager && state.unanswered.size >= windowOf(state)) return undefined;
    }
    if (state.answerDue) this.#send(state, [], [], nowMs);
    for (const dueMs of state.leaving.values()) return dueMs;
    return undefined;
  }

  #sendDifferences(state: TypeState, limit: number, nowMs: number): void {
    const { subscription, pending, refusals } = state;
    const changed: XdsResource[] = [];
    const removed: string[] = [];
    for (const name of pending) {
      if (changed.length + removed.length >= limit) break;
      pending.delete(name);
      const held = subscription.heldVersion(name);
      const resource = subscription.type.get(name);
      if (resource) {
        state.vanished.delete(name);
        state.leaving.delete(name);
        this.#giveWhatItUses(state, name, nowMs);
        if (resource.version !== held) changed.push(resource);
        continue;
      }
      if (subscription.wantsAll) {
        if (held !== undefined && mayLeave(state, name, nowMs)) removed.push(name);
        continue;
      }
      // Gone. Of an on-demand type only those who have nothing yet are told: they wait for an answer.
      const former = held === "?" ? subscription.type.former?.(name) : undefined;
      if (former) changed.push(former);
      if (held === "?" && !former) removed.push(name);
      else if (held !== undefined && held !== "") state.vanished.add(name);
    }
    if (changed.length + removed.length === 0) return;
    for (const { name } of changed) refusals.delete(name);
    this.#resendFollowers(subscription.type, changed);
    this.#send(state, changed, removed, nowMs);
  }

  /** New ones before what refers to them: a proxy that had to ask could do so when there is nobody to answer. */
  #giveWhatItUses({ subscription, uses }: TypeState, name: string, nowMs: number): void {
    const { type } = subscription;
    const used = type.uses && this.#states.get(type.uses.typeUrl);
    if (!type.uses || !used) return;
    const before = uses.get(name);
    const names = new Set(type.uses.names(name));
    uses.set(name, names);
    if (!used.subscription.takesUnasked) return;
    const fresh = before ? [...names].filter((one) => !before.has(one)) : type.uses.neverAskedFor(name);
    const lacking = fresh.filter((one) => !used.subscription.heldVersion(one));
    for (const one of lacking) {
      used.subscription.subscribe(one);
      used.pending.add(one);
    }
    if (lacking.length === 0) return;
    this.#flushType(used, nowMs);
    const followers = this.#states.get(used.subscription.type.followedBy ?? "");
    if (followers) this.#flushType(followers, nowMs);
  }

  #resendFollowers(type: ResourceType, changed: readonly { name: string }[]): void {
    const followers = type.followedBy === undefined ? undefined : this.#states.get(type.followedBy);
    if (!followers) return;
    for (const { name } of changed) {
      if (followers.subscription.heldVersion(name) === undefined) continue;
      followers.subscription.told(name, "?");
      followers.pending.add(name);
    }
  }

  #send(state: TypeState, changed: readonly XdsResource[], removed: readonly string[], nowMs: number): void {
    const { typeUrl } = state.subscription.type;
    this.#nonce += 1;
    const nonce = String(this.#nonce);
    for (const { name, version } of changed) state.subscription.told(name, version);
    for (const name of removed)
      if (state.subscription.heldVersion(name) !== undefined) state.subscription.told(name, "");
    state.unanswered.set(nonce, { names: changed.map(({ name, version }) => [name, version]), atMs: nowMs });
    state.pushes += 1;
    state.answerDue = false;
    this.#events.send({ typeUrl, nonce, resources: changed, removedResources: removed });
  }

  #answered(state: TypeState, request: DeltaDiscoveryRequest, nowMs: number): void {
    const sent = state.unanswered.get(request.responseNonce);
    if (!sent) return;
    state.unanswered.delete(request.responseNonce);
    state.lastPushTookMs = nowMs - sent.atMs;
    state.lastAnswerMs = nowMs;
    if (!request.errorDetail) {
      state.acks += 1;
      return;
    }
    state.nacks += 1;
    const names = sent.names.map(([name]) => name);
    const [first] = sent.names;
    if (sent.names.length === 1 && first) {
      const [name, version] = first;
      const refusal = { typeUrl: request.typeUrl, name, version, reason: request.errorDetail.message };
      state.refusals.set(name, refusal);
      this.#events.refused(refusal);
      return;
    }
    // One bad resource may have cost its neighbours their place: halves find it.
    const middle = Math.ceil(names.length / 2);
    for (const half of [names.slice(0, middle), names.slice(middle)]) if (half.length > 0) state.retries.push(half);
  }

  #retryPart(state: TypeState, nowMs: number): void {
    if (state.unanswered.size > 0) return;
    const part = state.retries.shift() ?? [];
    const { subscription } = state;
    const resources = part.flatMap((name) => subscription.type.get(name) ?? []);
    if (resources.length > 0) this.#send(state, resources, [], nowMs);
    else this.#flushType(state, nowMs);
  }
}

function isSettled({ pending, unanswered, retries }: TypeState): boolean {
  return pending.size === 0 && unanswered.size === 0 && retries.length === 0;
}

/** Of these resources the proxy may go by another version than there is, or not know that they are gone. */
function unconfirmedNames({ pending, unanswered, retries, refusals }: TypeState): ReadonlySet<string> {
  const sent = [...unanswered.values()].flatMap(({ names }) => names.map(([name]) => name));
  return new Set([...pending, ...sent, ...retries.flat(), ...refusals.keys()]);
}

/** Whether the proxy may be told now that a resource of an eager type is gone; takes down when it may, the first time. */
function mayLeave({ subscription, leaving }: TypeState, name: string, nowMs: number): boolean {
  const { delivery } = subscription.type;
  const lingerMs = delivery.mode === "eager" ? delivery.lingerMs : 0;
  const dueMs = leaving.get(name) ?? nowMs + lingerMs;
  if (dueMs > nowMs) leaving.set(name, dueMs);
  else leaving.delete(name);
  return dueMs <= nowMs;
}

/** How many responses of an eager type may be without an answer before the next one. */
function windowOf({ pending }: TypeState): number {
  return pending.size >= EAGER_BATCH ? EAGER_WINDOW : 1;
}

function newState(type: ResourceType): TypeState {
  return {
    subscription: new Subscription(type),
    pending: new Set(),
    unanswered: new Map(),
    retries: [],
    refusals: new Map(),
    vanished: new Set(),
    uses: new Map(),
    leaving: new Map(),
    answerDue: false,
    wasComplete: false,
    pushes: 0,
    acks: 0,
    nacks: 0,
    lastPushTookMs: 0,
    lastAnswerMs: 0,
  };
}

function earliest(a: number | undefined, b: number | undefined): number | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  return Math.min(a, b);
}
