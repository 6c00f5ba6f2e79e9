/**
 * Reasons: which events the reason of a recommended item names. Without them it would stand lower.
 *
 * Each event is left out in turn, and the candidates are ranked again. Named are those without any one of which the item
 * falls; else the two or three without which, together, it does. What everybody is shown is not said to come from
 * somebody's events, then.
 */

import { LEAST, TOLD } from "./explanation.js";
import { sum } from "./interests.js";
import type { Added, Scorer, Taste } from "./scoring.js";

/**
 * What each reason names, as places in the user's history, largest contribution first.
 *
 * @param pool - rows of the candidates.
 * @param shown - places among these of the items that are shown; -1 of one that isn't there, whose reason names nothing.
 * @param added - what events add to each shown item's score; null of one that isn't among the candidates.
 */
export function namedEvents(scorer: Scorer, taste: Taste, pool: ArrayLike<number>, shown: readonly number[], added: readonly (Added | null)[]): number[][] {
  const count = taste.history.indices.length;
  const scores = scorer.scores(taste, pool);
  const able = added.map((each) => {
    const all = each?.all.subarray(0, count) ?? new Float64Array(0);
    const least = LEAST * all.reduce((most, much) => Math.max(most, much), 0);
    return [...all.keys()].filter((event) => all[event] > 0 && all[event] >= least);
  });
  const events = [...new Set(able.flat())].sort((one, other) => one - other);
  if (!events.length) return shown.map(() => []);
  const without = scorer.without(taste, pool, events, new Map(shown.flatMap((place, number) => (place < 0 ? [] : [[place, added[number] as Added] as const]))));
  const falling = Array.from(scores.keys()).sort((one, other) => scores[other] - scores[one]);
  // An item falls only if another passes it: of nearly all events, the highest of those that weren't above it tells.
  const fewer = new Map(events.map((event) => {
    const rest = without([event]);
    const others = new Float64Array(rest.length);
    for (let at = others.length - 1, highest = -Infinity; at >= 0; at -= 1) others[at] = highest = Math.max(highest, rest[falling[at]]);
    return [event, { rest, others, mean: sum(rest) / rest.length }];
  }));
  const above = (all: Float64Array, place: number): number => {
    let n = 0;
    for (let at = 0; at < all.length; at += 1) if (all[at] > all[place]) n += 1;
    return n;
  };
  const largest = (events: number[], of: (event: number) => number) => events.sort((one, other) => of(other) - of(one)).slice(0, TOLD);
  return shown.map((place, number) => {
    if (place < 0) return [];
    const { all } = added[number] as Added;
    const before = above(scores, place);
    const of = (event: number) => fewer.get(event) as { rest: Float64Array; others: Float64Array; mean: number };
    const alone = able[number].filter((event) => of(event).others[before] > of(event).rest[place] && (!before || above(of(event).rest, place) > before));
    if (alone.length) return largest(alone, (event) => all[event]);
    const best = largest(able[number], (event) => of(event).mean - of(event).rest[place]);
    for (let n = 2; n <= best.length; n += 1) {
      const them = best.slice(0, n);
      if (above(without(them), place) > before) return largest(them, (event) => all[event]);
    }
    return [];
  });
}
