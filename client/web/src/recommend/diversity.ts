/**
 * Diversity: reranks candidates so that the items of a list have high scores and are dissimilar.
 *
 * Source: Carbonell and Goldstein, The Use of MMR, Diversity-Based Reranking (SIGIR 1998).
 */

import { closer, dot, norm } from "./scoring.js";

const TINY = 1e-30;
type Bonds = ReadonlyMap<number, ReadonlyMap<number, number>> | null;

/**
 * Positions of n candidates, each maximising (1 - diversity) * score - diversity * similarity to those before.
 *
 * @param scores - of the candidates; they are rescaled to 0 to 1.
 * @param vectors - of the candidates, then of the items beside them; the similarity of two is their cosine.
 * @param bonds - of the same, where a model has links.
 */
export function diverse(scores: Float64Array, vectors: readonly Float64Array[], n: number, diversity: number, bonds: Bonds): number[] {
  const [least, most] = [Math.min(...scores), Math.max(...scores)];
  const span = most - least;
  const worth = scores.map((score) => (1 - diversity) * (span ? (score - least) / span : 0));
  const units = vectors.map((vector) => {
    const [length, unit] = [Math.max(norm(vector), TINY), new Float64Array(vector.length)];
    for (let column = 0; column < unit.length; column += 1) unit[column] = vector[column] / length;
    return unit;
  });
  const likeness = new Float64Array(scores.length);
  const raise = (place: number) => {
    const own = bonds?.get(place);
    for (let other = 0; other < likeness.length; other += 1) {
      const strength = own?.get(other);
      const cosine = dot(units[other], units[place]);
      likeness[other] = Math.max(likeness[other], strength === undefined ? cosine : closer(cosine, strength));
    }
  };
  for (let place = scores.length; place < units.length; place += 1) raise(place);
  const chosen: number[] = [];
  const free = new Uint8Array(scores.length).fill(1);
  while (chosen.length < Math.min(n, scores.length)) {
    let best = -1;
    for (let place = 0, highest = -Infinity; place < scores.length; place += 1) {
      const value = worth[place] - diversity * likeness[place];
      if (free[place] && (best < 0 || value > highest)) [best, highest] = [place, value];
    }
    chosen.push(best);
    free[best] = 0;
    raise(best);
  }
  return chosen;
}
