/**
 * Fusion: the weight of each source of a score for this user, learned on the device from the user's own events.
 *
 * Half of the events are hidden, then the other half. Among the first 200 items the hidden ones should rank above the others:
 * a conditional logit over the parts of the scores, with a Gaussian prior around the model's own weights. Source: McFadden,
 * Conditional Logit Analysis of Qualitative Choice Behavior (1974). The weights are kept in memory only.
 */

import { PublicRandom } from "../../algorithms/numpy.js";
import { entries, type History } from "../interests.js";
import { dot, type Scorer } from "../scoring.js";

const [FOLDS, FIRST, LEAST, SPREAD, STEPS, TINY] = [2, 200, 4, 0.1, 12, 1e-12];

type Matrix = Float64Array[];
/** For one fold, the score parts of its hidden items and of the other top items, by source. */
type Fold = readonly [hidden: Matrix, others: Matrix];

/** The weight of each source of the model's scores for one user; nothing if the model's own weights hold. */
export function fusedWeights(scorer: Scorer, history: History): Record<string, number> {
  if (history.indices.length < LEAST || scorer.sources.length < 2) return {};
  const folds = foldsOf(scorer, history);
  if (!folds.length) return {};
  const fitted = fit(folds, scorer.sources.length);
  return Object.fromEntries(scorer.sources.map((source, place) => [source, fitted[place]]));
}

function foldsOf(scorer: Scorer, history: History): Fold[] {
  const fold = new PublicRandom(history.indices.length).permutation(history.indices.length).map((each) => each % FOLDS);
  const [own, folds] = [new Set(history.indices), [] as Fold[]];
  for (let turn = 0; turn < FOLDS; turn += 1) {
    const shown = entries(history, (_, place) => fold[place] !== turn);
    const taste = scorer.taste(shown, new Int32Array(0), {});
    const top = scorer.top(taste, FIRST, shown.indices);
    const parts = [...scorer.byPart(taste, top).values()];
    const rows = Array.from(top, (_, place) => Float64Array.from(parts, (part) => part[place]));
    const hidden = rows.filter((_, place) => own.has(top[place]));
    if (hidden.length && hidden.length < rows.length) folds.push([hidden, rows.filter((_, place) => !own.has(top[place]))]);
  }
  return folds;
}

function fit(given: readonly Fold[], size: number): Float64Array {
  const total = (row: Float64Array) => row.reduce((sum, each) => sum + each, 0);
  const spreads = given.map(([, others]) => deviation(others.map(total)));
  const spread = spreads.reduce((sum, each) => sum + each, 0) / spreads.length + TINY;
  const scaled = (rows: Matrix) => rows.map((row) => row.map((each) => each / spread));
  const folds = given.map(([hidden, others]): Fold => [scaled(hidden), scaled(others)]);
  let scale = 1;
  for (let step = 0; step < STEPS; step += 1) {
    const { slope, curvature } = slopes(folds, new Float64Array(size).fill(scale));
    // In log t, with a standard normal prior of variance 4.
    const bend = curvature.reduce((sum, row) => sum + total(row), 0);
    const by = (total(slope) * scale - Math.log(scale) / 4) / (bend * scale ** 2 + 0.25);
    scale *= Math.exp(clip(by, -1, 1));
  }
  let weights = new Float64Array(size).fill(scale);
  const stiff = 1 / (SPREAD * scale) ** 2;
  for (let step = 0; step < STEPS; step += 1) {
    const { slope, curvature } = slopes(folds, weights);
    const [matrix, right] = [curvature.map((row, at) => row.map((each, other) => each + (at === other ? stiff : 0))), slope.map((each, at) => each - stiff * (weights[at] - scale))];
    const by = solve(matrix, right);
    weights = weights.map((each, at) => clip(each + clip(by[at], -scale, scale), 0, 2 * scale));
  }
  return weights.map((each) => each / scale);
}

/** Gradient of the log likelihood, and its curvature, which is not negative. */
function slopes(folds: readonly Fold[], weights: Float64Array): { slope: Float64Array; curvature: Matrix } {
  const size = weights.length;
  const slope = new Float64Array(size);
  const curvature: Matrix = Array.from({ length: size }, () => new Float64Array(size));
  for (const [hidden, others] of folds) {
    const scores = others.map((row) => dot(row, weights));
    const top = Math.max(...scores);
    const odds = scores.map((score) => Math.exp(score - top));
    const total = odds.reduce((sum, each) => sum + each, 0);
    const mean = new Float64Array(size);
    others.forEach((row, place) => row.forEach((each, at) => (mean[at] += (odds[place] / total) * each)));
    const shares = hidden.map((row) => 1 / (1 + Math.exp(clip(Math.log(total) + top - dot(row, weights), -50, 50))));
    const expected = hidden.map((row, place) => row.map((each, at) => (1 - shares[place]) * mean[at] + shares[place] * each));
    hidden.forEach((row, place) => row.forEach((each, at) => (slope[at] += each - expected[place][at])));
    const rest = shares.reduce((sum, share) => sum + 1 - share, 0);
    for (let one = 0; one < size; one += 1)
      for (let other = 0; other < size; other += 1) {
        others.forEach((row, place) => (curvature[one][other] += rest * (odds[place] / total) * row[one] * row[other]));
        hidden.forEach((row, place) => (curvature[one][other] += shares[place] * row[one] * row[other] - expected[place][one] * expected[place][other]));
      }
  }
  return { slope, curvature };
}

/** Gaussian elimination with pivots; the matrix is small, and positive definite by its prior. */
function solve(matrix: Matrix, right: Float64Array): Float64Array {
  const rows = matrix.map((row, at) => Float64Array.of(...row, right[at]));
  const size = rows.length;
  for (let at = 0; at < size; at += 1) {
    let pivot = at;
    for (let row = at + 1; row < size; row += 1) if (Math.abs(rows[row][at]) > Math.abs(rows[pivot][at])) pivot = row;
    [rows[at], rows[pivot]] = [rows[pivot], rows[at]];
    for (let row = 0; row < size; row += 1) {
      if (row === at) continue;
      const by = rows[row][at] / rows[at][at];
      for (let column = at; column <= size; column += 1) rows[row][column] -= by * rows[at][column];
    }
  }
  return Float64Array.from(rows, (row, at) => row[size] / row[at]);
}

function deviation(values: readonly number[]): number {
  const mean = values.reduce((sum, each) => sum + each, 0) / values.length;
  return Math.sqrt(values.reduce((sum, each) => sum + (each - mean) ** 2, 0) / values.length);
}

function clip(value: number, least: number, most: number): number {
  return Math.min(Math.max(value, least), most);
}
