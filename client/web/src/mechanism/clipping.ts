/**
 * Clipping: from raw blocks to whole numbers whose norm is at most the grid, checked exactly.
 *
 * All blocks are scaled by their layout weight, clipped jointly to the clip norm, put on a grid of `grid` steps per clip norm,
 * rounded toward zero, and only then checked. A contribution that is not finite is all zeros: an error would tell something.
 */

import { InputError } from "../errors.js";
import { blockSize, quantise, squareNorm, type Block, type BlockSpec, type Clipped } from "./update.js";

const MAX_GRID = 2 ** 26;
/** More than all rounding of the scaling, less than one grid step. */
const GUARD = 1 - 2 ** -40;
const MOST_ROWS = 2 ** 15;

/** One user's clipped contribution; the squares of the layout's weights sum to 1. */
export function clip(blocks: readonly Block[], layout: readonly BlockSpec[], clipNorm: number, grid: number): Clipped {
  if (!(clipNorm >= 1e-6 && clipNorm <= 1e6)) throw new InputError(`\`clip_norm\` must lie in [1e-6, 1e6], got ${clipNorm}`);
  if (!Number.isInteger(grid) || grid < 1 || grid > MAX_GRID) throw new InputError(`\`grid\` must lie in [1, ${MAX_GRID}] steps, got ${grid}`);
  if (!layout.length || blocks.length !== layout.length) throw new InputError(`an update must have ${layout.length} blocks, got ${blocks.length}`);
  layout.forEach((spec, at) => checkShape(spec, blocks[at]));
  const norm = Math.sqrt(layout.reduce((sum, { weight }, at) => sum + weight ** 2 * squareNorm(blocks[at]), 0));
  const steps = new Float64Array(layout.reduce((sum, spec) => sum + blockSize(spec), 0));
  if (!Number.isFinite(norm)) return { steps, grid };
  const scale = GUARD / Math.max(norm, clipNorm);
  const parts = blocks.map((block, at) => quantise(block, scale * layout[at].weight, grid));
  // Exact up to 2^53: sums of whole numbers that stay below are not rounded, and those above stay above.
  if (!(parts.reduce((sum, { square }) => sum + square, 0) <= grid ** 2)) return { steps, grid };
  let at = 0;
  for (const part of parts) {
    const vector = part.vector();
    steps.set(vector, at);
    at += vector.length;
  }
  return { steps, grid };
}

function checkShape({ name, shape }: BlockSpec, block: Block): void {
  const fail = (): never => {
    throw new InputError(`block \`${name}\` must have shape ${shape.join(" x ")}, and rows that rise`);
  };
  if (block.kind === "dense") {
    if (block.values.length !== shape.reduce((product, each) => product * each, 1)) fail();
    return;
  }
  const { indices, rows, height } = block;
  for (let at = 0; at < indices.length; at += 1) if (indices[at] >= height || indices[at] < 0 || (at && indices[at] <= indices[at - 1])) fail();
  if (rows.length !== indices.length) fail();
  if (block.kind === "pairs") {
    if (shape.length !== 1 || shape[0] !== (height * (height - 1)) / 2 || height > MOST_ROWS) fail();
    return;
  }
  const wide = shape.length === 1 ? 1 : shape[1];
  if (shape.length > 2 || shape[0] !== height || block.column.length !== wide) fail();
  const { along, shift } = block;
  if ((along === undefined) !== (shift === undefined)) fail();
  if (along && (along.length !== height || !along.every(Number.isInteger) || !(along.reduce((sum, each) => sum + each * each, 0) <= MAX_GRID ** 2))) fail();
}
