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
