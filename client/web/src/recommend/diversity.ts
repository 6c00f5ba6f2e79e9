/**
 * Diversity: reranks candidates so that the items of a list have high scores and are dissimilar.
 *
 * Source: Carbonell and Goldstein, The Use of MMR, Diversity-Based Reranking (SIGIR 1998).
 */

import { closer, norm } from "./scoring.js";

const TINY = 1e-30;
type Bonds = ReadonlyMap<number, ReadonlyMap<number, number>> | null;

/**
 * Positions of n candidates, each maximising (1 - diversity) * score - diversity * similarity to those before.
 *
 * @param scores - of the candidates; they are rescaled to 0 to 1.
 * @param vectors - of the candidates, then of the items beside them, row after row; the similarity of two is their cosine. They are
 * scaled to length 1 in their place.
 * @param bonds - of the same, where a model has links.
 */
export function diverse(scores: Float64Array, vectors: Float64Array, n: number, diversity: number, beside: number, bonds: Bonds): number[] {
  const count = scores.length;
  const width = vectors.length / (count + beside);
  const [least, most] = [scores.reduce((one, other) => Math.min(one, other), Infinity), scores.reduce((one, other) => Math.max(one, other), -Infinity)];
  const span = most - least;
  const worth = scores.map((score) => (1 - diversity) * (span ? (score - least) / span : 0));
  for (let row = 0; row < vectors.length; row += width) {
    const unit = vectors.subarray(row, row + width);
    const length = Math.max(norm(unit), TINY);
    for (let column = 0; column < width; column += 1) unit[column] /= length;
  }
  const likeness = new Float64Array(count);
  const raise = (place: number) => {
    const own = bonds?.get(place);
    for (let other = 0, row = 0; other < count; other += 1, row += width) {
      let cosine = 0;
      for (let column = 0; column < width; column += 1) cosine += vectors[row + column] * vectors[place * width + column];
      const strength = own?.get(other);
      likeness[other] = Math.max(likeness[other], strength === undefined ? cosine : closer(cosine, strength));
    }
  };
  for (let place = count; place < count + beside; place += 1) raise(place);
  const chosen: number[] = [];
  const free = new Uint8Array(count).fill(1);
  while (chosen.length < Math.min(n, count)) {
    let best = -1;
    for (let place = 0, highest = -Infinity; place < count; place += 1) {
      const value = worth[place] - diversity * likeness[place];
      if (free[place] && (best < 0 || value > highest)) [best, highest] = [place, value];
    }
    chosen.push(best);
    free[best] = 0;
    raise(best);
  }
  return chosen;
}
