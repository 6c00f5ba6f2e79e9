/**
 * Baskets: what goes with some items, whoever has them; what a session adds to a user's history for one list; and which
 * lists of items fit. As `palate_client.recommend.baskets`: nothing is asked of anybody, and nothing is stored.
 */

import { POPULARITY } from "./factors.js";
import { rising, sum, type History } from "./interests.js";
import type { Scorer, Taste } from "./scoring.js";

/** The weight of popularity in what goes with a basket: what many have goes with everything, and tells little. */
const POPULAR = 0.5;
/** The last item of a session weighs so many times as much as the history's items on average; each one before it a share of that. */
const [LAST, FADES] = [2, 0.5];
/** A list of items counts as if it had so many more, of the middle of all that are compared. */
const UNSEEN = 3;

/** The n rows that go with those of a basket, best first, and their scores. */
export function goesWith(scorer: Scorer, basket: Int32Array, n: number, without: readonly number[], among: ArrayLike<number> | null): { row: number; score: number }[] {
  if (!basket.length) return [];
  const alone = { indices: basket, weights: new Float32Array(basket.length).fill(1), nItems: scorer.factors.nItems };
  const taste = scorer.taste(alone, new Int32Array(), { [POPULARITY]: POPULAR });
  const rows = scorer.topOnce(taste, n, [...basket, ...without], among);
  const scores = scorer.scores(taste, rows);
  return Array.from(rows, (row, place) => ({ row, score: scores[place] }));
}

/** The history with rows that the user just saw, last one last; of a row twice the later counts. */
export function inSession(history: History, session: readonly number[]): History {
  if (!session.length) return history;
  const usual = history.weights.length ? sum(history.weights) / history.weights.length : 1;
  const weights = new Map(Array.from(history.indices, (row, place) => [row, history.weights[place]]));
  [...new Set([...session].reverse())].forEach((row, place) => weights.set(row, (weights.get(row) ?? 0) + LAST * usual * FADES ** place));
  const indices = rising(weights.keys());
  return { ...history, indices, weights: Float32Array.from(indices, (row) => weights.get(row) as number) };
}

/** The n lists that fit a taste best, by the mean score of their rows, nearer to that of all the shorter they are; none with an unwanted row. */
export function bestLists(scorer: Scorer, taste: Taste, lists: readonly (readonly [name: string, rows: Int32Array])[], n: number, unwanted: Int32Array): { name: string; score: number }[] {
  const left = lists.filter(([, rows]) => rows.length && !rows.some((row) => unwanted.includes(row)));
  const scores = left.map(([, rows]) => scorer.scores(taste, rows));
  const middle = scores.reduce((total, each) => total + sum(each), 0) / scores.reduce((total, each) => total + each.length, 0);
  const fits = left.map(([name], place) => ({ name, score: (sum(scores[place]) + UNSEEN * middle) / (scores[place].length + UNSEEN) }));
  return fits.sort((one, other) => other.score - one.score).slice(0, n);
}
