/** Accounting: what an attempt costs, exactly, and how a spent mu^2 reads as epsilon. Unit: this installation; adjacency: zero-out. */

import { InputError } from "../errors.js";

/** The smallest sigma that the accounting covers. */
export const SIGMA_FLOOR = 64;

/** A finite number as whole * 2^power, exactly. */
function exactly(value: number): [bigint, number] {
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, value);
  const bits = view.getBigUint64(0);
  const exponent = Number((bits >> 52n) & 0x7ffn);
  const mantissa = (bits & 0xfffffffffffffn) | (exponent ? 1n << 52n : 0n);
  return [bits >> 63n ? -mantissa : mantissa, Math.max(exponent, 1) - 1075];
}

/** Whether grid^2 / (sigma^2 - 4), the exact cost of one discrete Gaussian release, is above `mu2`. */
export function costsMore(grid: number, sigma: number, mu2: number): boolean {
  if (sigma < SIGMA_FLOOR) throw new InputError(`\`sigma\` must be at least ${SIGMA_FLOOR} steps, got ${sigma}`);
  if (mu2 === Infinity) return false;
  const [whole, power] = exactly(mu2);
  const variance = BigInt(sigma) ** 2n - 4n;
  const squared = BigInt(grid) ** 2n;
  return power >= 0 ? squared > ((whole * variance) << BigInt(power)) : squared << BigInt(-power) > whole * variance;
}

/** The next larger double. */
export function nextUp(value: number): number {
  if (value === 0) return Number.MIN_VALUE;
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, value);
  view.setBigInt64(0, view.getBigInt64(0) + (value > 0 ? 1n : -1n));
  return view.getFloat64(0);
}

/** mu^2 of one release, rounded up to a double. */
export function chargedMu2(grid: number, sigma: number): number {
  let found = grid ** 2 / (sigma ** 2 - 4);
  found *= 1 - 2 ** -50;
  while (costsMore(grid, sigma, found)) found = nextUp(found);
  return found;
}

/** The sum of costs, rounded up: exact, as whole numbers of 2^-1074. */
export function totalMu2(costs: Iterable<number>): number {
  let sum = 0n;
  for (const cost of costs) {
    const [whole, power] = exactly(cost);
    sum += whole << BigInt(power + 1074);
  }
  const above = (value: number): boolean => {
    const [whole, power] = exactly(value);
    return sum > whole << BigInt(power + 1074);
  };
  let [low, high] = [0n, 0x7fefffffffffffffn];
  const view = new DataView(new ArrayBuffer(8));
  const at = (bits: bigint): number => {
    view.setBigInt64(0, bits);
    return view.getFloat64(0);
  };
  while (low < high) {
    const middle = (low + high) / 2n;
    if (above(at(middle))) low = middle + 1n;
    else high = middle;
  }
  return at(low);
}

/** Relative error that the functions below may have, by far; bounds are moved by it to the safe side. */
const SLACK = 1e-9;

/** e^(x^2) erfc(x), for x from 0 on: a continued fraction, or below 2 the series of erf. */
function scaledErfc(x: number): number {
  if (x < 2) {
    let [term, sum] = [x, x];
    for (let n = 1; Math.abs(term) > 1e-18 * Math.abs(sum) && n < 200; n += 1) {
      term *= (-x * x) / n;
      sum += term / (2 * n + 1);
    }
    return Math.exp(x * x) * (1 - (2 / Math.sqrt(Math.PI)) * sum);
  }
  let fraction = 0;
  for (let n = 120; n >= 1; n -= 1) fraction = n / 2 / (x + fraction);
  return 1 / Math.sqrt(Math.PI) / (x + fraction);
}

/** The smallest delta for which mu-GDP implies (eps, delta): Balle and Wang (2018), theorem 8. */
export function deltaOf(epsilon: number, mu: number): number {
  const [x, y] = [epsilon / mu - mu / 2, epsilon / mu + mu / 2].map((each) => each / Math.SQRT2);
  const tail = x >= 0 ? Math.exp(-x * x) * scaledErfc(x) : 2 - Math.exp(-x * x) * scaledErfc(-x);
  return (tail - Math.exp(-x * x) * scaledErfc(y)) / 2;
}

/** The smallest eps for which mu-GDP implies (eps, delta), rounded up by a part in 10^9. Unit and adjacency as of mu. */
export function epsilonOf(mu: number, delta: number): number {
  if (mu === 0) return 0;
  let [low, high] = [0, (mu * mu) / 2 + mu * Math.sqrt(-2 * Math.log(delta))];
  if (deltaOf(0, mu) * (1 + SLACK) <= delta) return 0;
  for (let step = 0; step < 200 && high - low > 1e-13 * high; step += 1) {
    const middle = (low + high) / 2;
    if (deltaOf(middle, mu) * (1 + SLACK) <= delta) high = middle;
    else low = middle;
  }
  return high * (1 + SLACK);
}

/** The largest mu for which mu-GDP implies (eps, delta), rounded down by a part in 10^9. */
export function muOf(epsilon: number, delta: number): number {
  let [low, high] = [0, 1];
  while (deltaOf(epsilon, high) <= delta) high *= 2;
  for (let step = 0; step < 200 && high - low > 1e-13 * high; step += 1) {
    const middle = (low + high) / 2;
    if (deltaOf(epsilon, middle) * (1 + SLACK) <= delta) low = middle;
    else high = middle;
  }
  return low * (1 - SLACK);
}

/** The standard normal distribution's share below x. */
function normal(x: number): number {
  const scaled = Math.abs(x) / Math.SQRT2;
  const tail = (Math.exp(-scaled * scaled) * scaledErfc(scaled)) / 2;
  return x < 0 ? tail : 1 - tail;
}

/** What discrete noise and its sharing add to epsilon, at most, as in `service.ts`. */
const DISCRETE = 1e-9;

/**
 * The largest share of true positives that any test reaches at a share of false positives, rounded up.
 *
 * mu-GDP but for a probability `reserved` (Dong, Roth and Su 2022): Phi(Phi^-1(FPR) + mu). Unit: this installation; adjacency: zero-out.
 *
 * **Guarantees:** bound rounded up: never below the curve of mu-GDP, with what discrete noise adds.
 */
export function mostTruePositives(falsePositives: number, mu: number, reserved: number): number {
  const [factor, rest] = [Math.exp(DISCRETE), 1 - reserved];
  const accepted = (falsePositives * factor) / rest;
  if (accepted >= 1) return 1;
  let [low, high] = [-40, 40]; // Phi^-1, from above
  for (let step = 0; step < 200 && high - low > 1e-15 * Math.max(1, Math.abs(high)); step += 1) {
    const middle = (low + high) / 2;
    if (normal(middle) < accepted) low = middle;
    else high = middle;
  }
  return Math.min(1, factor * (reserved + rest * normal(high + nextUp(mu))) * (1 + DISCRETE));
}
