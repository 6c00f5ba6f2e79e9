/**
 * Boxes: shares that one device seals for another, so that what is in a box can be shown to anybody if it must be.
 *
 * Each box is made with an X25519 key pair of its own (ECIES), whose private half opens this box and no other. With each share goes
 * a salted commitment in the clear. The sender signs it all with what is needed to judge it.
 */

import { IntegrityError } from "../errors.js";
import { concat, hex, same } from "../records/bytes.js";
import { MerkleTree, verifyInclusion } from "../records/merkle.js";
import { verify, type SigningKey } from "../records/signing.js";
import { KeyPair, seal, unseal } from "./agreement.js";
import { BOX_BODY } from "./messages.js";
import { BOX, boxAad, boxInfo, boxPayload, shareCommitment } from "./transcript.js";

/** What a box's sender signs beside the box. */
export interface Label {
  /** Of the cohort, 98 bytes. */
  readonly binding: Uint8Array;
  readonly ends: readonly [number, number];
  /** The receiver's place among the sender's neighbours: the share's index is one more. */
  readonly slot: number;
  readonly degree: number;
  readonly threshold: number;
  /** The receiver's share key. */
  readonly key: Uint8Array;
}

/** What is in a box: a share of b and one of the mask key, with the salts of their commitments. */
export interface Dealt {
  readonly shares: readonly [Uint8Array, Uint8Array];
  readonly salts: readonly [Uint8Array, Uint8Array];
}

export const SELF_MASK = 0;
export const MASK_KEY = 1;

/** The share of one of the secrets as it is given: which secret, the share, the salt. */
export const pieceOf = ({ shares, salts }: Dealt, secret: 0 | 1): Uint8Array => concat(Uint8Array.of(secret), shares[secret], salts[secret]);

const payloadOf = (label: Label, body: Uint8Array): Uint8Array =>
  boxPayload(label.binding, label.ends, [label.slot, label.degree, label.threshold], label.key, body.subarray(0, BOX_BODY));

/** What the receiver signs for: all that the sender has signed, and the signature. */
export const leafOf = (label: Label, box: Uint8Array): Uint8Array => concat(payloadOf(label, box), box.subarray(BOX_BODY));

/** The key of a box and the salts of its two commitments. */
async function derived(label: Label, pair: KeyPair, other: Uint8Array, madeWith: Uint8Array): Promise<[Uint8Array, [Uint8Array, Uint8Array]]> {
  const toss = label.binding[32] | (label.binding[33] << 8);
  const agreed = await pair.agree(other, boxInfo(label.binding.subarray(0, 32), toss, label.ends, madeWith, label.key));
  return [agreed.slice(0, 32), [agreed.slice(32, 48), agreed.slice(48, 64)]];
}

const aadOf = ({ binding, ends }: Label): Uint8Array => boxAad(binding.subarray(0, 32), binding.subarray(34, 66), ends);

/** Seals and signs a share of each secret, 64 bytes, for one neighbour; gives the box, and the pair it was made with. */
export async function makeBox(label: Label, shares: Uint8Array, identity: SigningKey, madeWith?: KeyPair): Promise<[Uint8Array, KeyPair]> {
  const pair = madeWith ?? (await KeyPair.generate());
  const [key, salts] = await derived(label, pair, label.key, pair.publicKey);
  const sealed = await seal(key, shares, aadOf(label));
  const commitments = [shares.subarray(0, 32), shares.subarray(32)].map((share, at) => shareCommitment(share, salts[at]));
  const body = concat(pair.publicKey, sealed, ...commitments);
  return [concat(body, await identity.sign(BOX, payloadOf(label, body))), pair];
}

/** Refuses a box that its sender hasn't signed. */
export function checkSigned(label: Label, box: Uint8Array, publicKey: string): Promise<void> {
  return verify(publicKey, BOX, payloadOf(label, box), box.subarray(BOX_BODY));
}

/** What is in a box; null if it can't be opened, or holds something else than it commits to. */
export async function openBox(label: Label, box: Uint8Array, pair: KeyPair): Promise<Dealt | null> {
  const madeWith = box.slice(0, 32);
  const other = same(pair.publicKey, madeWith) ? label.key : madeWith;
  try {
    const [key, salts] = await derived(label, pair, other, madeWith);
    const plain = await unseal(key, box.subarray(32, 112), aadOf(label));
    const shares: [Uint8Array, Uint8Array] = [plain.slice(0, 32), plain.slice(32)];
    const fits = shares.every((share, at) => same(shareCommitment(share, salts[at]), box.subarray(112 + 16 * at, 128 + 16 * at)));
    return fits ? { shares, salts } : null;
  } catch (error) {
    if (error instanceof IntegrityError) return null;
    throw error;
  }
}

/** Hashes of a path in the tree over this many slots. */
export const depthOf = (slots: number): number => 32 - Math.clz32(slots - 1);

/** The tree over the boxes, or shares, of all slots, filled up with empty leaves to a power of two. */
export function treeOf(leaves: readonly Uint8Array[]): MerkleTree {
  const none = Array.from({ length: 2 ** depthOf(leaves.length) - leaves.length }, () => new Uint8Array());
  return new MerkleTree([...leaves, ...none]);
}

/** Refuses a leaf that isn't what somebody has signed for at a slot. */
export function checkPath(leaf: Uint8Array, slot: number, slots: number, root: Uint8Array, path: readonly Uint8Array[]): void {
  if (!(slot >= 0 && slot < slots)) throw new IntegrityError(`a slot must be one of ${slots}, got ${slot}`);
  verifyInclusion(leaf, slot, { size: 2 ** depthOf(slots), root: hex(root) }, path.map(hex));
}
