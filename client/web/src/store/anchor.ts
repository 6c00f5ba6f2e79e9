/**
 * Anchor: one sealed record that knows all others, so that what is missing, exchanged or put back is noticed.
 *
 *     sum = XOR over all records of SHA-256(secret, name, seal);    anchor = sealed(number of writes, secret, sum)
 *
 * It is written with each change of the records, in the same write. A file keeps it once more beside its log, so that a shorter log
 * is noticed too.
 *
 * Source: Clarke, Devadas, van Dijk, Gassend and Suh, Incremental Multiset Hash Functions (ASIACRYPT 2003), for sets: a store has
 * each name once, and the sum itself is sealed.
 *
 * **Guarantees:** records that aren't those of the last write are refused when the store is opened.
 *
 * **Assumes:** nobody puts back all of the storage together, the anchor included: that is an earlier, whole store.
 */

import { IntegrityError } from "../errors.js";
import { concat, hex, readU32, u32, utf8 } from "../records/bytes.js";
import { sha256 } from "../records/sha256.js";

/** The name of its own record. */
export const ANCHOR = "anchor";
/** The record that is given up where there is no room for a decision of the user's. */
export const RESERVE = "reserve";
/** Bytes of a seal: AES-GCM's random first bytes, and its tag at the end. */
const [IV, TAG, SIZE] = [12, 16, 32];
/** Names that would say what the user takes part in, or agreed to: what follows is hashed. */
const PRIVATE = /^(ledger\/|granted\/)/;

/** What the anchor is after some changes. */
export interface Next {
  readonly writes: number;
  readonly data: Uint8Array;
  readonly marks: ReadonlyMap<string, Uint8Array | null>;
  readonly sum: Uint8Array;
}

export class Anchor {
  private readonly marks = new Map<string, Uint8Array>();

  private constructor(
    /** How often records were written. */
    public writes: number,
    private readonly secret: Uint8Array,
    private sum: Uint8Array,
  ) {}

  /** Of a store without records. */
  static fresh(): Anchor {
    return new Anchor(0, crypto.getRandomValues(new Uint8Array(SIZE)), new Uint8Array(SIZE));
  }

  static read(data: Uint8Array): Anchor {
    if (data.length !== 8 + 2 * SIZE) throw lost();
    return new Anchor(readU32(data, 4) * 2 ** 32 + readU32(data, 0), data.slice(8, 8 + SIZE), data.slice(8 + SIZE));
  }

  get data(): Uint8Array {
    return written(this.writes, this.secret, this.sum);
  }

  /** The name by which a record is stored: none says in clear what the user takes part in. */
  stored(name: string): string {
    const group = PRIVATE.exec(name)?.[0];
    return group === undefined ? name : group + hex(sha256(concat(this.secret, Uint8Array.of(0), utf8(name)))).slice(0, SIZE);
  }

  /** Whether a record counts. Grants don't: one that is missing is a denial, and one that is put back is no decision. */
  counts(stored: string): boolean {
    return stored !== ANCHOR && stored !== RESERVE && !stored.startsWith("granted/");
  }

  /** What the anchor is once these sealed records are written, null removing; null: none of them counts. */
  after(changes: ReadonlyMap<string, Uint8Array | null>): Next | null {
    const [sum, marks] = [this.sum.slice(), new Map<string, Uint8Array | null>()];
    for (const [name, sealed] of changes) {
      if (!this.counts(name)) continue;
      const mark = sealed && this.mark(name, sealed);
      for (const each of [this.marks.get(name), mark]) each?.forEach((byte, at) => (sum[at] ^= byte));
      marks.set(name, mark);
    }
    const writes = this.writes + 1;
    return marks.size ? { writes, data: written(writes, this.secret, sum), marks, sum } : null;
  }

  /** It was written. */
  take({ writes, marks, sum }: Next): void {
    [this.writes, this.sum] = [writes, sum];
    for (const [name, mark] of marks) {
      if (mark) this.marks.set(name, mark);
      else this.marks.delete(name);
    }
  }

  /** Learns the records that are there, which `check` compares with those that were written. */
  learn(name: string, sealed: Uint8Array): void {
    if (this.counts(name)) this.marks.set(name, this.mark(name, sealed));
  }

  /** Refuses records that aren't those of the last write. */
  check(): void {
    const sum = new Uint8Array(SIZE);
    for (const mark of this.marks.values()) mark.forEach((byte, at) => (sum[at] ^= byte));
    if (hex(sum) !== hex(this.sum)) throw lost();
  }

  private mark(name: string, sealed: Uint8Array): Uint8Array {
    const label = utf8(name);
    return sha256(concat(this.secret, Uint8Array.of(1), u32(label.length), label, sealed.subarray(0, IV), sealed.subarray(-TAG)));
  }
}

/** What is said of a store whose records aren't those that were last written. */
export function lost(): IntegrityError {
  return new IntegrityError("the store must be as it was last written, but some of it is missing, or older: bring all of it back, or `erase` it and begin anew");
}

function written(writes: number, secret: Uint8Array, sum: Uint8Array): Uint8Array {
  return concat(u32(writes % 2 ** 32), u32(Math.floor(writes / 2 ** 32)), secret, sum);
}
