/**
 * Questions: which items to ask a newcomer about ("do you like this?"), so that few answers tell most.
 *
 * An answer about an item of vector v reduces what is unknown of the user's taste, K, and with it the variance of scores:
 *
 *     K  <-  K - K v v'K / (1 + v'K v)          gain(v)  =  v'K W K v / (1 + v'K v),    W = sum_j c_j v_j v_j'
 *
 * The next question maximises c gain, c being the chance that the user knows the item. Source: Cohn, Ghahramani and Jordan,
 * Active Learning with Statistical Models (1996), section 4, for a linear model.
 */

import { dot, norm, type Scorer, type Taste } from "./scoring.js";
import { POPULARITY } from "./factors.js";

const KNOWN = 300;
const SATURATED = 10;
const [LOWEST, HIGHEST] = [0.1, 10];
const TINY = 1e-30;
type Matrix = Float64Array[];

/** Rows of the next n items to ask about, of `among`, the most telling first; `asked` were asked or acted on before. */
export function questions(scorer: Scorer, popularity: ArrayLike<number>, taste: Taste, asked: readonly number[], among: readonly number[], n: number): number[] {
  const rows = [...among].sort((one, other) => popularity[other] - popularity[one] || one - other).slice(0, KNOWN);
  if (!rows.length) return [];
  const { width } = scorer.factors;
  const table = scorer.likeness([...rows, ...asked]);
  const units = Array.from({ length: rows.length + asked.length }, (_, place) => {
    const vector = table.subarray(place * width, (place + 1) * width);
    const length = Math.max(norm(vector), TINY);
    return vector.map((each) => each / length);
  });
  const vectors = units.slice(0, rows.length);
  const floored = rows.map((row) => Math.max(popularity[row], 0));
  const most = Math.max(...floored, TINY);
  const known = floored.map((each) => each / most / (1 + (SATURATED * each) / most));
  const wanted: Matrix = Array.from({ length: width }, () => new Float64Array(width));
  vectors.forEach((vector, place) => vector.forEach((one, a) => one && vector.forEach((other, b) => (wanted[a][b] += known[place] * one * other))));
  const raised = raises(scorer, taste, rows);
  const chance = known.map((each, place) => each * raised[place] + TINY);
  let unknown: Matrix = Array.from({ length: width }, (_, a) => Float64Array.from({ length: width }, (__, b) => Number(a === b)));
  for (const vector of units.slice(rows.length)) unknown = lessened(unknown, vector);
  const chosen: number[] = [];
  while (chosen.length < Math.min(n, rows.length)) {
    let [best, highest] = [-1, -Infinity];
    vectors.forEach((vector, place) => {
      if (chosen.includes(place)) return;
      const along = Float64Array.from(unknown, (row) => dot(row, vector));
      const gain = wanted.reduce((total, row, a) => total + along[a] * dot(row, along), 0) / (1 + dot(along, vector));
      if (best < 0 || chance[place] * gain > highest) [best, highest] = [place, chance[place] * gain];
    });
    chosen.push(best);
    unknown = lessened(unknown, vectors[best]);
  }
  return chosen.map((place) => rows[place]);
}

/** How far a user's events raise the scores of items above what popularity gives; 1 where there are none. */
function raises(scorer: Scorer, taste: Taste, rows: readonly number[]): number[] {
  const parts = scorer.byPart(taste, rows);
  const usual = parts.get(POPULARITY);
  if (!taste.history.indices.length || !usual || parts.size < 2 || !usual.every((each) => each > 0)) return rows.map(() => 1);
  const totals = rows.map((_, place) => [...parts.values()].reduce((total, part) => total + part[place], 0));
  return totals.map((total, place) => Math.min(Math.max(total / usual[place], LOWEST), HIGHEST));
}

/** What is unknown after an answer about an item of this vector. */
function lessened(unknown: Matrix, vector: Float64Array): Matrix {
  const along = Float64Array.from(unknown, (row) => dot(row, vector));
  const by = 1 + dot(vector, along);
  return unknown.map((row, a) => row.map((each, b) => each - (along[a] * along[b]) / by));
}
