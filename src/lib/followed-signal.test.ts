import { expect, it } from "vitest";
import { followed } from "./followed-signal.js";

it("a followed signal ends what follows it, until that lets go; what follows may end before", () => {
  const [first, second, third] = [new AbortController(), new AbortController(), new AbortController()];
  const ended = followed(first.signal);
  const reason = new Error("over");
  first.abort(reason);
  expect(ended.signal.reason).toBe(reason);
  expect(followed(first.signal).signal.aborted).toBe(true);

  const own = followed(second.signal);
  own.abort(reason);
  expect([own.signal.aborted, second.signal.aborted]).toEqual([true, false]);

  const gone = followed(third.signal);
  gone.letGo();
  third.abort();
  expect(gone.signal.aborted).toBe(false);
});
