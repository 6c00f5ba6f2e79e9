/**
 * Checks: what a device verifies before each step of a masked attempt.
 *
 * A rule refuses. Its docstring says which attack of a lying server it prevents. What several rules allow together is a type, which
 * the next step demands: `NeighbourKeys`, `CheckedList`, `SignedList`, `Latched`, `Verified`, `AgreedList`. Only the functions at the
 * end make one, each after all of its rules.
 */

import { IntegrityError, RefusedError } from "../errors.js";
import { concat, hex, same } from "../records/bytes.js";
import { digest } from "../records/canonical.js";
import { randomBytes } from "../records/crypto.js";
import { verify } from "../records/signing.js";
import { checkPath } from "./boxes.js";
import type { Cohort } from "./cohort.js";
import type { Directory } from "./directory.js";
import { advertBody, packFlags, type Advert, type Complaint, type Flags, type ShareRequest } from "./messages.js";
import { ADVERT, advertPayload, commitmentTo, CONSISTENCY, INPUT, MEMBERS, RECEIPT, type AttemptTerms } from "./transcript.js";

const count = (flags: Flags): number => flags.reduce((sum, flag) => sum + (flag ? 1 : 0), 0);

/** Refuses a repeated toss, or too many: the server could draw rings until one suits it. */
export function nextToss(toss: number, last: number, terms: AttemptTerms): void {
  if (!(last < toss && toss < terms.maxTosses)) throw new RefusedError(`a toss must be above ${last} and below ${terms.maxTosses}, got ${toss}`);
}

/** Refuses a record of another toss: it belongs to other keys. */
export function sameToss(toss: number, current: number): void {
  if (toss !== current) throw new IntegrityError(`a record must be of toss ${current}, got ${toss}`);
}

/** Refuses a device that is named twice or isn't in the directory: one attacker could count as several devices. */
export function knownMembers(ids: readonly number[], directory: Directory, terms: AttemptTerms): void {
  if (!ids.every((id, at) => !at || ids[at - 1] < id)) throw new IntegrityError("a cohort must name each device once, by rising id, got another order");
  ids.forEach((id) => directory.keyOf(id));
  if (ids.length < terms.nMin || ids.length > terms.nMax) throw new RefusedError(`a cohort must have ${terms.nMin} to ${terms.nMax} devices, got ${ids.length}`);
}

/** Refuses another list of commitments than the signed one: after seeing nonces the server could choose the ring. */
export function sameRoot(root: Uint8Array, signed: Uint8Array): void {
  if (!same(root, signed)) throw new RefusedError("the cohort must be the one whose root this device has signed, got another");
}

/** Refuses a cohort without this device's own entry: somebody else would be in its place. */
export function ownEntry(found: Uint8Array | undefined, own: Uint8Array): void {
  if (!found || !same(found, own)) throw new RefusedError("the cohort must hold this device's own entry, got another or none");
}

/** Refuses a nonce that doesn't fit its commitment: its owner could choose the ring after seeing the others. */
export function noncesFit(entries: ShareRequest["entries"]): void {
  for (const { device, commitment, nonce } of entries) {
    if (!same(commitmentTo(nonce), commitment)) throw new IntegrityError(`each nonce must fit its commitment, got another for device ${device}`);
  }
}

/** Refuses neighbours that the seed doesn't give: the server could choose corrupt devices. */
export function expectedAdverts(found: readonly number[], expected: readonly number[]): void {
  if (found.length !== expected.length || !found.every((device, at) => device === expected[at])) {
    throw new RefusedError("the adverts must be those of this device's neighbours, got others");
  }
}

/** Refuses an advert with another nonce than in the list: its owner has seen another list, with other neighbours. */
export function advertNonces(adverts: ShareRequest["adverts"], entries: ShareRequest["entries"]): void {
  const nonces = new Map(entries.map(({ device, nonce }) => [device, nonce]));
  for (const { device, advert } of adverts) {
    const nonce = nonces.get(device);
    if (!nonce || !same(advert.nonce, nonce)) throw new RefusedError(`an advert must carry the nonce of the list, got another for device ${device}`);
  }
}

/** Refuses a key without its owner's signature: if it is the server's, the server can read all shares sent to it. */
export async function signedAdverts(adverts: readonly { device: number; advert: Advert }[], context: Uint8Array, toss: number, root: Uint8Array, directory: Directory): Promise<void> {
  for (const { device, advert } of adverts) {
    await verify(directory.keyOf(device), ADVERT, advertPayload(context, toss, root, device, advertBody(advert)), advert.signature);
  }
}

/** Refuses a key that occurs twice: two pairs would have the same mask, or a device could open another one's box. */
export function distinctKeys(keys: readonly Uint8Array[]): void {
  if (new Set(keys.map(hex)).size !== keys.length) throw new RefusedError("all public keys must be distinct, got one twice");
}

/** Refuses a list without this device: it would reveal its neighbours' secrets for a sum that it isn't in. */
export function listed(flags: Flags, me: number): void {
  if (!flags[me]) throw new RefusedError("this device must be in the list, got one without it");
}

/** Refuses a list that is too short: the sum would not hide one device, and have less noise than was charged. */
export function enough(flags: Flags, terms: AttemptTerms): void {
  if (count(flags) < terms.nMin) throw new RefusedError(`a list must have at least ${terms.nMin} devices, got ${count(flags)}`);
}

/** Refuses long gaps in the ring: with corrupt devices they could split it into arcs, each with its own sum. */
export function noCut(cohort: Cohort, flags: Flags): void {
  if (cohort.cut(flags)) throw new RefusedError("too many in a row of the ring are missing");
}

/** Refuses a list without the server's signature: it would be no evidence against the server. */
export function signedMembers(cohort: Cohort, u1: Uint8Array, signature: Uint8Array, serverKey: string): Promise<void> {
  return verify(serverKey, MEMBERS, concat(cohort.binding, u1), signature);
}

/** Refuses a list with a neighbour without a good box: by withholding boxes a server could split the ring. Gives the boxes of those in the list. */
export function everyBox<Box>(sharers: readonly number[], good: ReadonlyMap<number, Box>): ReadonlyMap<number, Box> {
  if (!sharers.every((slot) => good.has(slot))) throw new RefusedError("each neighbour in the list must have sent a good box, got one without");
  const slots = new Set(sharers);
  return new Map([...good].filter(([slot]) => slots.has(slot)));
}

/** Refuses to open boxes for one device twice, or for more than may be corrupt: their shares add up to a secret. */
export function fewOpenings(complaints: readonly Complaint[], terms: AttemptTerms): void {
  const receivers = new Set(complaints.map(({ device }) => device));
  if (receivers.size !== complaints.length || receivers.size > terms.cMax) {
    throw new RefusedError(`a device opens boxes for at most ${terms.cMax} others, each once, got ${complaints.length}`);
  }
}

/** Refuses to open a box without its receiver's signed complaint: an honest one's share would be shown. */
export async function complainedOf({ receipt }: Complaint, slot: number, binding: Uint8Array, publicKey: string): Promise<void> {
  if (!receipt.accused[slot]) throw new RefusedError("a box is opened for a device that complains of it, got a receipt without a complaint");
  await verify(publicKey, RECEIPT, concat(binding, receipt.root, packFlags(receipt.accused)), receipt.signature);
}

/** Refuses a complaint of another box: a server makes an honest device complain of a box that it has made itself. */
export function ownBox({ receipt, path }: Complaint, slot: number, leaf: Uint8Array): void {
  checkPath(leaf, slot, receipt.accused.length, receipt.root, path);
}

/** Refuses a survivor that hasn't shared: nobody could remove its masks. */
export function stillThere(survivors: Flags, u1: Flags): void {
  if (survivors.some((alive, at) => alive && !u1[at])) throw new IntegrityError("the survivors must be of those who have shared, got others");
}

/** Refuses survivors that saw another list of sharers: they masked with few, which the server could declare lost. */
export async function sameSharers(others: readonly number[], signatures: readonly Uint8Array[], binding: Uint8Array, u1: Uint8Array, keys: Directory): Promise<void> {
  if (signatures.length !== others.length) throw new RefusedError(`${others.length} more survivors must have signed this list, got ${signatures.length}`);
  for (const [at, device] of others.entries()) await verify(keys.keyOf(device), INPUT, concat(binding, u1), signatures[at]);
}

/** Refuses signatures of devices that haven't survived: corrupt ones would sign any list that the server wants. */
export function survivingSigners(signers: Flags, survivors: Flags): void {
  if (signers.some((signed, at) => signed && !survivors[at])) throw new RefusedError("only survivors' signatures count, got another's");
}

/** Refuses too few signers: two different lists can't both reach the threshold, and open both secrets of a device. */
export function enoughSigners(signers: number, threshold: number): void {
  if (signers < threshold) throw new RefusedError(`at least ${threshold} neighbours must have signed the same, got ${signers}`);
}

/** Draws `size` other members of a cohort of `n`, uniformly and without repetition; nobody can predict the draw. */
export function draw(n: number, me: number, size: number): Set<number> {
  const left = Array.from({ length: n - 1 }, (_, at) => at + (at >= me ? 1 : 0));
  const sampled = new Set<number>();
  while (sampled.size < size) {
    // Words at or above the largest multiple are drawn again: each place is equally likely.
    const limit = 2 ** 32 - (2 ** 32 % left.length);
    const word = new DataView(randomBytes(4).buffer).getUint32(0);
    if (word >= limit) continue;
    const place = word % left.length;
    sampled.add(left[place]);
    left[place] = left[left.length - 1];
    left.pop();
  }
  return sampled;
}

/** Refuses too few signers among the sampled members: parts of the ring with different lists could open a sum with too little noise. */
export function enoughOfCohort(agreeing: number, quorum: number): void {
  if (agreeing < quorum) throw new RefusedError(`at least ${quorum} of the members sampled must have signed the same, got ${agreeing}`);
}

/** Refuses members that signed another list: they would open another sum. */
export async function signedSurvivors(signers: Iterable<number>, signatures: ReadonlyMap<number, Uint8Array>, payload: Uint8Array, cohort: Cohort, keys: Directory): Promise<void> {
  for (const member of signers) await verify(keys.keyOf(cohort.ids[member]), CONSISTENCY, payload, signatures.get(member) ?? new Uint8Array());
}

declare const checked: unique symbol;

/** The neighbours' public keys, by slot: signed by their owners for this list, and none of them twice. */
export interface NeighbourKeys {
  readonly [checked]: "neighbours";
  readonly shareKeys: readonly Uint8Array[];
  readonly maskKeys: readonly Uint8Array[];
}

/** A list of members that this device is in, which is long enough and doesn't cut the ring. */
export interface CheckedList {
  readonly [checked]: "list" | "signed list";
  readonly flags: Flags;
}

/** Such a list, of those who have shared, that the server has signed. */
export interface SignedList extends CheckedList {
  readonly [checked]: "signed list";
}

/** What this device may sign at a step, also after a restart: it is stored, and nothing else ever will be. */
export interface Latched {
  readonly [checked]: "latched";
  readonly payload: Uint8Array;
}

/** Members whose signatures under this device's own list were verified. */
export interface Verified {
  readonly [checked]: "signers";
  readonly members: ReadonlySet<number>;
}

/** The survivors that enough neighbours, and enough of the members sampled, have signed as this device has. */
export interface AgreedList {
  readonly [checked]: "agreed list";
  readonly survivors: Flags;
}

/** The keys for which a device makes its boxes and its masks, of the neighbours `names`. */
export async function neighbourKeys(
  adverts: readonly { device: number; advert: Advert }[],
  of: { readonly names: readonly number[]; readonly own: readonly Uint8Array[]; readonly context: Uint8Array; readonly toss: number; readonly root: Uint8Array; readonly directory: Directory },
): Promise<NeighbourKeys> {
  expectedAdverts(adverts.map(({ device }) => device), of.names);
  await signedAdverts(adverts, of.context, of.toss, of.root, of.directory);
  const [shareKeys, maskKeys] = [adverts.map(({ advert }) => advert.shareKey), adverts.map(({ advert }) => advert.maskKey)];
  distinctKeys([...of.own, ...shareKeys, ...maskKeys]);
  return { shareKeys, maskKeys } as unknown as NeighbourKeys;
}

/** A list of members whose sum may be opened, with this device in it: of sharers, or of survivors. */
export function checkedList(flags: Flags, me: number, cohort: Cohort, terms: AttemptTerms): CheckedList {
  listed(flags, me);
  enough(flags, terms);
  noCut(cohort, flags);
  return { flags } as CheckedList;
}

/** The list of sharers with which a device masks. */
export async function signedList({ flags }: CheckedList, signature: Uint8Array, cohort: Cohort, serverKey: string): Promise<SignedList> {
  await signedMembers(cohort, packFlags(flags), signature, serverKey);
  return { flags } as SignedList;
}

/** What a device signs at a step, stored before: a second signature, after a restart, could open both secrets of one device. */
export async function latchPayload(latch: (step: string, digest: string) => Promise<void>, step: string, payload: Uint8Array): Promise<Latched> {
  await latch(step, digest(payload));
  return { payload } as Latched;
}

/** The members that have signed this device's own list. */
export async function verifiedSigners(
  signers: readonly number[],
  signatures: ReadonlyMap<number, Uint8Array>,
  payload: Uint8Array,
  cohort: Cohort,
  keys: Directory,
): Promise<Verified> {
  await signedSurvivors(signers, signatures, payload, cohort, keys);
  return { members: new Set(signers) } as unknown as Verified;
}

/** The same, once there are enough neighbours among them. */
export function neighboursAgree(verified: Verified, neighbours: readonly number[], threshold: number): Verified {
  enoughSigners(neighbours.filter((member) => verified.members.has(member)).length, threshold);
  return verified;
}

/** The survivors whose sum a device opens: those that it has signed, as enough of the members sampled have. */
export function quorumAgrees(near: Verified, far: Verified, sampled: ReadonlySet<number>, quorum: number, survivors: Flags): AgreedList {
  enoughOfCohort([...sampled].filter((member) => near.members.has(member) || far.members.has(member)).length, quorum);
  return { survivors } as AgreedList;
}
