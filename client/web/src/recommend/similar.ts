/** Similar: what is like an item by the model alone, whoever asks; `similar` of Python's scorer. */

import { closer, highest, norm, type Scorer } from "./scoring.js";

const TINY = 1e-30;

/** The n items most similar to one, best first, of the rows `among` or all, and the similarities. */
export function similar(scorer: Scorer, row: number, n: number, among: ArrayLike<number> | null): { row: number; score: number }[] {
  const rows = Int32Array.from(among ?? Array.from({ length: scorer.factors.nItems }, (_, place) => place)).filter((each) => each !== row);
  const likeness = cosines(scorer, scorer.likeness([row]), rows);
  const near = around(scorer, row, new Set(rows));
  if (near.length) {
    const pair = new Map<number, number>();
    const add = (place: number, much: number) => pair.set(near[place], (pair.get(near[place]) ?? 0) + much / 2);
    for (const [, other, much] of scorer.linkShares([row], near)) add(other, much);
    for (const [one, , much] of scorer.linkShares(near, [row])) add(one, much);
    rows.forEach((each, place) => {
      const strength = pair.get(each);
      if (strength !== undefined) likeness[place] = closer(likeness[place], Math.min(Math.max(strength, -1), 1));
    });
  }
  return Array.from(highest(likeness, n, [], null), (place) => ({ row: rows[place], score: likeness[place] })); // rows rise
}

function cosines(scorer: Scorer, own: Float64Array, rows: Int32Array): Float64Array {
  const { factors, told } = scorer;
  const length = norm(own);
  const lengths = (scorer.lengths ??= Float64Array.from({ length: factors.nItems }, (_, row) => norm(scorer.likeness([row]))));
  const weighted = own.map((each, column) => each * factors.trust[column] * told[column]);
  const products = factors.products(weighted, new Float64Array(factors.nItems));
  return Float64Array.from(rows, (row) => (length ? products[row] / Math.max(lengths[row] * length, TINY) : 0));
}

/** Rows that this one has a link to, or that have one to it; of those that are allowed. */
function around(scorer: Scorer, row: number, allowed: ReadonlySet<number>): number[] {
  const found = new Set<number>();
  for (const { places, items, to, width } of scorer.links) {
    const place = places.get(row);
    for (let link = 0; place !== undefined && link < width; link += 1) found.add(to[place * width + link]);
    to.forEach((other, at) => other === row && found.add(items[Math.floor(at / width)]));
  }
  return [...found].filter((each) => allowed.has(each)).sort((one, other) => one - other);
}
