/**
 * The final norm check: the vector that a device adds noise to, or sends, is at most one grid long, or it is zero.
 *
 * Clipping decides what a contribution is worth. This check decides what it may reveal, whatever computed the vector.
 */

import type { Clipped } from "./update.js";

/**
 * The contribution itself if its numbers are whole and their L2 norm is at most the grid; otherwise zeros.
 *
 * A whole number of at most 2^26 has a square of at most 2^52. A sum of such squares is exact while it is below 2^53, and rounding
 * never takes a larger one below 2^53 again. So a sum that is computed to be at most grid^2 <= 2^52 is the true one.
 */
export function bounded({ steps, grid }: Clipped): Clipped {
  let [square, whole] = [0, true];
  for (const each of steps) {
    square += each * each;
    whole &&= Number.isInteger(each);
  }
  return { steps: whole && square <= grid * grid ? steps : new Float64Array(steps.length), grid };
}
