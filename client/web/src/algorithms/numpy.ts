/**
 * What of numpy an algorithm's public choices rest on: its order of summing, and its seeded random numbers (SeedSequence, PCG64).
 *
 * They are public: nothing here is a source of noise. So that devices in any language choose and round alike.
 */

const MASK = (1n << 64n) - 1n;
const WIDE = (1n << 128n) - 1n;
const MULTIPLIER = 0x2360ed051fc65da44385df649fccf645n;

/** The sum of some values as numpy's `add.reduceat` makes it: the first, and to it the pairwise sum of the others. */
export function summed(count: number, value: (at: number) => number, round: (sum: number) => number = (sum) => sum): number {
  if (!count) return 0;
  return count === 1 ? value(0) : round(value(0) + pairwise(1, count - 1, value, round));
}

function pairwise(first: number, count: number, value: (at: number) => number, round: (sum: number) => number): number {
  if (count > 128) {
    const half = Math.floor(count / 2 / 8) * 8;
    return round(pairwise(first, half, value, round) + pairwise(first + half, count - half, value, round));
  }
  const times = Math.floor(count / 8);
  let sum = 0;
  if (times) {
    const lanes = Array.from({ length: 8 }, (_, lane) => value(first + lane));
    for (let at = 1; at < times; at += 1) for (let lane = 0; lane < 8; lane += 1) lanes[lane] = round(lanes[lane] + value(first + 8 * at + lane));
    const [a, b, c, d] = [0, 2, 4, 6].map((lane) => round(lanes[lane] + lanes[lane + 1]));
    sum = round(round(a + b) + round(c + d));
  }
  for (let at = 8 * times; at < count; at += 1) sum = round(sum + value(first + at));
  return sum;
}

/** The sum of squares in that order. */
export const squaresOf = (values: ArrayLike<number>): number => summed(values.length, (at) => values[at] * values[at]);

function poolOf(entropy: readonly number[]): Uint32Array {
  let constant = 0x43b0d7e5;
  const hashmix = (value: number): number => {
    value = (value ^ constant) >>> 0;
    constant = Math.imul(constant, 0x931e8875) >>> 0;
    value = Math.imul(value, constant) >>> 0;
    return (value ^ (value >>> 16)) >>> 0;
  };
  const mix = (x: number, y: number): number => {
    const result = (Math.imul(0xca01f9dd, x) - Math.imul(0x4973f715, y)) >>> 0;
    return (result ^ (result >>> 16)) >>> 0;
  };
  const pool = new Uint32Array(4);
  for (let at = 0; at < 4; at += 1) pool[at] = hashmix(at < entropy.length ? entropy[at] : 0);
  for (let from = 0; from < 4; from += 1) for (let to = 0; to < 4; to += 1) if (from !== to) pool[to] = mix(pool[to], hashmix(pool[from]));
  for (let from = 4; from < entropy.length; from += 1) for (let to = 0; to < 4; to += 1) pool[to] = mix(pool[to], hashmix(entropy[from]));
  return pool;
}

/** numpy's `default_rng`, of one seed or a list of seeds, from 0. */
export class PublicRandom {
  private state: bigint;
  private readonly increment: bigint;
  private spare: number | null = null;

  constructor(...seeds: readonly (number | bigint)[]) {
    const entropy: number[] = [];
    for (let seed of seeds.map(BigInt)) {
      do {
        entropy.push(Number(seed & 0xffffffffn));
        seed >>= 32n;
      } while (seed > 0n);
    }
    const pool = poolOf(entropy);
    let constant = 0x8b51f9dd;
    const words = Array.from({ length: 8 }, (_, at) => {
      let word = (pool[at % 4] ^ constant) >>> 0;
      constant = Math.imul(constant, 0x58f38ded) >>> 0;
      word = Math.imul(word, constant) >>> 0;
      return BigInt((word ^ (word >>> 16)) >>> 0);
    });
    const [a, b, c, d] = [0, 2, 4, 6].map((at) => words[at] | (words[at + 1] << 32n));
    this.increment = ((((c << 64n) | d) << 1n) | 1n) & WIDE;
    this.state = this.increment;
    this.state = (((this.state + ((a << 64n) | b)) & WIDE) * MULTIPLIER + this.increment) & WIDE;
  }

  /** The next 64 bits. */
  next(): bigint {
    this.state = (this.state * MULTIPLIER + this.increment) & WIDE;
    const [word, turn] = [((this.state >> 64n) ^ this.state) & MASK, this.state >> 122n];
    return ((word >> turn) | (word << (64n - turn))) & MASK;
  }

  private next32(): number {
    if (this.spare !== null) {
      const word = this.spare;
      this.spare = null;
      return word;
    }
    const word = this.next();
    this.spare = Number(word >> 32n);
    return Number(word & 0xffffffffn);
  }

  /** A whole number from 0 to `most`, below 2^32: as many bits as it has, drawn again above it. */
  private upTo(most: number): number {
    const mask = 2 ** (32 - Math.clz32(most)) - 1;
    for (;;) {
      const value = (this.next32() & mask) >>> 0;
      if (value <= most) return value;
    }
  }

  /** A permutation of 0 .. count - 1. */
  permutation(count: number): Int32Array {
    const made = Int32Array.from({ length: count }, (_, at) => at);
    for (let at = count - 1; at > 0; at -= 1) {
      const other = this.upTo(at);
      [made[at], made[other]] = [made[other], made[at]];
    }
    return made;
  }
}
