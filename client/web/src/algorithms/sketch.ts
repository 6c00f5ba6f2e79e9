/** Count sketch: many items' numbers are sent as fewer: each is added to a few buckets, which items share. */

import type { OuterBlock } from "../mechanism/update.js";
import { squaresOf } from "./numpy.js";

const MASK = (1n << 64n) - 1n;
const COPIES = 3;

/** The finaliser of SplitMix64. */
function mix(number: bigint): bigint {
  let value = (number * 0x9e3779b97f4a7c15n) & MASK;
  value = ((value ^ (value >> 30n)) * 0xbf58476d1ce4e5b9n) & MASK;
  value = ((value ^ (value >> 27n)) * 0x94d049bb133111ebn) & MASK;
  return value ^ (value >> 31n);
}

/** The block with buckets as its rows; what cancels out is sent as zero, and everything else keeps the user's norm. */
export function sketched(block: OuterBlock, buckets: number, seed: number | bigint): OuterBlock {
  if (buckets >= block.height) return block;
  const key = mix(BigInt.asUintN(64, BigInt(seed)));
  const copies = Math.min(COPIES, buckets);
  const sums = new Map<number, number>();
  for (let copy = 0; copy < copies; copy += 1) {
    const first = Math.trunc(copy * (buckets / copies));
    const end = copy + 1 === copies ? buckets : Math.trunc((copy + 1) * (buckets / copies));
    block.indices.forEach((row, at) => {
      const hash = mix((mix(BigInt(row) ^ key) + BigInt(copy)) & MASK);
      const bucket = first + Number(((hash >> 32n) * BigInt(end - first)) >> 32n);
      sums.set(bucket, (sums.get(bucket) ?? 0) + block.rows[at] * ((hash & 1n ? -1 : 1) / Math.sqrt(copies)));
    });
  }
  const indices = Int32Array.from(sums.keys()).sort();
  const rows = Float64Array.from(indices, (bucket) => sums.get(bucket) as number);
  const [before, after] = [squaresOf(block.rows), squaresOf(rows)];
  const scale = Math.sqrt(before / (after > 0 ? after : 1));
  return { ...block, indices, rows: rows.map((each) => each * scale), height: buckets };
}
