/**
 * Scoring: a model's scores for the user of this device, exactly searched; the parts that they are the sum of, and what is alike.
 */

import { addProducts, familyOf, times, type Factors, type Folded, type Links } from "./factors.js";
import { effectiveCount, withInteractions, type History } from "./interests.js";

/** A dismissed item subtracts this share of what it would add as a positive one. */
const LESS = 0.5;
/** Up to so many interactions, scores without one of them are computed anew; of more, one hardly changes the trust. */
const FEW_EVENTS = 64;
const TINY = 1e-30;

/** A representation of one user's events. It is private: never written, sent or shown. */
export interface Taste {
  readonly history: History;
  /** Rows of the interactions, then those of dismissed items. */
  readonly items: Int32Array;
  readonly vector: Float64Array;
  /** The history folded in, before weights and without what was dismissed. */
  readonly fold: Folded;
  /** Contributions of interactions, then of dismissed items, to the vector, row after row; worked out when they are first asked for. */
  readonly added: () => Float64Array;
  /** The weight of each part of the score, or of its family. */
  readonly weights: Readonly<Record<string, number>>;
  /** Source -> how much the links of interactions, then of dismissed items, count. */
  readonly amounts: ReadonlyMap<string, Float64Array>;
  /** Source -> what they add to rows that links reach. */
  readonly linked: ReadonlyMap<string, ReadonlyMap<number, number>>;
  /** Scores of all items, once they were searched. */
  scores?: Float64Array | Float32Array;
}

/** What interactions, then dismissed items, add to the score of one item; and the part that comes through links. */
export interface Added {
  readonly all: Float64Array;
  readonly linked: Float64Array;
}

/** What one item's links say about another: the place of each, and how much. */
type Said = readonly (readonly [one: number, other: number, much: number])[];

export class Scorer {
  /** Names of the parts of a score that can be weighted separately, in the order of `byPart`. */
  readonly sources: readonly string[];
  /** Columns that say what an item is like, not how popular it is. */
  private readonly told: Float64Array;
  private readonly links: readonly Links[];
  /** Lengths of the items' vectors, as `likeness` has them. */
  private lengths: Float64Array | undefined;
  /** Room for the scores of all items, and for one item's vector. */
  private readonly room: Float64Array;
  private readonly rounded: Float32Array;
  private readonly own: Float64Array;

  constructor(readonly factors: Factors) {
    this.links = factors.links.some((each) => each.to.length) ? factors.links : [];
    this.sources = [...factors.parts.map((part) => part.source), ...this.links.map((each) => each.source)];
    this.told = new Float64Array(factors.width).fill(1);
    this.told[0] = 0; // popularity is always the first column
    [this.room, this.rounded, this.own] = [new Float64Array(factors.nItems), new Float32Array(factors.nItems), new Float64Array(factors.width)];
  }

  /** The user's taste, with a weight for each part of the score or its family; 1 for parts without one. */
  taste(history: History, less: Int32Array, weights: Readonly<Record<string, number>>): Taste {
    const { factors } = this;
    const columns = new Float64Array(factors.width);
    for (const { source, first, width } of factors.parts) columns.fill(weightOf(weights, source), first, first + width);
    const fold = factors.users(history);
    const vector = fold.vector.slice();
    const taken: Float64Array[] = [];
    const amounts = new Map(this.links.map(({ source }) => [source, factors.amounts(source, history)]));
    if (less.length) {
      const together = withInteractions(history, less, new Float64Array(less.length).fill(1));
      const [events, { width }] = [factors.users(together).events(), factors];
      const places = Array.from(less, (row) => together.indices.indexOf(row));
      for (const place of places) {
        const much = events.slice(place * width, (place + 1) * width).map((each) => -LESS * each);
        much[0] = 0;
        taken.push(much);
        much.forEach((each, column) => (vector[column] += each));
      }
      for (const [source, own] of amounts) {
        const all = factors.amounts(source, together);
        amounts.set(source, Float64Array.from([...own, ...places.map((place) => -LESS * all[place])]));
      }
    }
    const items = Int32Array.from([...history.indices, ...less]);
    const linked = new Map<string, ReadonlyMap<number, number>>();
    for (const each of this.links) {
      const own = (amounts.get(each.source) as Float64Array).map((amount) => amount * weightOf(weights, each.source));
      amounts.set(each.source, own);
      linked.set(each.source, sumsOf(each, items, own));
    }
    let found: Float64Array | undefined;
    const joined = () => {
      const all = new Float64Array(items.length * factors.width);
      all.set(fold.events());
      taken.forEach((much, place) => all.set(much, (history.indices.length + place) * factors.width));
      return times(all, columns);
    };
    return { history, items, vector: times(vector, columns), fold, added: () => (found ??= joined()), weights, amounts, linked };
  }

  /** Rows of the n highest scores, best first, of equals the lower row first; of the rows `among`, or all. */
  top(taste: Taste, n: number, without: ArrayLike<number>, among: ArrayLike<number> | null = null): Int32Array {
    return highest((taste.scores ??= this.all(taste).slice()), n, without, among);
  }

  /** The same of a taste that isn't asked again: its scores are not kept. */
  topOnce(taste: Taste, n: number, without: ArrayLike<number>, among: ArrayLike<number> | null = null): Int32Array {
    return highest(this.all(taste), n, without, among);
  }

  /** Scores of all items, until the next call. */
  private all(taste: Taste): Float64Array | Float32Array {
    const scores = this.factors.products(taste.vector, this.room);
    let touched = false;
    for (const sums of taste.linked.values()) {
      for (const [row, more] of sums) {
        scores[row] += more;
        touched ||= more !== 0;
      }
    }
    // Where nothing is added, Python orders by products in single precision: equals there are equals here.
    if (touched) return scores;
    this.rounded.set(scores);
    return this.rounded;
  }

  /** Scores of some items. */
  scores(taste: Taste, rows: ArrayLike<number>): Float64Array {
    const scores = new Float64Array(rows.length);
    for (const part of this.byPart(taste, rows).values()) for (let place = 0; place < scores.length; place += 1) scores[place] += part[place];
    return scores;
  }

  /** The parts of the scores of some items. */
  byPart(taste: Taste, rows: ArrayLike<number>): Map<string, Float64Array> {
    const { parts } = this.factors;
    const found = new Map(parts.map(({ source }) => [source, new Float64Array(rows.length)]));
    for (let place = 0; place < rows.length; place += 1) {
      const vector = this.factors.vector(rows[place], this.own);
      for (const { source, first, width } of parts) {
        let total = 0;
        for (let column = first; column < first + width; column += 1) total += vector[column] * taste.vector[column];
        (found.get(source) as Float64Array)[place] = total;
      }
    }
    for (const [source, sums] of taste.linked) found.set(source, Float64Array.from(rows, (row) => sums.get(row) ?? 0));
    return found;
  }

  /** Contributions of interactions, then of dismissed items, to the score of one item. */
  contributions(taste: Taste, row: number): Added {
    const [all, linked] = [new Float64Array(taste.items.length), new Float64Array(taste.items.length)];
    addProducts(all, taste.added(), this.factors.vector(row, this.own), null);
    for (const each of this.links) {
      const own = taste.amounts.get(each.source) as Float64Array;
      for (const [place, , much] of between(each, taste.items, [row])) linked[place] += own[place] * much;
    }
    for (let place = 0; place < all.length; place += 1) all[place] += linked[place];
    return { all, linked };
  }

  /**
   * A function that returns scores of some items for the same user without the interactions that are left out, by their places.
   *
   * By fold-in of all others up to `FEW_EVENTS`, since trust follows their number; else less contributions.
   *
   * @param events - those that will be left out, rising.
   * @param known - contributions to items, by their places in `rows`, that need not be computed again.
   */
  without(taste: Taste, rows: ArrayLike<number>, events: readonly number[], known: ReadonlyMap<number, Added>): (out: readonly number[]) => Float64Array {
    const { factors } = this;
    const { indices } = taste.history;
    const scores = this.scores(taste, rows);
    if (indices.length <= FEW_EVENTS) {
      const vectors = new Float64Array(rows.length * factors.width);
      for (let place = 0; place < rows.length; place += 1) vectors.set(factors.vector(rows[place], this.own), place * factors.width);
      const columns = new Float64Array(factors.width);
      for (const { source, first, width } of factors.parts) columns.fill(weightOf(taste.weights, source), first, first + width);
      // What links of each event say, and of all: they count for more or less with the number of events.
      const links = this.links.map((each) => {
        const [own, said, all] = [taste.amounts.get(each.source) as Float64Array, Array.from(indices, (): [number, number][] => []), new Float64Array(rows.length)];
        for (const [one, other, much] of between(each, indices, rows)) {
          said[one].push([other, own[one] * much]);
          all[other] += own[one] * much;
        }
        return { source: each.source, said, all };
      });
      const before = effectiveCount(taste.history.weights);
      return (out) => {
        const { vector, count } = taste.fold.without(out);
        for (let column = 0; column < vector.length; column += 1) vector[column] = (vector[column] - taste.fold.vector[column]) * columns[column];
        const found = scores.slice();
        addProducts(found, vectors, vector, null);
        for (const { source, said, all } of links) {
          const grown = factors.growth(source, count) / factors.growth(source, before);
          for (let place = 0; place < found.length; place += 1) found[place] += (grown - 1) * all[place];
          for (const event of out) for (const [other, much] of said[event]) found[other] -= grown * much;
        }
        return found;
      };
    }
    const [places, count] = [new Map(events.map((event, at) => [event, at])), events.length];
    const some = new Float64Array(count * factors.width);
    const added = taste.added();
    events.forEach((event, at) => some.set(added.subarray(event * factors.width, (event + 1) * factors.width), at * factors.width));
    const table = Array.from({ length: rows.length }, (_, place) => {
      const found = new Float64Array(count);
      const all = known.get(place)?.all;
      if (all) return found.map((_, at) => all[events[at]]);
      addProducts(found, some, factors.vector(rows[place], this.own), null);
      return found;
    });
    const items = Int32Array.from(events, (event) => indices[event]);
    for (const each of this.links) {
      const own = taste.amounts.get(each.source) as Float64Array;
      for (const [one, other, much] of between(each, items, rows)) if (!known.has(other)) table[other][one] += own[events[one]] * much;
    }
    return (out) => {
      const found = scores.slice();
      for (let place = 0; place < found.length; place += 1) for (const event of out) found[place] -= table[place][places.get(event) as number];
      return found;
    };
  }

  /** Vectors whose cosine is the similarity of items, apart from `bonds`: a table with a row for each. */
  likeness(rows: ArrayLike<number>): Float64Array {
    const { trust, width } = this.factors;
    const table = new Float64Array(rows.length * width);
    for (let place = 0; place < rows.length; place += 1) {
      const vector = this.factors.vector(rows[place], this.own);
      for (let column = 0; column < width; column += 1) table[place * width + column] = vector[column] * (trust[column] * this.told[column]);
    }
    return table;
  }

  /** How links bring these items together beside their vectors: place -> place -> from -1 to 1. Null: the model has none. */
  bonds(rows: ArrayLike<number>): Map<number, Map<number, number>> | null {
    if (!this.links.length) return null;
    const bonds = new Map<number, Map<number, number>>();
    const add = (one: number, other: number, much: number) => {
      const own = bonds.get(one) ?? new Map<number, number>();
      bonds.set(one, own.set(other, (own.get(other) ?? 0) + much / 2));
    };
    for (const [one, other, much] of this.linkShares(rows, rows)) {
      add(one, other, much);
      add(other, one, much);
    }
    for (const own of bonds.values()) for (const [other, much] of own) own.set(other, Math.min(Math.max(much, -1), 1));
    return bonds;
  }

  /** The n items most similar to one, best first, of the rows `among` or all, and the similarities. */
  similar(row: number, n: number, among: ArrayLike<number> | null): { row: number; score: number }[] {
    const rows = Int32Array.from(among ?? Array.from({ length: this.factors.nItems }, (_, place) => place)).filter((each) => each !== row);
    const own = this.likeness([row]);
    const likeness = this.cosines(own, rows);
    const near = this.around(row, new Set(rows));
    if (near.length) {
      const pair = new Map<number, number>();
      const add = (place: number, much: number) => pair.set(near[place], (pair.get(near[place]) ?? 0) + much / 2);
      for (const [, other, much] of this.linkShares([row], near)) add(other, much);
      for (const [one, , much] of this.linkShares(near, [row])) add(one, much);
      rows.forEach((each, place) => {
        const strength = pair.get(each);
        if (strength !== undefined) likeness[place] = closer(likeness[place], Math.min(Math.max(strength, -1), 1));
      });
    }
    return Array.from(highest(likeness, n, [], null), (place) => ({ row: rows[place], score: likeness[place] })); // rows rise
  }

  private cosines(own: Float64Array, rows: Int32Array): Float64Array {
    const length = norm(own);
    this.lengths ??= Float64Array.from({ length: this.factors.nItems }, (_, row) => norm(this.likeness([row])));
    const lengths = this.lengths;
    const weights = this.factors.trust.map((each, column) => each * this.told[column]);
    const products = this.factors.products(own.map((each, column) => each * weights[column]), this.room);
    return Float64Array.from(rows, (row) => (length ? products[row] / Math.max(lengths[row] * length, TINY) : 0));
  }

  /** Rows that this one has a link to, or that have one to it; of those that are allowed. */
  private around(row: number, allowed: ReadonlySet<number>): number[] {
    const found = new Set<number>();
    for (const { places, items, to, width } of this.links) {
      const place = places.get(row);
      for (let link = 0; place !== undefined && link < width; link += 1) found.add(to[place * width + link]);
      to.forEach((other, at) => other === row && found.add(items[Math.floor(at / width)]));
    }
    return [...found].filter((each) => allowed.has(each)).sort((one, other) => one - other);
  }

  /** What links of items say about rows, each once: the share of what vectors, or a link of the item, say at most. */
  private linkShares(items: ArrayLike<number>, rows: ArrayLike<number>): Said {
    const { factors, links, told } = this;
    const ones = Float32Array.of(1);
    const alone = Array.from(items, (row) => ({ indices: Int32Array.of(row), weights: ones, nItems: factors.nItems }));
    const says = alone.map((history) => norm(factors.users(history).vector.map((each, column) => each * told[column])));
    const hears = Array.from(rows, (row) => norm(factors.vector(row).map((each, column) => each * told[column])));
    const amounts = links.map(({ source }) => alone.map((history) => factors.amounts(source, history)[0]));
    const most = alone.map((_, place) => {
      const scales = links.map(({ places, scale }, at) => Math.abs(amounts[at][place]) * (scale[places.get(items[place]) ?? -1] ?? 0));
      return Math.max(scales.reduce((total, each) => total + each, 0), TINY);
    });
    return links.flatMap((each, at) =>
      between(each, items, rows).map(([one, other, much]) => [one, other, (much * amounts[at][one]) / Math.max(says[one] * hears[other], most[one])] as const),
    );
  }
}

/** Cosines that bonds bring nearer to 1, or where a bond is negative to -1, by that share of the way. */
export function closer(cosine: number, strength: number): number {
  return cosine + strength * (1 - Math.sign(strength) * cosine);
}

/** Rows of the n highest scores, best first, of equals the lower row first. */
export function highest(scores: Float64Array | Float32Array, n: number, without: ArrayLike<number>, among: ArrayLike<number> | null): Int32Array {
  const hidden = new Set<number>();
  for (let place = 0; place < without.length; place += 1) hidden.add(without[place]);
  const count = among ? among.length : scores.length;
  // A heap of the best so far, of which the worst is first.
  const kept = new Int32Array(Math.min(n, count));
  const worse = (one: number, other: number): boolean => scores[one] < scores[other] || (scores[one] === scores[other] && one > other);
  const sink = (row: number, end: number): void => {
    let at = 0;
    for (let next = 1; next < end; next = 2 * at + 1) {
      if (next + 1 < end && worse(kept[next + 1], kept[next])) next += 1;
      if (!worse(kept[next], row)) break;
      kept[at] = kept[next];
      at = next;
    }
    kept[at] = row;
  };
  let size = 0;
  let least = -Infinity;
  for (let place = 0; place < count; place += 1) {
    const row = among ? among[place] : place;
    if (!(scores[row] >= least) || hidden.has(row)) continue;
    if (size < kept.length) {
      let at = size;
      size += 1;
      for (let above = (at - 1) >> 1; at && worse(row, kept[above]); above = (at - 1) >> 1) [kept[at], at] = [kept[above], above];
      kept[at] = row;
      if (size === kept.length) least = scores[kept[0]];
    } else if (size && worse(kept[0], row)) {
      sink(row, size);
      least = scores[kept[0]];
    }
  }
  // The worst goes to the end, one after the other.
  for (let end = size - 1; end > 0; end -= 1) {
    const [worst, last] = [kept[0], kept[end]];
    sink(last, end);
    kept[end] = worst;
  }
  return kept.subarray(0, size);
}

/** What an item's links add, by the row that they reach, if the items count so much. */
function sumsOf({ places, to, shape, scale, width }: Links, items: Int32Array, amounts: Float64Array): Map<number, number> {
  const sums = new Map<number, number>();
  items.forEach((row, at) => {
    const place = places.get(row);
    if (place === undefined) return;
    const amount = amounts[at] * scale[place];
    for (let link = place * width; link < (place + 1) * width; link += 1) sums.set(to[link], (sums.get(to[link]) ?? 0) + shape[link] * amount);
  });
  return sums;
}

/** What some items' links say about some rows, of which each is given once. */
function between({ places, to, shape, scale, width }: Links, items: ArrayLike<number>, rows: ArrayLike<number>): Said {
  const wanted = new Map(Array.from(rows, (row, place) => [row, place]));
  const said: [number, number, number][] = [];
  for (let at = 0; at < items.length; at += 1) {
    const place = places.get(items[at]);
    for (let link = 0; place !== undefined && link < width; link += 1) {
      const other = wanted.get(to[place * width + link]);
      if (other !== undefined) said.push([at, other, shape[place * width + link] * scale[place]]);
    }
  }
  return said;
}

/** The weight of a part of the score: its own, or that of its family, or 1. */
function weightOf(weights: Readonly<Record<string, number>>, source: string): number {
  return weights[source] ?? weights[familyOf(source)] ?? 1;
}

export function dot(one: Float64Array, other: Float64Array): number {
  let total = 0;
  for (let place = 0; place < one.length; place += 1) total += one[place] * other[place];
  return total;
}

export function norm(vector: Float64Array): number {
  return Math.sqrt(dot(vector, vector));
}

