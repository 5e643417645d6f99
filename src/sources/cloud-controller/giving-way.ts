import { setImmediate as nextTurn } from "node:timers/promises";

/** A tenth of a page of the largest size: some milliseconds. */
const ITEMS_PER_TURN = 500;

/** The items, with a pause for whatever else waits after some of them: a hint must not wait for a page of thousands. */
export async function* givingWay<T>(items: readonly T[]): AsyncGenerator<T> {
  for (const [place, item] of items.entries()) {
    if (place > 0 && place % ITEMS_PER_TURN === 0) await nextTurn();
    yield item;
  }
}
