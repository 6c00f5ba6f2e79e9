/**
 * Exploration: draws a taste that the user might have; the fewer events they have, the further from the known one.
 *
 * Thompson sampling with a bootstrap: every event has a random weight from Exp(1), and two imagined events are added, on
 * items drawn by popularity. Sources: Rubin, The Bayesian Bootstrap (1981); Osband and Van Roy, Bootstrapped Thompson
 * Sampling and Deep Exploration (2015).
 */

import { clipped, withInteractions, type History } from "./interests.js";

const IMAGINED = 2;

/** Random numbers for exploration; they needn't be secure, as a recommendation is not a release. */
export interface Rng {
  /** From 0 to below 1. */
  random(): number;
  /** From Exp(1). */
  exponential(): number;
  /** `count` different numbers from `first` to below `end`. */
  choice(first: number, end: number, count: number): number[];
}

export const RANDOM: Rng = {
  random: Math.random,
  exponential: () => -Math.log1p(-Math.random()),
  choice: (first, end, count) => {
    const among = Array.from({ length: end - first }, (_, place) => first + place);
    return Array.from({ length: count }, () => among.splice(Math.floor(Math.random() * among.length), 1)[0]);
  },
};

/** Draws items by popularity, or evenly if none is popular; from some rows, or all. */
export class Popular {
  private readonly ends: Float64Array;

  constructor(
    popularity: ArrayLike<number>,
    private readonly rows: ArrayLike<number> | null,
  ) {
    let total = 0;
    this.ends = new Float64Array(rows ? rows.length : popularity.length);
    for (let place = 0; place < this.ends.length; place += 1) {
      total += Math.max(popularity[rows ? rows[place] : place], 0);
      this.ends[place] = total;
    }
  }

  /** The item at a share of the whole, from 0 to below 1. */
  at(share: number): number {
    const { ends, rows } = this;
    const total = ends[ends.length - 1];
    let [low, high] = [0, ends.length - 1];
    if (!(total > 0)) low = Math.floor(share * ends.length);
    else {
      while (low < high) {
        const middle = (low + high) >> 1;
        if (ends[middle] > share * total) high = middle;
        else low = middle + 1;
      }
    }
    return rows ? rows[low] : low;
  }
}

/** The known history with random weights, and imagined events on items drawn by popularity. */
export function imagined(known: History, popular: Popular, rng: Rng): History {
  const weights = known.weights.map((weight) => clipped(weight * rng.exponential()));
  const added = Float32Array.from({ length: IMAGINED }, () => clipped(rng.exponential()));
  const drawn = Array.from({ length: IMAGINED }, () => popular.at(rng.random()));
  return withInteractions({ ...known, weights }, drawn, added);
}

/** Positions of a list of n that are explored, rising: a random choice in its lower half, `share` of n on average. */
export function slots(share: number, n: number, rng: Rng): number[] {
  const wanted = share * n;
  const count = Math.min(Math.floor(wanted) + Number(rng.random() < wanted % 1), n - Math.floor(n / 2));
  return count ? rng.choice(Math.floor(n / 2), n, count).sort((one, other) => one - other) : [];
}
