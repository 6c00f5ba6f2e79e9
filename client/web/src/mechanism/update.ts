/**
 * Updates: what a device computes for one round, before and after it is put on the grid; only the latter leaves the device.
 *
 * Blocks are one user's: a dense array; rows times a column vector, which may be centred; or the pairs of some rows.
 */

/** Coordinates at the end of each release that no user contributes to. */
export const DUMMIES = 64;

/** One block of the layout: its name, its shape for one user, and its share of the joint norm. */
export interface BlockSpec {
  readonly name: string;
  readonly shape: readonly number[];
  readonly weight: number;
}

export const blockSize = ({ shape }: BlockSpec): number => shape.reduce((product, each) => product * each, 1);
export const layoutSize = (layout: readonly BlockSpec[]): number => layout.reduce((sum, each) => sum + blockSize(each), 0);

/** A dense array, row by row. */
export interface DenseBlock {
  readonly kind: "dense";
  readonly values: Float64Array;
}

/**
 * `a b'`, with `a` sparse over the rows that the user has. With `along` (public whole numbers c) and `shift` (t, the user's own)
 * it is `(a - t c) b'`, in which all rows are set.
 */
export interface OuterBlock {
  readonly kind: "outer";
  /** Rising. */
  readonly indices: Int32Array;
  readonly rows: Float64Array;
  readonly column: Float64Array;
  readonly height: number;
  readonly along?: Float64Array;
  readonly shift?: number;
}

/** `a_i a_j` for i < j, row by row of the triangle. */
export interface PairBlock {
  readonly kind: "pairs";
  readonly indices: Int32Array;
  readonly rows: Float64Array;
  readonly height: number;
}

export type Block = DenseBlock | OuterBlock | PairBlock;

/** A contribution in whole steps of the grid: made by `clip` alone. */
export interface Clipped {
  readonly steps: Float64Array;
  readonly grid: number;
}

/** A centred user's rows are at most so much longer than what is sent. */
export const LEVER = 8;
/** Of (sum a^2)^2: more than all rounding of a pair block's norm. */
const SLACK = 2 ** -40;
/** Of what is taken off one coordinate. */
const MOST_REACH = 2 ** 30;
/** Of one row of pairs. */
const MOST_STEPS = 2 ** 24;

export const sumSquares = (values: Float64Array): number => values.reduce((sum, each) => sum + each * each, 0);

/** Steps of a column vector's length: the power of two next to the root of the grid; the rows have the rest. */
export function columnGrid(grid: number): number {
  return 2 ** Math.floor((31 - Math.clz32(grid)) / 2);
}

/** Halves to the even number. */
export function roundEven(value: number): number {
  const low = Math.floor(value);
  const over = value - low;
  return over > 0.5 || (over === 0.5 && low % 2 !== 0) ? low + 1 : low;
}

/** |a|^2 and a.c of a centred block. */
export function moments({ indices, rows, along }: OuterBlock): [number, number] {
  let dot = 0;
  if (along) for (let at = 0; at < rows.length; at += 1) dot += rows[at] * along[indices[at]];
  return [sumSquares(rows), dot];
}

/** Products of which nothing is along `along`, and whose left factor then has length 1. */
export function buildCentred(block: OuterBlock, leastLeft: number): OuterBlock {
  const along = block.along ?? new Float64Array();
  const [squares, dots] = moments(block);
  const square = sumSquares(along);
  const shift = dots / square;
  const length = Math.sqrt(Math.max(squares - shift ** 2 * square, leastLeft ** 2 * squares));
  return { ...block, shift, column: block.column.map((each) => each / (length > 0 ? length : 1)) };
}

/** Squared norm of a block, at least: of centred rows and of pairs it is a little more. */
export function squareNorm(block: Block): number {
  if (block.kind === "dense") return sumSquares(block.values);
  if (block.kind === "pairs") {
    const squares = block.rows.map((each) => each * each);
    const whole = squares.reduce((sum, each) => sum + each, 0) ** 2;
    return Math.max(whole - sumSquares(squares), 0) / 2 + SLACK * whole;
  }
  const [squares, dots] = moments(block);
  const columns = sumSquares(block.column);
  if (!block.along || block.shift === undefined) return squares * columns;
  const taken = block.shift ** 2 * sumSquares(block.along);
  const left = squares - 2 * block.shift * dots + taken;
  return Math.max(left, Math.max(squares, taken) / LEVER ** 2) * columns;
}

/** A block in whole steps: its numbers, and their squared norm, which is exact up to 2^53. */
export interface Steps {
  readonly vector: () => Float64Array;
  readonly square: number;
}

/** A block times a scale, in grid steps; none is longer than before. */
export function quantise(block: Block, scale: number, grid: number): Steps {
  if (block.kind === "dense") {
    const values = block.values.map((each) => Math.trunc(each * (scale * grid)) + 0);
    return { vector: () => values, square: sumSquares(values) };
  }
  if (block.kind === "pairs") return pairSteps(block, Math.sqrt(scale * grid));
  return outerSteps(block, scale, grid);
}

function pairSteps({ indices, rows, height }: PairBlock, root: number): Steps {
  const whole = rows.map((each) => Math.trunc(root * each));
  let [square, before] = [0, 0];
  for (const each of whole) {
    square += each * each * before;
    before += each * each;
  }
  if (whole.some((each) => Math.abs(each) > MOST_STEPS)) square = Infinity;
  const vector = (): Float64Array => {
    const made = new Float64Array((height * (height - 1)) / 2);
    for (let i = 0; i < whole.length; i += 1) {
      const start = (indices[i] * (2 * height - indices[i] - 1)) / 2 - indices[i] - 1;
      for (let j = i + 1; j < whole.length; j += 1) made[start + indices[j]] = whole[i] * whole[j] + 0;
    }
    return made;
  };
  return { vector, square };
}

function outerSteps(block: OuterBlock, scale: number, grid: number): Steps {
  const { indices, rows, column, height } = block;
  const narrow = column.length === 1;
  const steps = narrow ? 1 : columnGrid(grid);
  const length = Math.sqrt(sumSquares(column));
  const each = steps / (length > 0 ? length : 1);
  const columns = column.map((value) => (narrow ? roundEven(value * each) : Math.trunc(value * each)));
  let perUser = scale * length * (grid / steps);
  let [along, taken, whole] = [block.along, 0, new Float64Array(rows.length)];
  if (along && block.shift !== undefined) {
    [taken, perUser] = wholeShift(block, perUser, perUser * block.shift);
    for (let at = 0; at < rows.length; at += 1) {
      const off = taken * along[indices[at]];
      whole[at] = Math.trunc(perUser * rows[at] - off) + off;
    }
  } else {
    along = undefined;
    whole = rows.map((value) => Math.trunc(perUser * value));
  }
  const made = new Float64Array(height);
  for (let at = 0; at < rows.length; at += 1) made[indices[at]] = whole[at];
  if (along) for (let row = 0; row < height; row += 1) made[row] -= taken * along[row];
  const largest = (values: Float64Array): number => values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const reach = along ? Math.abs(taken) * largest(along) * largest(columns) : 0;
  const vector = (): Float64Array => {
    const width = columns.length;
    const flat = new Float64Array(height * width);
    for (let row = 0; row < height; row += 1) {
      if (made[row]) for (let at = 0; at < width; at += 1) flat[row * width + at] = made[row] * columns[at] + 0;
    }
    return flat;
  };
  return { vector, square: reach <= MOST_REACH ? sumSquares(made) * sumSquares(columns) : Infinity };
}

/**
 * The shift T in whole steps, and the scale of the rows, the largest with |r s a - T c| <= |s a - t c|: rounding t to T can
 * lengthen what is sent, along c, and the rows give way. Where no scale will do, T is 0.
 */
function wholeShift(block: OuterBlock, scale: number, asked: number): [number, number] {
  const [norm, inner] = moments(block);
  const square = sumSquares(block.along ?? new Float64Array());
  const shift = square ? asked : 0; // off nothing nothing is taken, however often
  const squares = (scale * Math.sqrt(norm)) ** 2;
  const dots = scale * inner;
  const most = Math.max(squares - 2 * shift * dots + shift ** 2 * square, 0);
  let [whole, factor] = [roundEven(shift), 0];
  for (let pass = 0; pass < 2; pass += 1) {
    const [dot, taken] = [whole * dots, whole ** 2 * square];
    const root = Math.sqrt(Math.max(dot ** 2 + squares * (most - taken), 0));
    factor = Math.min(Math.max((dot + root) / (squares > 0 ? squares : 1), 0), 1);
    const left = factor ** 2 * squares - 2 * factor * dot + taken;
    if (!(left <= most + 2 ** -48 * (squares + taken))) whole = 0;
  }
  return [whole, scale * factor];
}
