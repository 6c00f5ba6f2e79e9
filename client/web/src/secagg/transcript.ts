/** Transcript: what the devices and the server of one masked attempt sign, hash and derive keys from. */

import { InputError } from "../errors.js";
import { chained, concat, u16, u32, utf8 } from "../records/bytes.js";
import { hashed } from "../records/canonical.js";
import { LARGEST_COMPLETE } from "./graph_terms.js";

export const COMMIT = "palate/secagg/commit/1";
export const ADVERT = "palate/secagg/advert/1";
export const MEMBERS = "palate/secagg/members/1";
export const INPUT = "palate/secagg/input/1";
export const CONSISTENCY = "palate/secagg/consistency/1";
export const BOX = "palate/secagg/box/1";
export const RECEIPT = "palate/secagg/receipt/1";
export const OPENING = "palate/secagg/opening/1";
export const REVEAL = "palate/secagg/reveal/1";
const MAX_DEVICES = 2 ** 20;
const MAX_TOSSES = 1024;

/** The terms of one masked attempt, fixed before its first message. */
export interface AttemptTerms {
  /** SHA-256 over run, round, attempt, plan, model and ledger checkpoint. */
  readonly context: Uint8Array;
  readonly size: number;
  readonly bits: number;
  readonly nMax: number;
  readonly nMin: number;
  readonly cMax: number;
  /** Hash of the directory. */
  readonly directory: string;
  readonly maxTosses: number;
}

/** Refuses terms out of their ranges. */
export function checkTerms(terms: AttemptTerms): AttemptTerms {
  const ranges: [string, number, number, number][] = [
    ["size", terms.size, 1, 2 ** 32],
    ["bits", terms.bits, 1, 64],
    ["n_max", terms.nMax, 3, MAX_DEVICES],
    ["c_max", terms.cMax, 1, terms.nMax],
    ["n_min", terms.nMin, terms.cMax + 2, terms.nMax],
    ["max_tosses", terms.maxTosses, 1, MAX_TOSSES],
  ];
  for (const [name, value, least, most] of ranges) {
    if (!Number.isInteger(value) || value < least || value > most) throw new InputError(`\`${name}\` must be a whole number in [${least}, ${most}], got ${value}`);
  }
  return terms;
}

/** Whether devices first commit to nonces, for the seed of a ring. */
export const isCommitted = ({ nMax }: AttemptTerms): boolean => nMax > LARGEST_COMPLETE;

const under = (name: string, ...parts: Uint8Array[]): Uint8Array => hashed(concat(utf8(`palate/secagg/${name}\0`), ...parts));

/** A device's commitment to its nonce. */
export const commitmentTo = (nonce: Uint8Array): Uint8Array => under("nonce/1", nonce);

/** What a device signs when it commits. */
export const commitPayload = (context: Uint8Array, toss: number, device: number, commitment: Uint8Array): Uint8Array =>
  concat(context, u16(toss), u32(device), commitment);

/** What a device signs when it advertises: the cohort's root if there is one, and nonce, keys and SHA-256(b). */
export const advertPayload = (context: Uint8Array, toss: number, root: Uint8Array, device: number, body: Uint8Array): Uint8Array =>
  concat(context, u16(toss), Uint8Array.of(root.length), root, u32(device), body);

/** What the sender of a box signs: everything that is needed to judge it later. */
export const boxPayload = (binding: Uint8Array, ends: readonly [number, number], place: readonly number[], key: Uint8Array, body: Uint8Array): Uint8Array =>
  concat(binding, u32(ends[0]), u32(ends[1]), ...place.map(u16), key, body);

/** A dealer's commitment to a share, 16 bytes. */
export const shareCommitment = (share: Uint8Array, salt: Uint8Array): Uint8Array => under("share/2", salt, share).slice(0, 16);

/** Hash that identifies a cohort, over its commitments, or without these its adverts, by rising id. */
export const cohortRoot = (context: Uint8Array, toss: number, entries: Uint8Array): Uint8Array => under("root/1", context, u16(toss), entries);

/** The seed of the ring. */
export const ringSeed = (context: Uint8Array, root: Uint8Array, nonces: readonly Uint8Array[]): Uint8Array => under("seed/1", context, root, chained(nonces));

/** Prefix that ties later signatures to one cohort of one toss of one attempt, 98 bytes. */
export const cohortBinding = (context: Uint8Array, toss: number, root: Uint8Array, seed: Uint8Array): Uint8Array => concat(context, u16(toss), root, seed);

/** One end of a channel: a device and its public key. */
export type End = readonly [number, Uint8Array];

/** The `info` of a mask key between two devices: the lower id comes first, then the higher. */
export function maskInfo(context: Uint8Array, toss: number, one: End, other: End): Uint8Array {
  const [lower, higher] = one[0] < other[0] ? [one, other] : [other, one];
  return concat(utf8("palate/secagg/mask/1\0"), context, u16(toss), u32(lower[0]), u32(higher[0]), lower[1], higher[1]);
}

/** Associated data of a sealed box. */
export const boxAad = (context: Uint8Array, root: Uint8Array, [sender, receiver]: readonly [number, number]): Uint8Array =>
  concat(context, root, u32(sender), u32(receiver));

/** The `info` of a box's key and salts: sender and receiver, the key it was made with, the receiver's share key. */
export const boxInfo = (context: Uint8Array, toss: number, ends: readonly [number, number], madeWith: Uint8Array, key: Uint8Array): Uint8Array =>
  concat(utf8("palate/secagg/seal/1\0"), context, u16(toss), u32(ends[0]), u32(ends[1]), madeWith, key);
