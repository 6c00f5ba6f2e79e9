/** Entries of a ledger that a device is shown: charges, restorations and handovers. Others are none of its business. */

import { IntegrityError } from "../errors.js";
import { canonicalJson, type Json } from "./canonical.js";
import { Fields } from "./fields.js";

/** Characters of the largest cosigned checkpoint that an entry, a plan or a model carries. */
export const MOST_COSIGNED = 2 ** 14;
const MOST_NATURAL = 2 ** 31 - 1;
const MOST_EPOCH = 10_000;

/** An entry is a leaf of the log at its place. */
interface Entry {
  readonly seq: number;
  readonly leaf: Uint8Array;
}

export interface ChargeEntry extends Entry {
  readonly run: string;
  readonly round: number;
  readonly attempt: number;
  readonly planHash: string;
  readonly mu2: number;
}

export interface RestoredEntry extends Entry {
  readonly base: number;
  readonly spent: number;
  readonly witnessSize: number;
  readonly witnessRoot: string;
  readonly epoch: number | null;
  readonly cosigned: string | null;
}

export interface HandoverEntry extends Entry {
  readonly oldKey: string;
  readonly newKey: string;
  readonly oldSignature: string;
  readonly newSignature: string;
}

/** A model is published: of a closed run, with the hash of what its manifest says, or both. */
export interface PublishEntry extends Entry {
  readonly modelHash: string;
  readonly manifest: string | null;
}

function opened(kind: string, value: Json, required: readonly string[], optional: readonly string[] = []): [Fields, Entry] {
  const fields = Fields.of(`the ${kind} entry`, value, ["kind", "seq", ...required], optional);
  if (fields.get("kind") !== kind) throw new IntegrityError(`an entry must be of the kind ${kind}, got another kind`);
  return [fields, { seq: fields.whole("seq"), leaf: canonicalJson(value) }];
}

export function chargeEntry(value: Json): ChargeEntry {
  const [fields, entry] = opened("charge", value, ["run", "round", "attempt", "plan_hash", "mu2", "run_limit", "facts"]);
  if (fields.get("run_limit") !== null) fields.real("run_limit", Number.MIN_VALUE);
  fields.object("facts");
  return {
    ...entry,
    run: fields.text("run", 1, 200),
    round: fields.whole("round", 0, MOST_NATURAL),
    attempt: fields.whole("attempt", 0, MOST_NATURAL),
    planHash: fields.hash("plan_hash"),
    mu2: fields.real("mu2", Number.MIN_VALUE),
  };
}

export function restoredEntry(value: Json): RestoredEntry {
  const [fields, entry] = opened("restored", value, ["base", "spent", "witness_size", "witness_root"], ["created", "epoch", "cosigned"]);
  if (fields.has("created")) fields.text("created");
  if (fields.has("epoch") !== fields.has("cosigned")) throw new IntegrityError("an epoch must have the cosigned checkpoint of the one before, and only then");
  return {
    ...entry,
    base: fields.whole("base", 1),
    spent: fields.real("spent", 0),
    witnessSize: fields.whole("witness_size", 1),
    witnessRoot: fields.hash("witness_root"),
    epoch: fields.has("epoch") ? fields.whole("epoch", 1, MOST_EPOCH) : null,
    cosigned: fields.has("cosigned") ? fields.text("cosigned", 0, MOST_COSIGNED) : null,
  };
}

export function publishEntry(value: Json): PublishEntry {
  const [fields, entry] = opened("publish", value, ["model_hash"], ["run", "manifest"]);
  if (fields.has("run")) fields.text("run", 1, 200);
  if (!fields.has("run") && !fields.has("manifest")) throw new IntegrityError("a publish entry must name a run or a manifest");
  return { ...entry, modelHash: fields.hash("model_hash"), manifest: fields.has("manifest") ? fields.hash("manifest") : null };
}

export function handoverEntry(value: Json): HandoverEntry {
  const [fields, entry] = opened("handover", value, ["old_key", "new_key", "old_signature", "new_signature"]);
  return {
    ...entry,
    oldKey: fields.hash("old_key"),
    newKey: fields.hash("new_key"),
    oldSignature: fields.get("old_signature") === "" ? "" : fields.hash("old_signature", 128),
    newSignature: fields.hash("new_signature", 128),
  };
}
