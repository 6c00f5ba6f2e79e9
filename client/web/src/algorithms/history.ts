/** One user's history as an algorithm takes it, and what an algorithm makes of it. */

import { RefusedError } from "../errors.js";
import type { Block } from "../mechanism/update.js";
import type { GlobalModel } from "../models/model.js";

/** One user's items, rising, and their weights. */
export interface History {
  readonly indices: Int32Array;
  readonly weights: Float32Array;
  readonly nItems: number;
}

/** A history of items in any order; one that is there twice keeps its largest weight. */
export function historyOf(items: Iterable<readonly [number, number]>, nItems: number): History {
  const weights = new Map<number, number>();
  for (const [item, weight] of items) {
    const single = Math.fround(weight);
    if (!(Number.isInteger(item) && item >= 0 && item < nItems && single > 0 && Number.isFinite(single))) {
      throw new RefusedError(`an item must be of the ${nItems} of the catalogue, with a positive weight`);
    }
    weights.set(item, Math.max(weights.get(item) ?? 0, single));
  }
  const indices = Int32Array.from(weights.keys()).sort();
  return { indices, weights: Float32Array.from(indices, (item) => weights.get(item) as number), nItems };
}

/** The blocks that a device sends for a history in a round, before they are clipped. */
export type Contribution = (model: GlobalModel, round: number, history: History) => Block[];
