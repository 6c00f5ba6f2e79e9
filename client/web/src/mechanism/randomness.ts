/**
 * Random words: where every secret bit of a contribution's noise comes from.
 *
 * HAZMAT. A key used twice voids every privacy guarantee, and nothing downstream can notice. A `Source` is made for one draw of
 * noise and dropped afterwards. It is AES-256 in counter mode over zeros, as on every other device of Palate.
 */

import { Keystream, hkdf, randomBytes } from "../records/crypto.js";
import { utf8 } from "../records/bytes.js";

/** Thrown by `words` when more words were read ahead than are there: the caller goes back to its mark and fills. */
export class Dry extends Error {}

const SEED_INFO = utf8("palate/randomness/seeded/v1");
const LEAST_BYTES = 1 << 16;

/** Uniform 64-bit words, read ahead by `fill`, which waits for the cipher, and taken by `words`, which doesn't. */
export class Source {
  private bytes = new Uint8Array(0);
  private at = 0;
  private constructor(
    private readonly stream: Keystream,
    /** Whether nobody but this device can know the words. */
    readonly secure: boolean,
  ) {}

  /** Words under a fresh 256-bit key from the operating system. */
  static async secure(): Promise<Source> {
    return new Source(await Keystream.of(randomBytes(32)), true);
  }

  /** Words that repeat with their seed, for experiments and tests; never for a release. */
  static async seeded(seed: Uint8Array): Promise<Source> {
    return new Source(await Keystream.of(await hkdf(seed, SEED_INFO, 32)), false);
  }

  /** Reads ahead, so that at least `count` words are there. */
  async fill(count: number): Promise<void> {
    const left = this.bytes.subarray(this.at);
    const missing = 8 * count - left.length;
    if (missing <= 0) return;
    const size = Math.ceil(Math.max(missing, LEAST_BYTES) / 16) * 16;
    const fresh = await this.stream.next(size);
    const bytes = new Uint8Array(left.length + size);
    bytes.set(left);
    bytes.set(fresh, left.length);
    [this.bytes, this.at] = [bytes, 0];
  }

  /** The next `count` words as pairs of 32 bits, the lower one first; the array belongs to the caller. */
  words(count: number): Uint32Array {
    const end = this.at + 8 * count;
    if (end > this.bytes.length) throw new Dry();
    const words = new Uint32Array(this.bytes.slice(this.at, end).buffer);
    this.at = end;
    return words;
  }

  /** Where the words that were taken end, for `back`. Filling in between is what makes it worth going back. */
  mark(): number {
    return this.bytes.length - this.at;
  }

  /** Gives back what was taken since a mark; nothing was filled since. */
  back(mark: number): void {
    this.at = this.bytes.length - mark;
  }
}
