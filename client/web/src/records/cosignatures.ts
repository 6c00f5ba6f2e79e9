/** Cosignatures: what witnesses of a log say, and how many of them a reader insists on (C2SP tlog-cosignature). */

import { InputError, IntegrityError } from "../errors.js";
import { same } from "./bytes.js";
import { sameCheckpoint, type Checkpoint } from "./merkle.js";
import { COSIGNATURE, openCheckpoint, VerifierKey, type Note, type Signature } from "./notes.js";
import { verifyText } from "./signing.js";

const MOST_WITNESSES = 32;
const MOST_TIME = 2n ** 63n - 1n;

/** A cosignature that was verified: whose, and when the witness says that it made it, in Unix seconds. */
export interface Cosigned {
  readonly witness: VerifierKey;
  readonly time: number;
}

/** The witnesses that a reader knows, and how many of them must have cosigned. A witness counts once, and so does a key. */
export class Quorum {
  constructor(
    readonly witnesses: readonly VerifierKey[],
    readonly needed: number,
  ) {
    const count = witnesses.length;
    if (count < 1 || count > MOST_WITNESSES) throw new InputError(`a quorum must have 1 to ${MOST_WITNESSES} witnesses, got ${count}`);
    const names = new Set(witnesses.map(({ name }) => name));
    const keys = new Set(witnesses.map(({ publicKey }) => publicKey.join()));
    if (names.size < count || keys.size < count) throw new InputError("each witness of a quorum must have a name and a key of its own, got one twice");
    if (witnesses.some(({ kind }) => kind !== COSIGNATURE)) throw new InputError("a witness must have a cosigner's key (kind 4), got another kind");
    if (!Number.isInteger(needed) || needed < 1 || needed > count) throw new InputError(`a quorum must need 1 to ${count} witnesses, got ${needed}`);
  }

  /** Reads the verifier keys. */
  static of(witnesses: readonly string[], needed: number): Quorum {
    return new Quorum(witnesses.map(VerifierKey.read), needed);
  }

  /** Refuses a state of a log that too few witnesses have cosigned; gives the cosignatures that count. */
  async check(note: Note, log: VerifierKey, checkpoint: Checkpoint): Promise<readonly Cosigned[]> {
    const now = await openCheckpoint(note, log);
    if (!sameCheckpoint(now, checkpoint)) throw new IntegrityError(`the cosigned checkpoint must be of size ${checkpoint.size} and its root, got size ${now.size}`);
    const counted: Cosigned[] = [];
    for (const witness of this.witnesses) {
      const found = note.by(witness);
      if (found.length > 1) throw new IntegrityError(`a checkpoint must have one cosignature by ${witness.name.slice(0, 80)}, got ${found.length}`);
      // A log is no witness of itself.
      if (found.length && !same(witness.publicKey, log.publicKey)) counted.push({ witness, time: await openCosignature(note.text, witness, found[0]) });
    }
    if (counted.length < this.needed) {
      throw new IntegrityError(`size ${now.size} of the ledger must be cosigned by ${this.needed} of ${this.witnesses.length} witnesses, got ${counted.length}`);
    }
    return counted;
  }
}

/** Verifies a cosignature that says it is by a witness; gives its time. */
async function openCosignature(text: string, witness: VerifierKey, signature: Signature): Promise<number> {
  const wrong = new IntegrityError(`the cosignature must be by ${witness.name.slice(0, 80)}, got one that does not fit`);
  if (signature.value.length !== 72) throw wrong;
  const time = new DataView(signature.value.buffer, signature.value.byteOffset).getBigUint64(0);
  if (time < 1n || time > MOST_TIME) throw wrong;
  try {
    await verifyText(witness.publicKey, `cosignature/v1\ntime ${time}\n${text}`, signature.value.subarray(8));
  } catch {
    throw wrong;
  }
  return Number(time);
}
