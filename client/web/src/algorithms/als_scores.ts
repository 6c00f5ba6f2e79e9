/**
 * Scores of `als` for one user in double precision: those by which a user votes on weights.
 *
 *     score  =  level * base + taste . basis  +  sum over the other sources of  weight * part
 */

import { roundEven } from "../mechanism/update.js";
import type { GlobalModel } from "../models/model.js";
import type { History } from "./history.js";
import type { AlsPlan, AlsSettings, Source } from "./als_plan.js";
import { arrayOf, columnsOf, relativePopularity, TINY } from "./als_state.js";
import { squaresOf, summed } from "./numpy.js";

/** Source, its name in a state, and the power of the number of items with which its links count. */
const LINKS: readonly [Source, string, number][] = [["pairs", "pairs", 0.25], ["panel", "open", 0.5]];
const LEAST = 2 ** -200;

/** What the scores of all items are made of. */
export interface Scores {
  /** Popularity's part, and that of the released directions. */
  readonly plain: Float64Array;
  /** What each other source adds at weight 1, and its weight. */
  readonly parts: ReadonlyMap<Source, { readonly own: Float64Array; readonly weight: number }>;
}

/** Rows to multiples of a power of two, about 2^-25 of the length of their longest: their products are exact in any order. */
function onGrid(rows: Float64Array, length: number): Float64Array {
  const unit = 2 ** (Math.ceil(Math.log2(Math.max(length, LEAST))) - 25);
  return rows.map((each) => roundEven(each / unit) * unit);
}

/** The items of a history whose place in it is wanted. */
export const kept = ({ indices, weights, nItems }: History, keep: (at: number) => boolean): History => ({
  indices: indices.filter((_, at) => keep(at)),
  weights: weights.filter((_, at) => keep(at)),
  nItems,
});

/** How many items of equal weight would tell as much: (sum of weights)^2 / (sum of their squares). */
function effectiveCount(weights: Float32Array): number {
  if (!weights.length || weights.every((each) => each === 1)) return weights.length;
  return summed(weights.length, (at) => weights[at]) ** 2 / squaresOf(weights);
}

/** Products of a table's rows, each times a factor, with a vector; both rounded. */
function products(table: ArrayLike<number>, factor: (row: number) => number, vector: Float64Array): Float64Array {
  const width = vector.length;
  const lifted = Float64Array.from(table, (each, at) => factor(Math.floor(at / width)) * each);
  let longest = 0;
  for (let at = 0; at < lifted.length; at += width) longest = Math.max(longest, Math.sqrt(squaresOf(lifted.subarray(at, at + width))));
  const [rows, likes] = [onGrid(lifted, longest), onGrid(vector, Math.sqrt(squaresOf(vector)))];
  return Float64Array.from({ length: rows.length / width }, (_, row) => likes.reduce((sum, each, column) => sum + rows[row * width + column] * each, 0));
}

/** The scores of a user with these items. */
export function scoresOf(state: GlobalModel["state"], { headItems }: AlsPlan, settings: AlsSettings, shown: History): Scores {
  const { nItems, indices } = shown;
  const { foldExponent: fold, scoreExponent: exponent } = settings;
  const head = state.has("basis") ? (arrayOf(state, "head") as Int32Array) : null;
  const counts = Float64Array.from(arrayOf(state, "counts"));
  const popularity = relativePopularity(counts, arrayOf(state, "floor")[0], state.has("head") ? arrayOf(state, "head").length : headItems);
  const reference = head ? Float64Array.from(head, (row) => popularity[row]) : popularity;
  const chance = reference.map((each) => each ** (1 + fold));
  const norm = Math.sqrt(chance.reduce((sum, each) => sum + each * each, 0));
  const largest = Math.max(counts.reduce((most, each) => Math.max(most, Math.abs(each)), 0), TINY);
  const base = popularity.map((each, row) => each ** (exponent + 1 + fold) / norm + (1e-9 * counts[row]) / largest);
  const lift = popularity.map((each) => each ** exponent);
  const places = head ? columnsOf(head, nItems) : null;
  const seen = kept(shown, (at) => !places || places[indices[at]] >= 0);
  const placed = Array.from(seen.indices, (row) => (places ? places[row] : row));
  const level = placed.length ? summed(placed.length, (at) => reference[placed[at]] ** fold * (chance[placed[at]] / norm) * seen.weights[at]) : 1;

  const plain = base.map((each) => level * each);
  if (head) {
    const width = (state.get("basis")?.shape ?? [0, 0])[1];
    const [weight, basis, strength, accuracy] = ["weight", "basis", "strength", "accuracy"].map((name) => arrayOf(state, name));
    const own = effectiveCount(seen.weights);
    const taste = Float64Array.from({ length: width }, (_, column) => {
      const sum = summed(placed.length, (at) => weight[placed[at]] ** fold * basis[placed[at] * width + column] * seen.weights[at]);
      const evidence = own * strength[column];
      return sum * ((evidence / (1 + evidence)) ** ((1 + accuracy[column] ** 2) / 2) * accuracy[column]);
    });
    products(basis, (place) => lift[head[place]], taste).forEach((each, place) => (plain[head[place]] += each));
  }

  const parts = new Map<Source, { own: Float64Array; weight: number }>();
  const content = state.get("content");
  if (content) {
    const [width, table] = [content.shape[1], arrayOf(state, "content")];
    const all = effectiveCount(shown.weights);
    const trust = (all / (all + 7)) ** 2;
    const found = Float64Array.from({ length: width }, (_, column) =>
      summed(indices.length, (at) => popularity[indices[at]] ** fold * table[indices[at] * width + column] * shown.weights[at]) * trust);
    parts.set("content", { own: products(table, (row) => lift[row], found), weight: arrayOf(state, "content_weight")[0] });
  }
  for (const [source, name, gain] of LINKS) {
    if (!state.has(`${name}_weight`)) continue;
    const [items, to, shape, scale, balance, weight] = ["items", "to", "links", "scale", "balance", "weight"].map((part) => arrayOf(state, `${name}_${part}`));
    const width = (state.get(`${name}_to`)?.shape ?? [0, 0])[1];
    const where = new Map(Array.from(items as ArrayLike<number>, (row, place) => [row, place]));
    const trust = Math.max(effectiveCount(shown.weights), 1) ** gain;
    const own = new Float64Array(nItems);
    indices.forEach((row, at) => {
      const place = where.get(row);
      if (place === undefined) return;
      const amount = balance[0] * (shown.weights[at] * trust);
      for (let link = place * width; link < (place + 1) * width; link += 1) own[to[link]] += amount * (shape[link] * scale[place]);
    });
    parts.set(source, { own, weight: weight[0] });
  }
  return { plain, parts };
}
