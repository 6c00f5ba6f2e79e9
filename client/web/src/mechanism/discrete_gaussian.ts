/**
 * Discrete Gaussian noise on the integer grid, sampled exactly.
 *
 * Canonne, Kamath and Steinke (2020), "The Discrete Gaussian for Differential Privacy": rejection sampling from a discrete
 * Laplace of scale sigma, where every coin is a comparison of whole numbers. There is no table, no tail cut and no rounding:
 * numbers are whole and below 2^53, or pairs of 32 bits. The same words give the same values as on every other device.
 *
 * A coin of probability n/d compares a word below d floor((2^64 - 1)/d) with n floor((2^64 - 1)/d); words at or above the first
 * bound are drawn again. How long a call takes depends on the words: its time must not be published.
 */

import { InputError, PalateError } from "../errors.js";
import { Dry, type Source } from "./randomness.js";

/** Largest standard deviation, in steps. */
export const MAX_SIGMA = 2 ** 30;
const TOP = 2n ** 64n - 1n;
const CHUNK = 1 << 16;
const PATIENCE = 256;
const SHARED = 10;
/** Up to here all of an exponent's numbers are below 2^53. */
const WHOLE_SIGMA = 2 ** 25;
/** Words that are read ahead for each candidate: it takes about 7. */
const AHEAD = 10;

/** 64 bits as two times 32. */
interface Pair {
  readonly high: number;
  readonly low: number;
}

const pair = (value: bigint): Pair => ({ high: Number(value >> 32n), low: Number(value & 0xffffffffn) });

/** The high and low halves of many numbers. */
interface Pairs {
  readonly high: Uint32Array;
  readonly low: Uint32Array;
}

const FACTORIALS = Array.from({ length: SHARED + 1 }, (_, n) => Array.from({ length: n }, (_each, k) => BigInt(k + 1)).reduce((a, b) => a * b, 1n));
const FACTORIAL_LIMIT = (TOP / FACTORIALS[SHARED]) * FACTORIALS[SHARED];
const FACTORIAL_STEPS = FACTORIALS.map((factorial) => pair(FACTORIAL_LIMIT / factorial));
const FACTORIAL_PAIR = pair(FACTORIAL_LIMIT);
const ONE_IN = Array.from({ length: PATIENCE + 2 }, (_, n) => (n ? pair(TOP / BigInt(n)) : pair(0n)));
const ONE_IN_LIMIT = Array.from({ length: PATIENCE + 2 }, (_, n) => (n ? pair((TOP / BigInt(n)) * BigInt(n)) : pair(0n)));

/**
 * Draws `count` independent values of N_Z(0, sigma^2): P(y) proportional to exp(-y^2 / (2 sigma^2)) on the integers.
 *
 * Any value up to 256 sigma occurs; beyond, with probability below 2^-340, the call fails.
 */
export async function sampleDiscreteGaussian(count: number, sigma: number, source: Source): Promise<Float64Array> {
  if (!Number.isInteger(sigma) || sigma < 1 || sigma > MAX_SIGMA) throw new InputError(`\`sigma\` must be a whole number in [1, ${MAX_SIGMA}], got ${sigma}`);
  if (!Number.isSafeInteger(count) || count < 0) throw new InputError(`\`count\` must be a whole number from 0, got ${count}`);
  const noise = new Float64Array(count);
  let [filled, barren] = [0, 0];
  while (filled < count) {
    // A candidate is kept with probability 0.48. How many are tried depends only on how many values are missing.
    const candidates = Math.min(CHUNK, 64 + Math.floor(((count - filled) * 9) / 4));
    const kept = (await taken(candidates, sigma, source)).subarray(0, count - filled);
    noise.set(kept, filled);
    filled += kept.length;
    barren = kept.length ? 0 : barren + 1;
    refuseStuck(16 * barren);
  }
  return noise;
}

/** The kept candidates. Where the words that were read ahead don't suffice, all is done again from the same words. */
async function taken(candidates: number, sigma: number, source: Source): Promise<Float64Array> {
  for (let ahead = AHEAD * candidates + 4096; ; ahead *= 2) {
    await source.fill(ahead);
    const mark = source.mark();
    try {
      return keptCandidates(candidates, sigma, source);
    } catch (error) {
      if (!(error instanceof Dry)) throw error;
      source.back(mark);
    }
  }
}

function keptCandidates(candidates: number, sigma: number, source: Source): Float64Array {
  // |y| = offset + sigma laps with probability proportional to e^(-|y|/sigma): their algorithm 2.
  const unit = TOP / BigInt(sigma);
  const words = wordsBelow(candidates, pair(unit * BigInt(sigma)), source);
  let offset = new Float64Array(candidates);
  for (let at = 0; at < candidates; at += 1) offset[at] = quotient(words[2 * at + 1], words[2 * at], pair(unit));
  const first = expMinus(halves(offset), BigInt(sigma), source);
  offset = offset.filter((_, at) => first[at] === 1);
  const count = offset.length;
  const laps = geometric(count, source);
  const negative = bits(count, source);
  const keep = new Uint8Array(count);
  const value = new Float64Array(count);
  for (let at = 0; at < count; at += 1) {
    value[at] = offset[at] + sigma * laps[at];
    // Zero would otherwise count twice, once per sign.
    keep[at] = value[at] > 0 || !negative[at] ? 1 : 0;
  }
  const { whole, part } = sigma <= WHOLE_SIGMA ? exponents(offset, laps, sigma) : largeExponents(offset, laps, sigma);
  const second = expMinus(part, 2n * BigInt(sigma) ** 2n, source);
  for (let at = 0; at < count; at += 1) keep[at] &= second[at];
  // e^-whole: at least `whole` coins of probability 1/e in a row.
  const far: number[] = [];
  for (let at = 0; at < count; at += 1) if (whole[at]) far.push(at);
  const runs = geometric(far.length, source);
  far.forEach((at, place) => (keep[at] &= runs[place] >= whole[at] ? 1 : 0));
  for (let at = 0; at < count; at += 1) if (negative[at]) value[at] = -value[at];
  return value.filter((_, at) => keep[at] === 1);
}

/** floor(word / unit), exact: an estimate, which is then compared in whole numbers. The quotient is below 2^30. */
function quotient(high: number, low: number, unit: Pair): number {
  let found = Math.floor((high * 2 ** 32 + low) / (unit.high * 2 ** 32 + unit.low));
  for (;;) {
    const [least, next] = [times(0, found, unit), times(0, found + 1, unit)];
    // The product with the next number may pass 2^64: then it is above every word.
    const wraps = next.high < least.high || (next.high === least.high && next.low < least.low);
    if (least.high > high || (least.high === high && least.low > low)) found -= 1;
    else if (!wraps && (next.high < high || (next.high === high && next.low <= low))) found += 1;
    else return found;
  }
}

/** The product of two numbers modulo 2^64. */
function times(high: number, low: number, by: Pair): Pair {
  const [a, b] = [low >>> 16, low & 0xffff];
  const [c, d] = [by.low >>> 16, by.low & 0xffff];
  const middle = a * d + b * c;
  const bottom = b * d + (middle % 65536) * 65536;
  const top = a * c + Math.floor(middle / 65536) + Math.floor(bottom / 2 ** 32);
  return { low: bottom >>> 0, high: (top + Math.imul(high, by.low) + Math.imul(low, by.high)) >>> 0 };
}

function halves(values: Float64Array): Pairs {
  const [high, low] = [new Uint32Array(values.length), new Uint32Array(values.length)];
  for (let at = 0; at < values.length; at += 1) {
    low[at] = values[at] >>> 0;
    high[at] = Math.floor(values[at] / 2 ** 32);
  }
  return { high, low };
}

/**
 * (|y| - sigma)^2 / (2 sigma^2) as whole + part / (2 sigma^2), part < 2 sigma^2.
 *
 * With v = laps - 1 >= 1 and offset v = a sigma + b the exponent is v^2/2 + a + (2 b sigma + offset^2) / (2 sigma^2); all
 * numbers stay below 4 sigma^2 <= 2^52, where quotients of whole numbers, rounded down, are exact.
 */
function exponents(offset: Float64Array, laps: Uint16Array, sigma: number): { whole: Float64Array; part: Pairs } {
  const [whole, part, square] = [new Float64Array(laps.length), new Float64Array(laps.length), 2 * sigma * sigma];
  for (let at = 0; at < laps.length; at += 1) {
    const [x, v] = [offset[at], laps[at] - 1];
    if (v < 1) {
      const gap = v < 0 ? sigma - x : x;
      part[at] = gap * gap;
      continue;
    }
    const a = Math.floor((x * v) / sigma);
    const rest = (v & 1) * sigma * sigma + (x * v - a * sigma) * 2 * sigma + x * x;
    const more = Math.floor(rest / square);
    part[at] = rest - more * square;
    whole[at] = ((v * v) >> 1) + a + more;
  }
  return { whole, part: halves(part) };
}

/** The same for a large sigma, whose squares need 64 bits. */
function largeExponents(offset: Float64Array, laps: Uint16Array, sigma: number): { whole: Float64Array; part: Pairs } {
  const whole = new Float64Array(laps.length);
  const part = { high: new Uint32Array(laps.length), low: new Uint32Array(laps.length) };
  const wide = BigInt(sigma);
  for (let at = 0; at < laps.length; at += 1) {
    const [x, v] = [BigInt(offset[at]), BigInt(laps[at] - 1)];
    const gap = v < 0n ? wide - x : x;
    let left = gap * gap;
    if (v >= 1n) {
      const [a, b] = [(x * v) / wide, (x * v) % wide];
      const rest = (v & 1n) * wide * wide + b * 2n * wide + x * x;
      left = rest % (2n * wide * wide);
      whole[at] = Number((v * v) / 2n + a + rest / (2n * wide * wide));
    }
    part.high[at] = Number(left >> 32n);
    part.low[at] = Number(left & 0xffffffffn);
  }
  return { whole, part };
}

/**
 * Coins of probability exp(-numerator / denominator), each fraction in [0, 1] (von Neumann; their algorithm 1).
 *
 * Coins of probability fraction/1, fraction/2, ... are thrown until one fails; the answer is whether the failing one had an odd
 * place.
 */
function expMinus(numerator: Pairs, denominator: bigint, source: Source): Uint8Array {
  const count = numerator.low.length;
  const [unit, limit] = [pair(TOP / denominator), pair((TOP / denominator) * denominator)];
  const [high, low] = [new Uint32Array(count), new Uint32Array(count)];
  for (let at = 0; at < count; at += 1) {
    const threshold = times(numerator.high[at], numerator.low[at], unit);
    high[at] = threshold.high;
    low[at] = threshold.low;
  }
  const odd = new Uint8Array(count);
  let words = wordsBelow(count, limit, source);
  let alive: number[] = [];
  for (let at = 0; at < count; at += 1) {
    const hit = words[2 * at + 1] < high[at] || (words[2 * at + 1] === high[at] && words[2 * at] < low[at]);
    if (hit) alive.push(at);
    else odd[at] = 1;
  }
  for (let place = 2; alive.length; place += 1) {
    refuseStuck(place);
    words = wordsBelow(alive.length, limit, source);
    const coins = oneIn(place, alive.length, source);
    const next: number[] = [];
    alive.forEach((at, index) => {
      const less = words[2 * index + 1] < high[at] || (words[2 * index + 1] === high[at] && words[2 * index] < low[at]);
      if (less && coins[index]) next.push(at);
    });
    alive = next;
    for (const at of alive) odd[at] ^= 1;
  }
  return odd;
}

/** Coins of probability 1/e: the same chain with every fraction 1, the first coins read from one word. */
function expMinusOne(count: number, source: Source): Uint8Array {
  const words = wordsBelow(count, FACTORIAL_PAIR, source);
  const odd = new Uint8Array(count);
  let alive: number[] = [];
  for (let at = 0; at < count; at += 1) {
    let hit = false;
    for (let place = 2; place <= SHARED; place += 1) {
      hit = below(words, at, FACTORIAL_STEPS[place]);
      if (hit) odd[at] ^= 1;
    }
    if (hit) alive.push(at);
  }
  for (let place = SHARED + 1; alive.length; place += 1) {
    refuseStuck(place);
    const coins = oneIn(place, alive.length, source);
    alive = alive.filter((_, index) => coins[index]);
    for (const at of alive) odd[at] ^= 1;
  }
  return odd;
}

/** How many coins of probability 1/e succeed in a row. */
function geometric(count: number, source: Source): Uint16Array {
  const run = new Uint16Array(count);
  let coins = expMinusOne(count, source);
  let alive: number[] = [];
  for (let at = 0; at < count; at += 1) if (coins[at]) alive.push(at);
  for (let length = 1; alive.length; length += 1) {
    refuseStuck(length);
    for (const at of alive) run[at] = length;
    coins = expMinusOne(alive.length, source);
    alive = alive.filter((_, index) => coins[index]);
  }
  return run;
}

function oneIn(denominator: number, count: number, source: Source): Uint8Array {
  const words = wordsBelow(count, ONE_IN_LIMIT[denominator], source);
  const hit = new Uint8Array(count);
  for (let at = 0; at < count; at += 1) hit[at] = below(words, at, ONE_IN[denominator]) ? 1 : 0;
  return hit;
}

/** Fair coins, 64 a word, the highest bit of each byte first. */
function bits(count: number, source: Source): Uint8Array {
  const bytes = new Uint8Array(source.words(Math.ceil(count / 64)).buffer);
  const coins = new Uint8Array(count);
  for (let at = 0; at < count; at += 1) coins[at] = (bytes[at >> 3] >> (7 - (at & 7))) & 1;
  return coins;
}

function below(words: Uint32Array, at: number, limit: Pair): boolean {
  const high = words[2 * at + 1];
  return high < limit.high || (high === limit.high && words[2 * at] < limit.low);
}

/** Words uniform on [0, limit): those at or above it are drawn again. */
function wordsBelow(count: number, limit: Pair, source: Source): Uint32Array {
  const words = source.words(count);
  let again: number[] = [];
  for (let at = 0; at < count; at += 1) if (!below(words, at, limit)) again.push(at);
  for (let tries = 1; again.length; tries += 1) {
    refuseStuck(tries);
    const fresh = source.words(again.length);
    again.forEach((at, index) => {
      words[2 * at] = fresh[2 * index];
      words[2 * at + 1] = fresh[2 * index + 1];
    });
    again = again.filter((_, index) => !below(fresh, index, limit));
  }
  return words;
}

function refuseStuck(run: number): void {
  if (run > PATIENCE) throw new PalateError(`\`source\` must give uniform words, got one improbable event ${run} times in a row`);
}
