/** Notes: a text with signatures under it, as https://c2sp.org/signed-note says, and the checkpoints that are such notes. */

import { InputError, IntegrityError } from "../errors.js";
import { base64, concat, fromBase64, fromHex, hex, textOf, utf8 } from "./bytes.js";
import { hashed } from "./canonical.js";
import type { Checkpoint } from "./merkle.js";
import { textBytes, verifyText } from "./signing.js";

/** Kind of a key that signs the text itself. */
export const ED25519 = 1;
/** Kind of a key that cosigns checkpoints, with the time. */
export const COSIGNATURE = 4;
const MOST_NOTE = 2 ** 17;
const MOST_SIGNATURES = 100;
const MOST_NAME = 255;
const DASH = "\u2014 ";
/** What Python's `str.isspace` takes for a space, control characters aside. */
const SPACE = /[\s\u0085\u001c-\u001f\u2000-\u200a]/;

function nameFits(name: string): boolean {
  try {
    const size = textBytes(name).length;
    return size > 0 && size <= MOST_NAME && !name.includes("+") && !SPACE.test(name.replaceAll("\ufeff", ""));
  } catch {
    return false;
  }
}

/** Whose signature counts: a name, a kind and an Ed25519 public key of 32 bytes. */
export class VerifierKey {
  /** The first 4 bytes of SHA-256 over name, newline, kind and key, hexadecimal. */
  readonly id: string;
  constructor(
    readonly name: string,
    readonly kind: number,
    readonly publicKey: Uint8Array,
  ) {
    if (!nameFits(name)) throw new InputError(`the name of a key must be 1 to ${MOST_NAME} bytes without spaces and pluses, got ${name.slice(0, 80)}`);
    if (kind !== ED25519 && kind !== COSIGNATURE) throw new InputError(`the kind of a verifier key must be 1 (Ed25519) or 4 (cosignature), got ${kind}`);
    if (publicKey.length !== 32) throw new InputError(`an Ed25519 key must have 32 bytes, got ${publicKey.length}`);
    this.id = hex(hashed(concat(utf8(`${name}\n`), Uint8Array.of(kind), publicKey)).subarray(0, 4));
  }

  /** Reads `NAME+KEYID+BASE64`. */
  static read(text: string): VerifierKey {
    const [name, id, ...rest] = text.split("+");
    let data = new Uint8Array();
    try {
      data = fromBase64(rest.join("+"));
    } catch {
      // said below
    }
    if (!id || !/^[0-9a-f]{8}$/.test(id) || !data.length) throw new InputError(`a verifier key must be NAME+KEYID+BASE64, got ${text.slice(0, 80)}`);
    const key = new VerifierKey(name, data[0], data.slice(1));
    if (key.id !== id) throw new InputError(`the id of a verifier key must be ${key.id}, got ${id}: ${name.slice(0, 80)}`);
    return key;
  }

  toString(): string {
    return `${this.name}+${this.id}+${base64(concat(Uint8Array.of(this.kind), this.publicKey))}`;
  }
}

/** One signature line of a note. */
export interface Signature {
  readonly name: string;
  /** Of the key, hexadecimal. */
  readonly id: string;
  readonly value: Uint8Array;
}

/** A text with signatures, which nobody has verified yet. */
export class Note {
  constructor(
    /** With its last newline. */
    readonly text: string,
    readonly signatures: readonly Signature[],
  ) {}

  /** The signatures that say they are by a key. */
  by(key: VerifierKey): readonly Signature[] {
    return this.signatures.filter(({ name, id }) => name === key.name && id === key.id);
  }

  /** Refuses a note that a key of kind `ED25519` hasn't signed. */
  async check(key: VerifierKey): Promise<void> {
    const found = key.kind === ED25519 ? this.by(key) : [];
    if (!found.length) throw new IntegrityError(`the note must be signed by ${key.name.slice(0, 80)}, got no signature by its key`);
    for (const { value } of found) await verifyText(key.publicKey, this.text, value);
  }
}

/** Parses a note without verifying it. */
export function readNote(data: Uint8Array): Note {
  if (data.length > MOST_NOTE) throw new IntegrityError(`a note must have at most ${MOST_NOTE} bytes, got ${data.length}`);
  const whole = textOf(data);
  textBytes(whole);
  const at = whole.lastIndexOf("\n\n");
  const lines = whole.slice(at + 2).split("\n");
  if (at < 0 || lines.pop() !== "" || !lines.length || lines.length > MOST_SIGNATURES) {
    throw new IntegrityError(`a note must be a text, an empty line and 1 to ${MOST_SIGNATURES} signatures, each on a line`);
  }
  return new Note(whole.slice(0, at + 1), lines.map(readSignature));
}

function readSignature(line: string): Signature {
  const space = line.lastIndexOf(" ");
  const name = line.slice(DASH.length, space);
  if (line.startsWith(DASH) && space > DASH.length && nameFits(name)) {
    const data = fromBase64(line.slice(space + 1));
    if (data.length >= 5) return { name, id: hex(data.subarray(0, 4)), value: data.slice(4) };
  }
  throw new IntegrityError(`a signature must be an em dash, a name and base 64, got ${line.slice(0, 80)}`);
}

const ORIGIN = "palate/ledger/1/";

/** The origin of a population's ledger: from the release key with which it began, in an epoch. */
export function originOf(population: string, publicKey: string, epoch = 0): string {
  const count = new Uint8Array(8);
  new DataView(count.buffer).setBigUint64(0, BigInt(epoch));
  const tag = epoch ? concat(utf8("palate ledger epoch 1\0"), count) : utf8("palate ledger origin 1\0");
  return ORIGIN + hex(hashed(concat(tag, fromHex(publicKey, 32, "release key"), utf8(population))));
}

/** Verifies that a note is a checkpoint of a log of Palate, signed by its key. */
export async function openCheckpoint(note: Note, log: VerifierKey): Promise<Checkpoint> {
  await note.check(log);
  const lines = note.text.split("\n");
  if (lines.length !== 4 || lines[3] !== "") throw new IntegrityError("a ledger's checkpoint must have three lines");
  const [origin, size, root] = lines;
  if (origin !== log.name) throw new IntegrityError(`the checkpoint must be of log ${log.name}, got one of ${origin.slice(0, 90)}`);
  if (!/^(0|[1-9][0-9]{0,18})$/.test(size) || !Number.isSafeInteger(Number(size))) {
    throw new IntegrityError(`a size must be a decimal without leading zeros, got ${size.slice(0, 80)}`);
  }
  const hash = fromBase64(root);
  if (hash.length !== 32) throw new IntegrityError("a checkpoint must have a root of 32 bytes");
  return { size: Number(size), root: hex(hash) };
}
