/**
 * Permutation: numpy's `default_rng(seed).permutation(n)`, by which a history is split into folds, alike on every device.
 *
 * SeedSequence, PCG64 (XSL-RR 128/64) with 32-bit halves, masked bounded integers, Fisher-Yates from the end.
 */

const [M32, M64, M128] = [0xffffffffn, (1n << 64n) - 1n, (1n << 128n) - 1n];
const MULTIPLIER = 0x2360ed051fc65da44385df649fccf645n;

/** A permutation of 0 to n - 1. */
export function permutation(seed: number, n: number): Int32Array {
  const next = bits(seed);
  const made = Int32Array.from({ length: n }, (_, place) => place);
  for (let place = n - 1; place > 0; place -= 1) {
    const other = upTo(next, place);
    [made[place], made[other]] = [made[other], made[place]];
  }
  return made;
}

/** A number from 0 to `most`: bits under a mask, until they fit. */
function upTo(next: () => bigint, most: number): number {
  const mask = 2 ** (32 - Math.clz32(most)) - 1;
  for (;;) {
    const value = Number(next() & BigInt(mask));
    if (value <= most) return value;
  }
}

/** 32-bit words of PCG64: the lower half of each output first. */
function bits(seed: number): () => bigint {
  const [a, b, c, d] = seeds(seed);
  const increment = ((((c << 64n) | d) << 1n) | 1n) & M128;
  let state = (increment + ((a << 64n) | b)) & M128;
  const step = () => (state = (state * MULTIPLIER + increment) & M128);
  step();
  let kept: bigint | null = null;
  return () => {
    if (kept !== null) {
      const word: bigint = kept;
      kept = null;
      return word;
    }
    step();
    const [value, turn] = [((state >> 64n) ^ state) & M64, state >> 122n];
    const out = ((value >> turn) | (value << (64n - turn))) & M64;
    kept = out >> 32n;
    return out & M32;
  };
}

/** Four 64-bit words of numpy's SeedSequence for a seed below 2^32. */
function seeds(seed: number): bigint[] {
  let hash = 0x43b0d7e5;
  const mixed = (value: number) => {
    value ^= hash;
    hash = Math.imul(hash, 0x931e8875);
    value = Math.imul(value, hash);
    return value ^ (value >>> 16);
  };
  const pool = [seed, 0, 0, 0].map(mixed);
  for (let from = 0; from < 4; from += 1)
    for (let to = 0; to < 4; to += 1) {
      if (from === to) continue;
      const value = Math.imul(pool[to], 0xca01f9dd) - Math.imul(mixed(pool[from]), 0x4973f715);
      pool[to] = value ^ (value >>> 16);
    }
  let out = 0x8b51f9dd;
  const words = Array.from({ length: 8 }, (_, place) => {
    let value = pool[place % 4] ^ out;
    out = Math.imul(out, 0x58f38ded);
    value = Math.imul(value, out);
    return BigInt((value ^ (value >>> 16)) >>> 0);
  });
  return [0, 2, 4, 6].map((place) => words[place] | (words[place + 1] << 32n));
}
