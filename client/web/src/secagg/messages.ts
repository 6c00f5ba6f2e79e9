/**
 * Messages: every record that a device and the server exchange in one masked attempt, as strict bytes.
 *
 *     commit -> advertise -> share -> check (-> open) -> input -> consistency -> unmask
 *
 * Lengths follow from what the reader already knows and are checked before anything is used.
 */

import { IntegrityError } from "../errors.js";
import { concat, readU32, same, u16, u32 } from "../records/bytes.js";
import { isCommitted, type AttemptTerms } from "./transcript.js";

export const VERSION = 3;
/** Bytes before the body. */
export const HEADER = 40;
/** Bytes of what a box's sender signs, of a box, and of a receipt's and an opening's parts. */
export const BOX_BODY = 144;
export const BOX_BYTES = 208;
export const SIGNATURE = 64;
const HASH = 32;
const ENTRY = 68;

export const STEPS = { commit: 1, advertise: 2, share: 3, check: 4, open: 5, input: 6, consistency: 7, unmask: 8 } as const;
export type Step = keyof typeof STEPS;

export type Flags = readonly boolean[];

/** Encodes a device's answer to a step. */
export function writeAnswer(step: Step, toss: number, device: number, context: Uint8Array, body: Uint8Array): Uint8Array {
  return concat(Uint8Array.of(VERSION, STEPS[step] + 128), u16(toss), u32(device), context, body);
}

/** The step that a server's record names; `readRequest` checks everything else. */
export function stepOf(data: Uint8Array): Step {
  const found = (Object.keys(STEPS) as Step[]).find((step) => STEPS[step] === data[1]);
  if (!found) throw new IntegrityError("a request must be of a step, got another kind");
  return found;
}

/** Checks a record's version, step, device and attempt: its toss and its body. */
export function readRequest(data: Uint8Array, step: Step, device: number, context: Uint8Array): [number, Uint8Array] {
  if (data.length < HEADER) throw new IntegrityError(`a record must have a header of ${HEADER} bytes, got ${data.length} bytes`);
  if (data[0] !== VERSION) throw new IntegrityError(`a record must be of version ${VERSION}, got ${data[0]}: device and server must be of one`);
  if (data[1] !== STEPS[step]) throw new IntegrityError(`a record must be of the step ${step}, got kind ${data[1]}`);
  if (readU32(data, 4) !== device) throw new IntegrityError(`a record must be for device ${device}, got ${readU32(data, 4)}`);
  if (!same(data.subarray(8, HEADER), context)) throw new IntegrityError("a record must be of this attempt, got another's");
  return [data[2] | (data[3] << 8), data.subarray(HEADER)];
}

/** Flags as a bitmap, the first member in the lowest bit. */
export function packFlags(flags: Flags): Uint8Array {
  const made = new Uint8Array(Math.ceil(flags.length / 8));
  flags.forEach((flag, at) => (made[at >> 3] |= flag ? 1 << (at & 7) : 0));
  return made;
}

/** A bitmap of `n` members; a bit behind the last is refused. */
export function unpackFlags(data: Uint8Array, n: number): boolean[] {
  exactly("a bitmap", data, Math.ceil(n / 8));
  if (n % 8 && data[data.length - 1] >> n % 8) throw new IntegrityError(`a bitmap of ${n} members must have no bit set behind the last, got one`);
  return Array.from({ length: n }, (_, at) => ((data[at >> 3] >> (at & 7)) & 1) === 1);
}

/** A device's nonce (empty without a ring), its two public keys and SHA-256(b), signed. */
export interface Advert {
  readonly nonce: Uint8Array;
  readonly shareKey: Uint8Array;
  readonly maskKey: Uint8Array;
  readonly selfDigest: Uint8Array;
  readonly signature: Uint8Array;
}

export const advertBody = ({ nonce, shareKey, maskKey, selfDigest }: Advert): Uint8Array => concat(nonce, shareKey, maskKey, selfDigest);
export const encodeAdvert = (advert: Advert): Uint8Array => concat(advertBody(advert), advert.signature);

function decodeAdvert(body: Uint8Array, committed: boolean): Advert {
  const rest = committed ? body.subarray(HASH) : body;
  return {
    nonce: committed ? body.slice(0, HASH) : new Uint8Array(),
    shareKey: rest.slice(0, 32),
    maskKey: rest.slice(32, 64),
    selfDigest: rest.slice(64, 96),
    signature: rest.slice(96),
  };
}

/** The cohort list (empty without a ring), and adverts: those of the neighbours, or without a ring of all. */
export interface ShareRequest {
  readonly entries: readonly { readonly device: number; readonly commitment: Uint8Array; readonly nonce: Uint8Array }[];
  readonly adverts: readonly { readonly device: number; readonly advert: Advert; readonly line: Uint8Array }[];
}

export function decodeShare(body: Uint8Array, terms: AttemptTerms): ShareRequest {
  const committed = isCommitted(terms);
  if (body.length < 8) throw new IntegrityError(`a share request must start with two counts, got ${body.length} bytes`);
  const [n, k] = [readU32(body, 0), readU32(body, 4)];
  if (n > terms.nMax || k > terms.nMax || n > 0 !== committed) {
    throw new IntegrityError(`a share request must name at most ${terms.nMax} devices, got ${n} entries and ${k} adverts`);
  }
  const width = 4 + (committed ? HASH : 0) + 96 + SIGNATURE;
  exactly("a share request", body, 8 + n * ENTRY + k * width);
  const entries = pieces(body.subarray(8, 8 + n * ENTRY), ENTRY);
  return {
    entries: entries.map((line) => ({ device: readU32(line, 0), commitment: line.slice(4, 36), nonce: line.slice(36) })),
    adverts: pieces(body.subarray(8 + n * ENTRY), width).map((line) => ({ device: readU32(line, 0), advert: decodeAdvert(line.subarray(4), committed), line })),
  };
}

/** Who has shared, and the boxes of the receiver's neighbours among them. */
export function decodeCheck(body: Uint8Array, n: number): { readonly shared: boolean[]; readonly boxes: Uint8Array[] } {
  const head = Math.ceil(n / 8);
  if (body.length < head || body.length > head + n * BOX_BYTES) throw new IntegrityError(`a check request must have ${head} bytes and at most ${n} boxes, got ${body.length} bytes`);
  return { shared: unpackFlags(body.subarray(0, head), n), boxes: splitPieces("boxes", body.subarray(head), BOX_BYTES) };
}

/** What a device says of the boxes that it was handed: the root of their tree, and by slot which are none. */
export interface BoxReceipt {
  readonly root: Uint8Array;
  readonly accused: boolean[];
  readonly signature: Uint8Array;
}

/** A receipt in which a device complains of the receiver's box, and the hashes from that box to its root. */
export interface Complaint {
  readonly device: number;
  readonly receipt: BoxReceipt;
  readonly path: readonly Uint8Array[];
}

/** The body of an open request to a device with `k` neighbours: 1 to `k` complaints. */
export function decodeOpen(body: Uint8Array, k: number, depth: number): Complaint[] {
  const length = HASH + Math.ceil(k / 8) + SIGNATURE;
  const width = 4 + length + depth * HASH;
  if (!body.length || body.length > k * width) throw new IntegrityError(`an open request must have 1 to ${k} complaints, got ${body.length} bytes`);
  return splitPieces("complaints", body, width).map((each) => {
    const receipt = each.subarray(4, 4 + length);
    const [root, accused, signature] = [receipt.slice(0, HASH), unpackFlags(receipt.subarray(HASH, -SIGNATURE), k), receipt.slice(-SIGNATURE)];
    return { device: readU32(each, 0), receipt: { root, accused, signature }, path: pieces(each.subarray(4 + length), HASH) };
  });
}

/** Who takes part in the sum (U1), signed by the server. */
export function decodeInput(body: Uint8Array, n: number): { readonly u1: boolean[]; readonly signature: Uint8Array } {
  const head = Math.ceil(n / 8);
  exactly("an input request", body, head + SIGNATURE);
  return { u1: unpackFlags(body.subarray(0, head), n), signature: body.slice(head) };
}

/** The signatures on the list of survivors, and those that tie the receiver's other surviving neighbours to U1. */
export interface UnmaskRequest {
  readonly signers: boolean[];
  /** By member. */
  readonly signatures: ReadonlyMap<number, Uint8Array>;
  readonly others: readonly Uint8Array[];
}

export function decodeUnmask(body: Uint8Array, n: number): UnmaskRequest {
  const head = Math.ceil(n / 8);
  if (body.length < head) throw new IntegrityError(`an unmask request must start with a bitmap, got ${body.length} bytes`);
  const signers = unpackFlags(body.subarray(0, head), n);
  const found = splitPieces("signatures", body.subarray(head), SIGNATURE);
  const members = signers.flatMap((signed, member) => (signed ? [member] : []));
  if (found.length < members.length || found.length > n) throw new IntegrityError(`an unmask request must have ${members.length} to ${n} signatures, got ${found.length}`);
  return { signers, signatures: new Map(members.map((member, at) => [member, found[at]])), others: found.slice(members.length) };
}

/** A body whose length is known. */
export function exactly(name: string, data: Uint8Array, length: number): void {
  if (data.length !== length) throw new IntegrityError(`${name} must have ${length} bytes, got ${data.length}`);
}

function splitPieces(name: string, body: Uint8Array, width: number): Uint8Array[] {
  if (body.length % width) throw new IntegrityError(`${name} must be pieces of ${width} bytes, got ${body.length} bytes`);
  return pieces(body, width);
}

function pieces(data: Uint8Array, width: number): Uint8Array[] {
  return Array.from({ length: data.length / width }, (_, at) => data.slice(at * width, (at + 1) * width));
}
