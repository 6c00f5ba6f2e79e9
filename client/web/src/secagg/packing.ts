/** Packing: residues modulo 2^bits without gaps between their bits, the wire format of masked contributions. */

import { InputError } from "../errors.js";

/** Residues as words: one of 32 bits each, or above 32 bits two, the lower one first. */
export interface Residues {
  readonly bits: number;
  readonly words: Uint32Array;
}

/** Whole numbers modulo 2^bits, 1 to 62. */
export function residuesOf(values: Float64Array, bits: number): Residues {
  if (!Number.isInteger(bits) || bits < 1 || bits > 64) throw new InputError(`\`bits\` must be a whole number from 1 to 64, got ${bits}`);
  if (bits <= 32) return { bits, words: Uint32Array.from(values, (value) => value >>> 0) };
  const words = new Uint32Array(2 * values.length);
  values.forEach((value, at) => {
    words[2 * at] = value >>> 0;
    words[2 * at + 1] = Math.floor(value / 2 ** 32) >>> 0;
  });
  return { bits, words };
}

/** Packs residues: value i takes the bits `i * bits` up to `(i + 1) * bits` of one little-endian number, padding is zero. */
export function pack({ bits, words }: Residues): Uint8Array {
  const wide = bits > 32;
  const size = wide ? words.length / 2 : words.length;
  const made = new Uint32Array(Math.ceil((size * bits) / 32) + 2);
  const [lowBits, highBits] = [Math.min(bits, 32), Math.max(bits - 32, 0)];
  const put = (value: number, width: number, place: number): void => {
    const [word, shift] = [Math.floor(place / 32), place % 32];
    const kept = width === 32 ? value : value & (2 ** width - 1);
    made[word] |= kept << shift;
    if (shift) made[word + 1] |= kept >>> (32 - shift);
  };
  for (let at = 0; at < size; at += 1) {
    put(words[wide ? 2 * at : at], lowBits, at * bits);
    if (wide) put(words[2 * at + 1], highBits, at * bits + 32);
  }
  return new Uint8Array(made.buffer, 0, Math.ceil((size * bits) / 8));
}
