/** A Merkle tree over an append-only log (RFC 9162, section 2.1; SHA-256), and the proofs that a reader checks. */

import { IntegrityError } from "../errors.js";
import { concat, fromHex, same } from "./bytes.js";
import { hashed } from "./canonical.js";

/** The state of a log: how many leaves it has, and the root over them, hexadecimal. */
export interface Checkpoint {
  readonly size: number;
  readonly root: string;
}

const EMPTY = hashed(new Uint8Array());
const LEAF = Uint8Array.of(0);
const NODE = Uint8Array.of(1);

function leafHash(leaf: Uint8Array): Uint8Array {
  return hashed(concat(LEAF, leaf));
}

function nodeHash(left: Uint8Array, right: Uint8Array): Uint8Array {
  return hashed(concat(NODE, left, right));
}

/** The largest power of two below `count`, which is at least 2. */
function split(count: number): number {
  let power = 1;
  while (2 * power < count) power *= 2;
  return power;
}

/** The tree over some leaves: its root, and audit paths. */
export class MerkleTree {
  private readonly hashes: readonly Uint8Array[];
  constructor(leaves: readonly Uint8Array[]) {
    this.hashes = leaves.map(leafHash);
  }

  private over(start: number, end: number): Uint8Array {
    if (end - start < 2) return end === start ? EMPTY : this.hashes[start];
    const middle = start + split(end - start);
    return nodeHash(this.over(start, middle), this.over(middle, end));
  }

  /** The root over the first `size` leaves. */
  root(size = this.hashes.length): Uint8Array {
    return this.over(0, size);
  }

  /** The audit path of a leaf (RFC 9162, 2.1.3.1). */
  path(index: number): Uint8Array[] {
    const path: Uint8Array[] = [];
    let [start, end] = [0, this.hashes.length];
    while (end - start > 1) {
      const middle = start + split(end - start);
      if (index < middle) {
        path.push(this.over(middle, end));
        end = middle;
      } else {
        path.push(this.over(start, middle));
        start = middle;
      }
    }
    return path.reverse();
  }
}

function natural(...numbers: readonly number[]): void {
  for (const number of numbers) {
    if (!Number.isSafeInteger(number) || number < 0) throw new IntegrityError(`a size or index of a log must be a whole number from 0, got ${number}`);
  }
}

/** Halves without the 32 bits of `>>`. */
const half = (number: number): number => Math.floor(number / 2);

/** Climbs while the node is the lone left child that the RFC lifts to its parent's level. */
function up(at: number, last: number): [number, number] {
  while (at && at % 2 === 0) [at, last] = [half(at), half(last)];
  return [at, last];
}

/** Refuses a leaf that isn't in the log that a root stands for (RFC 9162, 2.1.3.2). */
export function verifyInclusion(leaf: Uint8Array, index: number, { size, root }: Checkpoint, proof: readonly string[]): void {
  const [expected, path] = [fromHex(root, 32, "hash"), proof.map((each) => fromHex(each, 32, "hash"))];
  natural(index, size);
  if (index >= size) throw new IntegrityError(`the leaf must be in the log of size ${size}, got index ${index}`);
  let [at, last, node] = [index, size - 1, leafHash(leaf)];
  for (const sibling of path) {
    if (last === 0) throw new IntegrityError("the inclusion proof must end at the root, got more hashes");
    if (at % 2 || at === last) {
      node = nodeHash(sibling, node);
      [at, last] = up(at, last);
    } else {
      node = nodeHash(node, sibling);
    }
    [at, last] = [half(at), half(last)];
  }
  if (last || !same(node, expected)) throw new IntegrityError(`the inclusion proof of leaf ${index} must lead to the checkpoint's root, got another`);
}

/** Refuses a log that isn't the earlier one, only longer (RFC 9162, 2.1.4.2). */
export function verifyConsistency(old: Checkpoint, now: Checkpoint, proof: readonly string[]): void {
  const [before, after] = [fromHex(old.root, 32, "hash"), fromHex(now.root, 32, "hash")];
  const path = proof.map((each) => fromHex(each, 32, "hash"));
  natural(old.size, now.size);
  const fork = new IntegrityError(`the log of size ${now.size} must extend the one of size ${old.size}, got another log`);
  if (old.size === now.size || old.size === 0) {
    if (path.length || (old.size === 0 && !same(before, EMPTY)) || (old.size === now.size && !same(before, after))) throw fork;
    return;
  }
  if (old.size > now.size || !path.length) throw fork;
  if (old.size === 1 || 2 * split(old.size) === old.size) path.unshift(before);
  let [at, last] = [old.size - 1, now.size - 1];
  while (at % 2) [at, last] = [half(at), half(last)];
  let [left, right] = [path[0], path[0]];
  for (const sibling of path.slice(1)) {
    if (last === 0) throw fork;
    if (at % 2 || at === last) {
      [left, right] = [nodeHash(sibling, left), nodeHash(sibling, right)];
      [at, last] = up(at, last);
    } else {
      right = nodeHash(right, sibling);
    }
    [at, last] = [half(at), half(last)];
  }
  if (last || !same(left, before) || !same(right, after)) throw fork;
}

/** A state of a log as JSON has it. */
export function sameCheckpoint(a: Checkpoint, b: Checkpoint): boolean {
  return a.size === b.size && a.root === b.root;
}
