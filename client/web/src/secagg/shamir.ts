/**
 * Shamir's secret sharing: any `threshold` shares give the secret, fewer say nothing about it.
 *
 * Byte by byte over GF(2^8) modulo 0x11d; above 255 shares over GF(2^16) modulo 0x1100b, elements little-endian. Indices are
 * public, secrets and shares are not: multiplying by an index doubles and adds, 32 bits at a time, without a table or a branch
 * that a secret decides.
 */

import { InputError } from "../errors.js";
import { randomBytes } from "../records/crypto.js";

const MAX_SHARES = 2 ** 16 - 1;

interface Field {
  readonly bits: 8 | 16;
  readonly double: (words: number) => number;
}

/** Four bytes times 2, or two pairs of bytes. */
const BYTES: Field = { bits: 8, double: (w) => ((w & 0x7f7f7f7f) << 1) ^ (((w >>> 7) & 0x01010101) * 0x1d) };
const PAIRS: Field = { bits: 16, double: (w) => ((w & 0x7fff7fff) << 1) ^ (((w >>> 15) & 0x00010001) * 0x100b) };

const fieldFor = (total: number): Field => (total <= 255 ? BYTES : PAIRS);

/** `words` times a public element, in place. */
function multiply(words: Int32Array, by: number, { bits, double }: Field): void {
  for (let at = 0; at < words.length; at += 1) {
    let product = 0;
    for (let bit = bits - 1; bit >= 0; bit -= 1) {
      product = double(product);
      if ((by >> bit) & 1) product ^= words[at];
    }
    words[at] = product;
  }
}

/** Splits a secret of a multiple of four bytes; row i is the share of index i + 1. */
export function split(secret: Uint8Array, shares: number, threshold: number): Uint8Array[] {
  if (!(threshold >= 2 && threshold <= shares && shares <= MAX_SHARES)) {
    throw new InputError(`\`threshold\` and \`shares\` must be 2 <= threshold <= shares <= ${MAX_SHARES}, got ${threshold} and ${shares}`);
  }
  if (!secret.length || secret.length % 4) throw new InputError(`\`secret\` must be a positive multiple of 4 bytes, got ${secret.length}`);
  const field = fieldFor(shares);
  const random = randomBytes((threshold - 1) * secret.length);
  const coefficients = new Int32Array(threshold * (secret.length / 4));
  const all = new Uint8Array(coefficients.buffer);
  all.set(secret);
  all.set(random, secret.length);
  const size = secret.length / 4;
  const made: Uint8Array[] = [];
  for (let index = 1; index <= shares; index += 1) {
    const value = coefficients.slice((threshold - 1) * size);
    for (let degree = threshold - 2; degree >= 0; degree -= 1) {
      multiply(value, index, field);
      for (let at = 0; at < size; at += 1) value[at] ^= coefficients[degree * size + at];
    }
    made.push(new Uint8Array(value.buffer));
  }
  return made;
}

/** The product of two public elements. */
function times(a: number, b: number, field: Field): number {
  const words = Int32Array.of(a);
  multiply(words, b, field);
  return words[0] & (field.bits === 8 ? 255 : 65535);
}

/** The inverse of a public element: its power of the field's order less two. */
function inverse(element: number, field: Field): number {
  let power = 1;
  for (let bit = field.bits - 1; bit >= 0; bit -= 1) {
    power = times(power, power, field);
    if (bit) power = times(power, element, field);
  }
  return power;
}

/** The secret, from exactly these shares; their lengths are a multiple of four bytes. `total` decides the field. */
export function combine(indices: readonly number[], shares: readonly Uint8Array[], total: number): Uint8Array {
  const field = fieldFor(total);
  const secret = new Int32Array(shares[0].length / 4);
  indices.forEach((index, at) => {
    const weight = indices.reduce((product, other) => (other === index ? product : times(product, times(other, inverse(other ^ index, field), field), field)), 1);
    const part = new Int32Array(shares[at].slice().buffer);
    multiply(part, weight, field);
    part.forEach((word, place) => (secret[place] ^= word));
  });
  return new Uint8Array(secret.buffer);
}
