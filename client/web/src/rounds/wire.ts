/** Contribution on the wire: the record with which a device answers a plan without masks. */

import type { ClearVector } from "../mechanism/shares.js";
import { concat, utf8 } from "../records/bytes.js";
import { canonicalJson } from "../records/canonical.js";

/** The one answer of a device that doesn't take part, whatever its reason. */
export const REFUSED = utf8("refused");

/** Which attempt a contribution belongs to, and how many installations it sums. */
export interface ContributionHeader {
  readonly run: string;
  readonly round: number;
  readonly attempt: number;
  readonly planHash: string;
  readonly users: number;
  readonly rejected: number;
  readonly size: number;
}

/** The record: the header with its length, then the numbers as little-endian words of 4 or 8 bytes. */
export function encode(header: ContributionHeader, { steps }: ClearVector, width: 4 | 8): Uint8Array {
  const { planHash, ...rest } = header;
  const text = canonicalJson({ version: 1, plan_hash: planHash, ...rest });
  const length = new Uint8Array(4);
  new DataView(length.buffer).setUint32(0, text.length);
  const body = new DataView(new ArrayBuffer(steps.length * width));
  steps.forEach((number, at) => {
    if (width === 4) body.setInt32(4 * at, number, true);
    else body.setBigInt64(8 * at, BigInt(number), true);
  });
  return concat(length, text, new Uint8Array(body.buffer));
}
