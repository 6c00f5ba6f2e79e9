/**
 * Masks: keystreams that are added on one device, subtracted on another, and cancel in the sum.
 *
 * HAZMAT. A key that masks two vectors reveals their difference: a retry needs fresh keys. A mask is the AES-256-CTR keystream of
 * its key, counter from zero, read as little-endian words. Sums wrap at the word, which 2^bits divides.
 */

import { Keystream } from "../records/crypto.js";
import type { Residues } from "./packing.js";

const LITTLE = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1;

/** Adds the mask of a key, or takes it off, in place. */
export async function applyMask({ bits, words }: Residues, key: Uint8Array, added: boolean): Promise<void> {
  if (!LITTLE) throw new Error("this machine keeps words in another order than masks have");
  const stream = new Uint32Array((await (await Keystream.of(key)).next(4 * words.length)).buffer);
  if (bits <= 32) {
    if (added) for (let at = 0; at < words.length; at += 1) words[at] += stream[at];
    else for (let at = 0; at < words.length; at += 1) words[at] -= stream[at];
    return;
  }
  for (let at = 0; at < words.length; at += 2) {
    const low = added ? words[at] + stream[at] : words[at] - stream[at];
    words[at] = low;
    const carry = Math.floor(low / 2 ** 32);
    words[at + 1] = (added ? words[at + 1] + stream[at + 1] : words[at + 1] - stream[at + 1]) + carry;
  }
}
