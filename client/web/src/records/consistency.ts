/** Consistency: checks that the ledger which a plan or a model shows extends the state that was seen last. */

import { IntegrityError } from "../errors.js";
import { Float, readCanonical, type Json } from "./canonical.js";
import { MOST_COSIGNED, restoredEntry, type RestoredEntry } from "./entries.js";
import { Fields } from "./fields.js";
import { checkIncluded, included, MOST_HANDOVERS, readHandover, type Handover, type Included } from "./handovers.js";
import { sameCheckpoint, verifyConsistency, type Checkpoint } from "./merkle.js";
import type { Pinned } from "./pinned.js";

const MOST_EPOCHS = 16;
/** Largest signed plan or manifest that a device has kept, in bytes. */
export const MOST_KEPT = 2 ** 20;

/** A state of a population's ledger, and proofs that it extends earlier ones. */
export interface Shown {
  readonly checkpoint: Checkpoint;
  /** RFC 9162 consistency proofs from earlier states, by size. */
  readonly consistency: ReadonlyMap<number, readonly string[]>;
  /** The latest restorations of the ledger from a backup, oldest first. */
  readonly epochs: readonly Included<RestoredEntry>[];
  /** The checkpoint as a signed note with the cosignatures of witnesses. */
  readonly cosigned: string | null;
  readonly handovers: readonly Handover[];
}

/** The members that a state is made of, as JSON has them; the last three are there only with something in them. */
export const SHOWN = { required: ["checkpoint", "consistency"], optional: ["epochs", "cosigned", "handovers"] };

export function readCheckpoint(value: Json): Checkpoint {
  const fields = Fields.of("a checkpoint", value, ["size", "root"]);
  return { size: fields.whole("size"), root: fields.hash("root") };
}

/** Reads the state that a charge or a manifest shows. */
export function readShown(fields: Fields): Shown {
  const consistency = new Map<number, readonly string[]>();
  for (const [size, proof] of Object.entries(fields.object("consistency"))) {
    if (!/^(0|[1-9][0-9]{0,15})$/.test(size)) throw new IntegrityError(`a proof must be by size, got ${size.slice(0, 80)}`);
    consistency.set(Number(size), Fields.of("a proof", { proof }, ["proof"]).texts("proof", 128));
  }
  const some = (name: string, most: number): readonly Json[] => {
    if (!fields.has(name)) return [];
    const found = fields.list(name, most);
    if (!found.length) throw new IntegrityError(`\`${name}\` must be left out where there are none`);
    return found;
  };
  return {
    checkpoint: readCheckpoint(fields.get("checkpoint")),
    consistency,
    epochs: some("epochs", MOST_EPOCHS).map((each) => included("an epoch", each, restoredEntry)),
    cosigned: fields.has("cosigned") ? fields.text("cosigned", 0, MOST_COSIGNED) : null,
    handovers: some("handovers", MOST_HANDOVERS).map(readHandover),
  };
}

/** What was seen before: a state, and the signed bytes that have shown it, if they were kept. */
export interface Seen {
  readonly checkpoint: Checkpoint | null;
  readonly evidence: Uint8Array | null;
}

/** Refuses a state that no quorum has cosigned, that doesn't extend the one that was seen last, or has spent less. */
export async function checkGrowth(what: string, shown: Shown, { checkpoint: seen, evidence }: Seen, spent: number, pinned: Pinned | null): Promise<void> {
  const [now, before] = [shown.checkpoint, keptBy(evidence)];
  if (pinned) await checkPinned(what, shown, pinned, before);
  if (!seen) return; // nothing was seen that this state could contradict
  const again = sameCheckpoint(seen, now);
  if (seen.size === now.size && !again) throw new IntegrityError(`the ledger must be one, got another of the same size ${seen.size}: forked`);
  const known = spendShown(evidence);
  if (Number.isFinite(known) && !(spent >= known)) throw new IntegrityError(`what the ${what} says was spent must not go down, got ${spent} after ${known}`);
  if (again) return;
  for (const epoch of shown.epochs) if (await covers(epoch, seen, shown, known, pinned, before)) return;
  const proof = shown.consistency.get(seen.size);
  if (!proof) throw new IntegrityError(`the ${what} must prove that its ledger extends size ${seen.size}, the last one seen here`);
  verifyConsistency(seen, now, proof);
}

/** The signed bytes to keep of a state: one that doesn't say what was spent must not make this device forget what an earlier one said. */
export function lasting(what: string, shown: Shown, data: Uint8Array, { evidence }: Seen): Uint8Array {
  if (Number.isFinite(spendShown(data)) || !evidence || !Number.isFinite(spendShown(evidence))) return data;
  if (shown.handovers.length) throw new IntegrityError(`a ${what} after a handover of the release key must say what was spent, got none`);
  return evidence;
}

/** Refuses a state that the app's witnesses haven't cosigned, or by a key that was handed over already. `before` is the last state that was seen. */
export async function checkPinned(what: string, shown: Shown, pinned: Pinned, before: Shown | null): Promise<void> {
  if (before?.handovers.length) await pinned.checkFollows(what, before.handovers, shown.handovers);
  await pinned.check(what, shown.checkpoint, shown.cosigned, shown.handovers, pinned.quorums.length ? epochOf(shown) : 0);
}

/** A state without a proof of anything. */
export const bare = (checkpoint: Checkpoint): Shown => ({ checkpoint, consistency: new Map(), epochs: [], cosigned: null, handovers: [] });

/** Which epoch of the ledger a state says it is of. */
function epochOf(shown: Shown): number {
  const last = shown.epochs.at(-1);
  if (!last) return 0;
  checkIncluded([last], shown.checkpoint);
  return last.entry.epoch ?? 0;
}

/** Whether an epoch explains that the last seen state was lost, without forgetting its spend. */
async function covers(epoch: Included<RestoredEntry>, seen: Checkpoint, shown: Shown, spent: number, pinned: Pinned | null, before: Shown | null): Promise<boolean> {
  checkIncluded([epoch], shown.checkpoint);
  const { entry } = epoch;
  if (!(entry.base < seen.size && seen.size <= entry.seq)) return false;
  const watched = pinned?.quorums.length ? pinned : null;
  if (watched && before && entry.epoch !== null && entry.epoch !== epochOf(before) + 1) return false;
  if (!(entry.spent >= spent)) throw new IntegrityError("a restored ledger must go on from the spend that was seen here, and has forgotten some");
  if (watched) {
    if (entry.epoch === null) throw new IntegrityError("a restored ledger must show what witnesses cosigned last before, got no cosignature");
    const end = { size: entry.witnessSize, root: entry.witnessRoot };
    await watched.checkFormer(end, entry.cosigned, shown.handovers, entry.epoch - 1);
    if (seen.size > end.size || (seen.size === end.size && seen.root !== end.root)) {
      throw new IntegrityError(`a restored ledger must go on from all that was seen here, size ${seen.size}, and knows of ${end.size}`);
    }
  }
  return true;
}

/** The population's mu^2 that signed bytes have shown; infinite where they show none, so that no spend suffices. */
export function spendShown(evidence: Uint8Array | null): number {
  const value = kept(evidence);
  const spent = value?.charge ? value.charge.entry?.facts?.spent : value?.manifest?.spent_mu2;
  if (spent instanceof Float) return spent.value;
  return typeof spent === "number" || typeof spent === "bigint" ? Number(spent) : Infinity;
}

/** The state that signed bytes have shown, with its proofs, or nothing. */
export function shownBy(evidence: Uint8Array | null): Shown | null {
  const value = kept(evidence);
  const part = value?.charge ?? value?.manifest;
  try {
    return part ? readShown(Fields.of("what was seen", part as Json, SHOWN.required, [], true)) : null;
  } catch {
    return null;
  }
}

/** The state that kept signed bytes show; null where none were kept. Evidence that can't be read is no leave. */
export function keptBy(evidence: Uint8Array | null): Shown | null {
  const shown = shownBy(evidence);
  if (!shown && evidence?.length) {
    throw new IntegrityError("what was kept of the ledger must be a signed plan or manifest, and can't be read: this device must be enrolled again, with a new store");
  }
  return shown;
}

// eslint-disable-next-line @typescript-eslint/no-explicit-any
function kept(evidence: Uint8Array | null): any {
  try {
    return readCanonical(evidence ?? new Uint8Array(), MOST_KEPT);
  } catch {
    return null;
  }
}
