/**
 * Vote: users choose the weights of what is beside the private directions by held-out events, on the device.
 *
 * A device holds out every second of its items, ranks the catalogue from the others with each candidate weight of one source, and
 * compares how many held-out items each weight finds. The ballot has norm 1 at most: it is clipped and noised like anything else.
 */

import type { GlobalModel } from "../models/model.js";
import type { History } from "./algorithm.js";
import type { AlsPlan, AlsSettings, Source } from "./als_plan.js";
import { arrayOf, columnsOf, relativePopularity, TINY } from "./als_state.js";
import { PublicRandom, squaresOf, summed } from "./numpy.js";

/** Candidates for a source's weight. A ballot compares each of the others with the first. */
export const CHOICES: Readonly<Record<Source, readonly number[]>> = {
  content: [0, 0.25, 0.5, 1],
  pairs: [0, 0.5, 1, 2],
  panel: [0, 0.25, 0.5, 1, 2, 4],
};
const LINKS: readonly [Source, string][] = [["pairs", "pairs"], ["panel", "open"]];
const LIST = 20;
const GAIN = 8;
const SPREAD = 0.1;
const ENOUGH = 1 / 300;
const LEAST = 2 ** -200;

/** n, where one user in n votes; as many vote as the decision needs, which are more where there is more noise. */
export function thinning(nUsers: number, noise: number): number {
  const [sampling, noised] = [(SPREAD / ENOUGH) ** 2, noise / (GAIN * ENOUGH)];
  const needed = (sampling + Math.sqrt(sampling ** 2 + 4 * noised ** 2)) / 2;
  return Math.max(1, Math.trunc(nUsers / needed));
}

/** Whether a user votes: with two items or more, if a hash of them selects them, one in n. */
function votes({ indices, nItems }: History, oneIn: number, seed: number | bigint): boolean {
  if (indices.length < 2) return false;
  if (oneIn === 1) return true;
  const random = new PublicRandom(seed, 2);
  let [sum, next] = [0n, 0];
  for (let item = 0; item < nItems && next < indices.length; item += 1) {
    const word = random.next() >> 2n;
    if (indices[next] === item) {
      sum += word;
      next += 1;
    }
  }
  return BigInt.asIntN(64, sum) % BigInt(oneIn) === 0n;
}

const kept = ({ indices, weights, nItems }: History, keep: (at: number) => boolean): History => ({
  indices: indices.filter((_, at) => keep(at)),
  weights: weights.filter((_, at) => keep(at)),
  nItems,
});

/** Hides every second item, in a public random order of the catalogue: what is shown, and what is hidden. */
function hide(history: History, seed: number | bigint): [History, History] {
  const keys = new PublicRandom(seed, 1).permutation(history.nItems);
  const order = Array.from(history.indices.keys()).sort((a, b) => keys[history.indices[a]] - keys[history.indices[b]]);
  const hidden = new Set(order.filter((_, place) => place % 2 === 1));
  return [kept(history, (at) => !hidden.has(at)), kept(history, (at) => hidden.has(at))];
}

/** Rows rounded to multiples of a power of two, about 2^-25 of a length: their products are exact in any order. */
function onGrid(rows: Float64Array, length: number): Float64Array {
  const unit = 2 ** (Math.ceil(Math.log2(Math.max(length, LEAST))) - 25);
  return rows.map((each) => rounded(each / unit) * unit);
}

function rounded(value: number): number {
  const low = Math.floor(value);
  const over = value - low;
  return over > 0.5 || (over === 0.5 && low % 2 !== 0) ? low + 1 : low;
}

/** A table of directions on a grid, row by row. */
function tableOnGrid(table: Float64Array, width: number): Float64Array {
  let longest = 0;
  for (let at = 0; at < table.length; at += width) longest = Math.max(longest, Math.sqrt(squaresOf(table.subarray(at, at + width))));
  return onGrid(table, longest);
}

/** How many items of equal weight would tell as much: (sum of weights)^2 / (sum of their squares). */
function effectiveCount(weights: Float32Array): number {
  if (!weights.length || weights.every((each) => each === 1)) return weights.length;
  return summed(weights.length, (at) => weights[at]) ** 2 / squaresOf(weights);
}

/** The user's ballots, one for each election; zeros for a user who doesn't vote. */
export function ballots(model: GlobalModel, plan: AlsPlan, settings: AlsSettings, oneIn: number, history: History): Float64Array[] {
  const none = plan.votes.map((source) => new Float64Array(CHOICES[source].length - 1));
  const { state, header } = model;
  if (!votes(history, oneIn, header.facts.seed)) return none;
  const [shown, hidden] = hide(history, header.facts.seed);
  const { nItems } = history;
  const head = state.has("basis") ? (arrayOf(state, "head") as Int32Array) : null;
  const fold = settings.foldExponent;
  const headSize = state.has("head") ? arrayOf(state, "head").length : plan.headItems;
  const counts = Float64Array.from(arrayOf(state, "counts"));
  const popularity = relativePopularity(counts, arrayOf(state, "floor")[0], headSize);
  const reference = head ? Float64Array.from(head, (row) => popularity[row]) : popularity;
  const chance = reference.map((each) => each ** (1 + fold));
  const norm = Math.sqrt(chance.reduce((sum, each) => sum + each * each, 0));
  const largest = Math.max(counts.reduce((most, each) => Math.max(most, Math.abs(each)), 0), TINY);
  const exponent = settings.scoreExponent;
  const base = popularity.map((each, row) => each ** (exponent + 1 + fold) / norm + (1e-9 * counts[row]) / largest);
  const lift = popularity.map((each) => each ** exponent);
  const places = head ? columnsOf(head, nItems) : null;
  const seen = kept(shown, (at) => !places || places[shown.indices[at]] >= 0);
  const placed = Array.from(seen.indices, (row) => (places ? places[row] : row));
  const level = placed.length ? summed(placed.length, (at) => reference[placed[at]] ** fold * (chance[placed[at]] / norm) * seen.weights[at]) : 1;

  const plain = base.map((each) => level * each);
  if (head) {
    const width = (state.get("basis")?.shape ?? [0, 0])[1];
    const weight = arrayOf(state, "weight");
    const basis = arrayOf(state, "basis");
    const [strength, accuracy, own] = [arrayOf(state, "strength"), arrayOf(state, "accuracy"), effectiveCount(seen.weights)];
    const taste = Float64Array.from({ length: width }, (_, column) => {
      const sum = summed(placed.length, (at) => weight[placed[at]] ** fold * basis[placed[at] * width + column] * seen.weights[at]);
      const evidence = own * strength[column];
      return sum * ((evidence / (1 + evidence)) ** ((1 + accuracy[column] ** 2) / 2) * accuracy[column]);
    });
    const lifted = tableOnGrid(Float64Array.from(basis as ArrayLike<number>, (each, at) => lift[head[Math.floor(at / width)]] * each), width);
    const likes = onGrid(taste, Math.sqrt(squaresOf(taste)));
    head.forEach((row, place) => (plain[row] += dot(lifted, place * width, likes)));
  }

  const parts = new Map<Source, Float64Array>();
  const weights = new Map<Source, number>();
  const content = state.get("content");
  if (content) {
    const [width, table] = [content.shape[1], arrayOf(state, "content")];
    const all = effectiveCount(shown.weights);
    const trust = (all / (all + 7)) ** 2;
    const found = Float64Array.from({ length: width }, (_, column) =>
      summed(shown.indices.length, (at) => popularity[shown.indices[at]] ** fold * table[shown.indices[at] * width + column] * shown.weights[at]) * trust);
    const likes = onGrid(found, Math.sqrt(squaresOf(found)));
    const lifted = tableOnGrid(Float64Array.from(table as ArrayLike<number>, (each, at) => lift[Math.floor(at / width)] * each), width);
    parts.set("content", Float64Array.from({ length: nItems }, (_, row) => dot(lifted, row * width, likes)));
    weights.set("content", arrayOf(state, "content_weight")[0]);
  }
  for (const [source, name] of LINKS) {
    if (!state.has(`${name}_weight`)) continue;
    const [items, to, shape, scale] = ["items", "to", "links", "scale"].map((part) => arrayOf(state, `${name}_${part}`));
    const width = (state.get(`${name}_to`)?.shape ?? [0, 0])[1];
    const where = new Map(Array.from(items as ArrayLike<number>, (row, place) => [row, place]));
    const gain = arrayOf(state, `${name}_balance`)[0];
    const trust = Math.max(effectiveCount(shown.weights), 1) ** 0.25;
    const part = new Float64Array(nItems);
    shown.indices.forEach((row, at) => {
      const place = where.get(row);
      if (place === undefined) return;
      const amount = gain * (shown.weights[at] * trust);
      for (let link = 0; link < width; link += 1) part[to[place * width + link]] += amount * (shape[place * width + link] * scale[place]);
    });
    parts.set(source, part);
    weights.set(source, arrayOf(state, `${name}_weight`)[0]);
  }
  return plan.votes.map((source) => ballot(source, plain, parts, weights, shown, hidden));
}

function dot(table: Float64Array, first: number, vector: Float64Array): number {
  let sum = 0;
  for (let at = 0; at < vector.length; at += 1) sum += table[first + at] * vector[at];
  return sum;
}

/** The gains over the first choice, clipped to norm 1. */
function ballot(source: Source, base: Float64Array, parts: ReadonlyMap<Source, Float64Array>, weights: ReadonlyMap<Source, number>, shown: History, hidden: History): Float64Array {
  const [plain, own] = [base.slice(), parts.get(source) ?? new Float64Array(base.length)];
  for (const [other, part] of parts) {
    const weight = weights.get(other) ?? 0;
    if (other !== source && weight) part.forEach((each, row) => (plain[row] += weight * each));
  }
  for (const row of shown.indices) plain[row] = -Infinity;
  const found = CHOICES[source].map((weight) => {
    const scores = plain.map((each, row) => (weight ? own[row] * weight + each : each));
    const least = scores.slice().sort()[Math.max(scores.length - LIST, 0)];
    return Math.min(hidden.indices.reduce((sum, row) => sum + (own[row] * weight + plain[row] >= least ? 1 : 0), 0), LIST);
  });
  const gained = Float64Array.from(found.slice(1), (each) => (GAIN * (each - found[0])) / Math.min(hidden.indices.length, LIST));
  const length = Math.max(Math.sqrt(squaresOf(gained)), 1);
  return gained.map((each) => each / length);
}
