/**
 * Factors: a model's scores as products of a user's vector and an item's, and the links beside them.
 *
 *     score of item i  =  level * base_i  +  taste . basis_i  +  likes . content_i
 *                         +  sum over links' sources of  sum over events e of  amount_e link[e, i]
 *
 * They are those of `palate_common.algorithms.als.factors` and `popularity.Ranked`, for a batch of one.
 */

import { placesOf, relativePopularity } from "../algorithms/als_state.js";
import { IntegrityError, RefusedError } from "../errors.js";
import { numbersOf, type GlobalModel, type ModelHeader } from "../models/model.js";
import { settingOf, signalOf } from "../algorithms/facts.js";
import { effectiveCount, sum, type History } from "./interests.js";

export const [POPULARITY, COLLABORATIVE, CONTENT, PANEL, EXPLORATION, PROMOTED] = ["popularity", "collaborative", "content", "panel", "exploration", "promoted"];
const LINKED: readonly (readonly [source: string, name: string])[] = [["collaborative:pairs", "pairs"], [PANEL, "open"]];
const TINY = 1e-12;
/** Links count with the number of items to this power. */
const GAINS: ReadonlyMap<string, number> = new Map([["collaborative:pairs", 0.25], [PANEL, 0.5]]);
/** Trust in content directions after k items is (k / (k + this))^2. */
const [CONTENT_SCALE, TRUSTED_AFTER] = [7, 10];
/** The most counts of events whose trust is kept. */
const MOST_COUNTS = 256;
const FOLD_EXPONENT = -0.3;
const SCORE_EXPONENT = 0.1;

type Numbers = ArrayLike<number>;

/** An array of a model's state, row after row. */
interface Numbered {
  readonly shape: readonly number[];
  readonly data: ArrayLike<number>;
}
type State = ReadonlyMap<string, Numbered>;

/** The family of a source: "content" for "content:titles". */
export function familyOf(source: string): string {
  return source.split(":", 1)[0];
}

/** Columns of one source, over some rows of the catalogue. */
export interface Part {
  readonly source: string;
  /** The first column, and how many there are. */
  readonly first: number;
  readonly width: number;
}

/** A table of some columns; `rows` is null where it has a row for each item. */
interface Table {
  readonly first: number;
  readonly width: number;
  readonly rows: Int32Array | null;
  readonly data: Float32Array;
}

/** What each of some items says about a few others. */
export interface Links {
  readonly source: string;
  readonly places: ReadonlyMap<number, number>;
  readonly items: Int32Array;
  readonly width: number;
  readonly to: Int32Array;
  readonly shape: Float32Array;
  readonly scale: Float32Array;
}

/** A user's vector, and what else is asked about it. */
export interface Folded {
  readonly vector: Float64Array;
  /** What each interaction adds to it, row after row: they sum to it, apart from a default part that comes from no event. */
  readonly events: () => Float64Array;
  /** The vector of the same user without some of the interactions, by their places, and how many items of equal weight tell as much as the others. */
  readonly without: (out: readonly number[]) => { readonly vector: Float64Array; readonly count: number };
}

export class Factors {
  readonly parts: readonly Part[];
  readonly width: number;
  readonly links: readonly Links[];
  /** Shrinkage of each column after ten events. It weights columns when two items are compared. */
  readonly trust: Float64Array;
  /** Vectors of new items in the place of their own. */
  readonly standIns = new Map<number, Float64Array>();
  private readonly places: Int32Array | null;

  private constructor(
    readonly nItems: number,
    private readonly tables: readonly Table[],
    parts: readonly Part[],
    links: readonly Links[],
    private readonly fold: (history: History) => Folded,
    private readonly gain: ReadonlyMap<string, number>,
    trust: Float64Array,
  ) {
    [this.parts, this.links, this.trust] = [parts, links, trust];
    this.width = parts.reduce((total, part) => total + part.width, 0);
    const head = tables.find((table) => table.rows)?.rows;
    this.places = head ? placesOf(head, nItems) : null;
  }

  /** The user's vector by fold-in. */
  users(history: History): Folded {
    return this.fold(history);
  }

  /** How much the links of each interaction count. */
  amounts(source: string, history: History): Float64Array {
    const gain = (this.gain.get(source) ?? 0) * this.growth(source, effectiveCount(history.weights));
    return Float64Array.from(history.weights, (weight) => weight * gain);
  }

  /** The factor on these for a history that tells as much as so many items of equal weight. */
  growth(source: string, count: number): number {
    return Math.max(count, 1) ** (GAINS.get(source) ?? 0);
  }

  /** Scores of all items by products of vectors, double precision; written to `scores`, one for each item. */
  products(vector: Numbers, scores = new Float64Array(this.nItems)): Float64Array {
    scores.fill(0);
    for (const { first, width, rows, data } of this.tables) {
      const part = Float64Array.from({ length: width }, (_, column) => vector[first + column]);
      if (part.every((each) => each === 0)) continue;
      if (width === 1) addColumn(scores, data, part[0]);
      else addProducts(scores, data, part, rows);
    }
    for (const [row, own] of this.standIns) scores[row] = own.reduce((total, each, column) => total + each * vector[column], 0);
    return scores;
  }

  /** The vector of one item; written to `found`. */
  vector(row: number, found = new Float64Array(this.width)): Float64Array {
    const own = this.standIns.get(row);
    if (own) found.set(own);
    else for (const { first, width, rows, data } of this.tables) {
      const place = rows ? (this.places as Int32Array)[row] : row;
      for (let column = 0; column < width; column += 1) found[first + column] = place < 0 ? 0 : data[place * width + column];
    }
    return found;
  }

  /** The factors of a model. */
  static of({ header, state: tensors }: GlobalModel, nItems: number): Factors {
    const state: State = new Map(Array.from(tensors, ([name, tensor]) => [name, { shape: tensor.shape, data: numbersOf(tensor) }]));
    checkFits(state, nItems);
    if (header.algorithm === "popularity") return Factors.ranked(numbers(state, "counts"), nItems);
    if (header.algorithm !== "als") throw new RefusedError(`a browser ranks models of als and popularity, got one of ${header.algorithm.slice(0, 80)}`);
    if (!["basis", "content", "pairs_weight", "open_weight"].some((name) => state.has(name))) return Factors.ranked(numbers(state, "counts"), nItems);
    return alsFactors(header, state, nItems, (...made) => {
      const [, tables, , , , gain, trust] = made;
      for (const [name, each] of [...tables.map(({ data }) => ["scores", data] as const), ["trust", trust] as const, ["weights of links", [...gain.values()]] as const]) checkAll(name, each, Number.isFinite);
      return new Factors(...made);
    });
  }

  private static ranked(counts: Numbers, nItems: number): Factors {
    const table: Table = { first: 0, width: 1, rows: null, data: Float32Array.from(counts) };
    const fold = ({ indices }: History): Folded => ({ vector: Float64Array.of(1), events: () => new Float64Array(indices.length), without: () => ({ vector: Float64Array.of(1), count: 1 }) });
    return new Factors(nItems, [table], [{ source: POPULARITY, first: 0, width: 1 }], [], fold, new Map(), Float64Array.of(1));
  }
}

function alsFactors(
  header: ModelHeader,
  state: State,
  nItems: number,
  make: (nItems: number, tables: Table[], parts: Part[], links: Links[], fold: (history: History) => Folded, gain: ReadonlyMap<string, number>, trust: Float64Array) => Factors,
): Factors {
  const fold = settingOf(header.settings, "fold_exponent") ?? FOLD_EXPONENT;
  const exponent = settingOf(header.settings, "score_exponent") ?? SCORE_EXPONENT;
  const head = state.has("basis") ? (tensor(state, "head").data as Int32Array) : null;
  const counts = numbers(state, "counts");
  const popularity = relativePopularity(Float64Array.from(counts), numbers(state, "floor")[0], state.has("head") ? tensor(state, "head").data.length : headItems(header, nItems));
  const reference = head ? Float64Array.from(head, (row) => popularity[row]) : popularity;
  const chance = reference.map((each) => each ** (1 + fold));
  const norm = Math.sqrt(chance.reduce((total, each) => total + each * each, 0));
  const along = reference.map((each, place) => (each ** fold * chance[place]) / norm);
  const lift = popularity.map((each) => each ** exponent);
  const largest = Math.max(Array.from(counts).reduce((most, each) => Math.max(most, Math.abs(each)), 0), TINY);
  const base = Float32Array.from(popularity, (each, row) => each ** (exponent + 1 + fold) / norm + (1e-9 * counts[row]) / largest);

  const tables: Table[] = [{ first: 0, width: 1, rows: null, data: base }];
  const parts: Part[] = [{ source: POPULARITY, first: 0, width: 1 }];
  let end = 1;
  const basis = head && tensor(state, "basis");
  const width = basis ? basis.shape[1] : 0;
  if (head && basis) {
    tables.push({ first: end, width, rows: head.length === nItems ? null : head, data: lifted(basis.data, width, (place) => lift[head[place]]) });
    parts.push({ source: COLLABORATIVE, first: end, width });
    end += width;
  }
  const content = state.get("content");
  const contentFirst = end;
  if (content) {
    const weight = numbers(state, "content_weight")[0];
    tables.push({ first: end, width: content.shape[1], rows: null, data: lifted(content.data, content.shape[1], (row) => weight * lift[row]) });
    const widths = Array.from(state.get("content_widths")?.data ?? [content.shape[1]], Number);
    const names = Object.keys((header.settings.feature_sources as object | null) ?? {}).sort();
    for (const [place, each] of widths.entries()) {
      parts.push({ source: widths.length > 1 ? `${CONTENT}:${names[place]}` : CONTENT, first: end, width: each });
      end += each;
    }
  }
  const known = LINKED.filter(([, name]) => state.has(`${name}_weight`) && numbers(state, `${name}_weight`)[0]);
  const links = known.map(([source, name]) => linksOf(state, source, name));
  const gain = new Map(known.map(([source, name]) => [source, numbers(state, `${name}_weight`)[0] * numbers(state, `${name}_balance`)[0]]));

  const places = head ? placesOf(head, nItems) : null;
  const folds = (weights: Numbers) => Float64Array.from(weights, (each) => each ** fold);
  const basisFold = head ? folds(numbers(state, "weight")) : new Float64Array(0);
  for (const [name, each] of Object.entries({ counts: along, weight: basisFold })) checkAll(name, each, Number.isFinite);
  const strength = head ? numbers(state, "strength") : new Float32Array(0);
  const accuracy = head ? numbers(state, "accuracy") : new Float32Array(0);
  // Histories of a list and its reasons have few counts, and a power takes long.
  const trusts = new Map<number, Float64Array>();
  const tasteWeights = (count: number): Float64Array => {
    const found = trusts.get(count) ?? new Float64Array(width);
    if (trusts.has(count)) return found;
    for (let column = 0; column < width; column += 1) {
      const evidence = count * strength[column];
      found[column] = (evidence / (1 + evidence)) ** ((1 + accuracy[column] ** 2) / 2) * accuracy[column];
    }
    if (trusts.size === MOST_COUNTS) trusts.clear();
    trusts.set(count, found);
    return found;
  };
  const contentTrust = (count: number) => (count / (count + CONTENT_SCALE)) ** 2;

  const folded = ({ indices, weights }: History): Folded => {
    const seen = Array.from(indices, (row) => (places ? places[row] : row));
    // What an interaction adds before trust, to some numbers of an array.
    const add = (at: number, sums: Float64Array, first: number): void => {
      const [row, place, weight] = [indices[at], seen[at], weights[at]];
      if (place >= 0) sums[first] += along[place] * weight;
      for (let column = 0; basis && place >= 0 && column < width; column += 1)
        sums[first + 1 + column] += basisFold[place] * basis.data[place * width + column] * weight;
      if (content) {
        const factor = popularity[row] ** fold;
        for (let column = 0; column < content.shape[1]; column += 1)
          sums[first + contentFirst + column] += factor * content.data[row * content.shape[1] + column] * weight;
      }
    };
    const trusted = (own: number, all: number): Float64Array => {
      const trust = new Float64Array(end).fill(contentTrust(all), contentFirst);
      trust[0] = 1;
      trust.set(tasteWeights(own), 1);
      return trust;
    };
    const rows = (): Float64Array => {
      const table = new Float64Array(indices.length * end);
      for (let at = 0; at < indices.length; at += 1) add(at, table, at * end);
      return table;
    };
    const sums = new Float64Array(end);
    for (let at = 0; at < indices.length; at += 1) add(at, sums, 0);
    const inHead = weights.filter((_, place) => seen[place] >= 0);
    const trust = trusted(effectiveCount(inHead), effectiveCount(weights));
    const vector = times(sums.slice(), trust);
    if (!inHead.length) vector[0] = 1;
    let made: { table: Float64Array; own: number[]; all: number[] } | undefined;
    const left = ([n, total, squares]: readonly number[], out: readonly number[]): [number, number] => {
      for (const at of out) [n, total, squares] = [n - 1, total - weights[at], squares - weights[at] ** 2];
      return [n, n ? total ** 2 / squares : 0];
    };
    const without = (out: readonly number[]): { vector: Float64Array; count: number } => {
      const told = (those: Float32Array): number[] => [those.length, sum(those), sum(those.map((each) => each ** 2))];
      const { table, own, all } = (made ??= { table: rows(), own: told(inHead), all: told(weights) });
      const rest = sums.slice();
      for (const at of out) for (let column = 0; column < end; column += 1) rest[column] -= table[at * end + column];
      const [[n, count], [, whole]] = [left(own, out.filter((at) => seen[at] >= 0)), left(all, out)];
      times(rest, trusted(count, whole));
      if (!n) rest[0] = 1;
      return { vector: rest, count: whole };
    };
    return { vector, events: () => times(rows(), trust), without };
  };
  const trust = Float64Array.of(1, ...tasteWeights(TRUSTED_AFTER), ...new Array<number>(end - contentFirst).fill(contentTrust(TRUSTED_AFTER)));
  return make(nItems, tables, parts, links, folded, gain, trust);
}

/**
 * Refuses arrays that don't fit each other, or the catalogue: computations with them would give no numbers, or not end. Of a published
 * model the publisher has checked that; one of the app's own may be anything.
 */
function checkFits(state: State, nItems: number): void {
  const isRow = (each: number): boolean => Number.isInteger(each) && each >= 0 && each < nItems;
  const width = (name: string): number => Math.max(state.get(name)?.shape[1] ?? 0, 1);
  const count = (name: string): number => state.get(name)?.shape[0] ?? 0;
  const shapes: Record<string, readonly number[]> = {
    counts: [nItems], floor: [1], content: [nItems, width("content")], content_weight: [1],
    ...(state.has("basis") && { head: [count("head")], basis: [count("head"), width("basis")], weight: [count("head")], strength: [width("basis")], accuracy: [width("basis")] }),
  };
  for (const [, name] of LINKED) {
    if (!state.has(`${name}_weight`)) continue;
    const links = [count(`${name}_items`), width(`${name}_to`)];
    Object.assign(shapes, { [`${name}_weight`]: [1], [`${name}_balance`]: [1], [`${name}_items`]: [links[0]], [`${name}_to`]: links, [`${name}_links`]: links, [`${name}_scale`]: [links[0]] });
  }
  for (const [name, shape] of Object.entries(shapes)) {
    const found = state.get(name);
    if (found && found.shape.join() !== shape.join()) throw new IntegrityError(`the array ${name} of a model must have the shape ${shape.join(" x ")}, got ${found.shape.join(" x ").slice(0, 80)}`);
    if (found && (name === "head" || /_(items|to)$/.test(name))) {
      if (!(found.data instanceof Int32Array)) throw new IntegrityError(`the array ${name} of a model must be int32, got another`);
      checkAll(name, found.data, isRow);
    }
  }
  const widths = state.get("content_widths")?.data;
  if (widths && (!Array.from(widths).every((each) => Number.isInteger(each) && each > 0) || sum(Float64Array.from(widths)) !== width("content"))) throw new IntegrityError("content_widths of a model must add up to the columns of content, got others");
}

function checkAll(name: string, numbers: Numbers, fits: (each: number) => boolean): void {
  for (let at = 0; at < numbers.length; at += 1) if (!fits(numbers[at])) throw new IntegrityError(`the array ${name} of a model must lead to numbers that count, got ${numbers[at]}`);
}

function linksOf(state: State, source: string, name: string): Links {
  const to = tensor(state, `${name}_to`);
  const items = tensor(state, `${name}_items`).data as Int32Array;
  return {
    source, items, to: to.data as Int32Array, width: to.shape[1],
    places: new Map(Array.from(items, (row, place) => [row, place])),
    shape: numbers(state, `${name}_links`) as Float32Array,
    scale: numbers(state, `${name}_scale`) as Float32Array,
  };
}

/** Head items of a model without directions, as `AlsPlan` has them. */
function headItems({ settings, facts }: ModelHeader, nItems: number): number {
  const signal = Math.hypot(signalOf(facts), facts.formerSignal);
  const wanted = facts.nFeatures > 0 ? 10 * Math.sqrt(signal) : 1.2 * signal ** 0.75;
  const usual = nItems > 50 ? Math.floor(Math.min(Math.max(wanted, 50), nItems)) : nItems;
  return Math.min(settingOf(settings, "head_items") ?? usual, nItems);
}

function tensor(state: State, name: string): Numbered {
  const found = state.get(name);
  if (!found) throw new RefusedError(`a model of als must have the array ${name}, and has not`);
  return found;
}

function numbers(state: State, name: string): Numbers {
  return tensor(state, name).data;
}

/** The table, each row times a factor, in single precision. */
function lifted(data: Numbers, width: number, factor: (row: number) => number): Float32Array {
  const made = new Float32Array(data.length);
  for (let row = 0, at = 0; at < made.length; row += 1) {
    const by = factor(row);
    for (let column = 0; column < width; column += 1, at += 1) made[at] = by * data[at];
  }
  return made;
}

/** Each row of a table times factors of its columns, in its place. */
export function times(table: Float64Array, factors: Float64Array): Float64Array {
  for (let first = 0; first < table.length; first += factors.length) for (let column = 0; column < factors.length; column += 1) table[first + column] *= factors[column];
  return table;
}

/** A column times a number, over all items. */
function addColumn(scores: Float64Array, data: Float32Array, by: number): void {
  for (let row = 0; row < scores.length; row += 1) scores[row] += data[row] * by;
}

/** Products of a table's rows with a vector; four rows at once, so that the processor has four sums to make side by side. No arrays are made in it. */
export function addProducts(scores: Float64Array, data: Float32Array | Float64Array, vector: Float64Array, rows: Int32Array | null): void {
  const width = vector.length;
  const count = data.length / width;
  let row = 0;
  for (; row + 4 <= count; row += 4) {
    const one = row * width;
    const two = one + width;
    const three = two + width;
    const four = three + width;
    let first = 0;
    let second = 0;
    let third = 0;
    let fourth = 0;
    for (let column = 0; column < width; column += 1) {
      const by = vector[column];
      first += data[one + column] * by;
      second += data[two + column] * by;
      third += data[three + column] * by;
      fourth += data[four + column] * by;
    }
    scores[rows === null ? row : rows[row]] += first;
    scores[rows === null ? row + 1 : rows[row + 1]] += second;
    scores[rows === null ? row + 2 : rows[row + 2]] += third;
    scores[rows === null ? row + 3 : rows[row + 3]] += fourth;
  }
  for (; row < count; row += 1) {
    let sum = 0;
    for (let column = 0; column < width; column += 1) sum += data[row * width + column] * vector[column];
    scores[rows === null ? row : rows[row]] += sum;
  }
}
