/** `popularity`: weight 1/sqrt(k) on each of a user's k items, so that nobody counts for more than anybody else. */

import type { OuterBlock } from "../mechanism/update.js";
import type { History } from "./history.js";
import { squaresOf } from "./numpy.js";

/** The user's items with weight proportional to their interaction weight, L2 norm 1, or 0 without items. */
export function popularityBlock({ indices, weights, nItems }: History): OuterBlock {
  const norm = Math.sqrt(squaresOf(weights));
  return { kind: "outer", indices, rows: Float64Array.from(weights, (each) => each / norm), column: Float64Array.of(1), height: nItems };
}
