/** Handovers: the release key changes, which the old key and the new one sign, in the ledger and for its devices. */

import { IntegrityError } from "../errors.js";
import { canonicalJson, type Json } from "./canonical.js";
import { handoverEntry, type HandoverEntry } from "./entries.js";
import { Fields } from "./fields.js";
import { verifyInclusion, type Checkpoint } from "./merkle.js";
import { verify } from "./signing.js";

export const HANDOVER_TAG = "palate/handover/1";
/** The most handovers that are shown, and followed. */
export const MOST_HANDOVERS = 16;

/** An entry that is shown, with the proof that it is in the ledger. */
export interface Included<T> {
  readonly entry: T;
  readonly inclusion: readonly string[];
}

/** Reads an entry with its proof. */
export function included<T>(what: string, value: Json, read: (entry: Json) => T): Included<T> {
  const fields = Fields.of(what, value, ["entry", "inclusion"]);
  return { entry: read(fields.get("entry")), inclusion: fields.texts("inclusion", 64) };
}

export type Handover = Included<HandoverEntry>;

export const readHandover = (value: Json): Handover => included("a handover", value, handoverEntry);

/** What both keys sign. */
export function handoverBytes(population: string, { seq, oldKey, newKey }: HandoverEntry): Uint8Array {
  return canonicalJson({ population, seq, old_key: oldKey, new_key: newKey });
}

/** The handovers that lead from a pinned key to the present one; signatures are verified, inclusion isn't. */
export async function follow(pinned: string, population: string, handovers: readonly Handover[]): Promise<readonly HandoverEntry[]> {
  if (handovers.length > MOST_HANDOVERS) throw new IntegrityError(`at most ${MOST_HANDOVERS} handovers of the release key are followed: ${handovers.length}`);
  const entries = handovers.map(({ entry }) => entry);
  if (entries.length && !entries.some(({ oldKey, newKey }) => pinned === oldKey || pinned === newKey)) {
    throw new IntegrityError("the handovers of the release key must come from the pinned one, got another's");
  }
  const start = entries.findIndex(({ oldKey }) => oldKey === pinned);
  const chain = start < 0 ? [] : entries.slice(start);
  const keys = new Set([pinned]);
  let [now, last] = [pinned, -1];
  for (const entry of chain) {
    if (entry.oldKey !== now || entry.seq <= last || keys.has(entry.newKey)) {
      throw new IntegrityError(`a handover must go on from ${now.slice(0, 16)}…, got one from ${entry.oldKey.slice(0, 16)}…: forked`);
    }
    const data = handoverBytes(population, entry);
    await verify(entry.oldKey, HANDOVER_TAG, data, entry.oldSignature);
    await verify(entry.newKey, HANDOVER_TAG, data, entry.newSignature);
    [now, last] = [entry.newKey, entry.seq];
    keys.add(now);
  }
  return chain;
}

/** The release key that must have signed what shows these handovers. */
export async function signerOf(pinned: string, population: string, handovers: readonly Handover[]): Promise<string> {
  return (await follow(pinned, population, handovers)).at(-1)?.newKey ?? pinned;
}

/** Refuses entries that aren't in a state of the ledger. */
export function checkIncluded(shown: readonly Included<{ readonly leaf: Uint8Array; readonly seq: number }>[], now: Checkpoint): void {
  for (const { entry, inclusion } of shown) verifyInclusion(entry.leaf, entry.seq, now, inclusion);
}
