/** Manifest: what an operator signs for a published model. It shows the state of the ledger when the model was made. */

import { IntegrityError } from "../errors.js";
import { textOf } from "../records/bytes.js";
import { publishEntry, type PublishEntry } from "../records/entries.js";
import { canonicalJson, digest, Float, readCanonical } from "../records/canonical.js";
import { readShown, SHOWN, type Shown } from "../records/consistency.js";
import { Fields } from "../records/fields.js";
import { checkIncluded, included, signerOf, type Included } from "../records/handovers.js";
import type { Pinned } from "../records/pinned.js";
import { verify } from "../records/signing.js";

export const MANIFEST_TAG = "palate/model/1";
/** Bytes of the largest manifest, and of the largest signature, that is read. */
export const MOST_SIGNED = 2 ** 18;

/** Hash and size of a file. */
export interface FileFacts {
  readonly sha256: string;
  readonly bytes: number;
}

export interface Manifest extends Shown {
  readonly population: string;
  readonly algorithm: string;
  readonly releases: number;
  /** Hash of the item ids in row order. */
  readonly catalogue: string;
  readonly items: number;
  readonly modelHash: string;
  readonly files: ReadonlyMap<string, FileFacts>;
  /** When a device recommends, an event loses half its weight, against others, for each of these; null: it doesn't. */
  readonly recentHalfLifeDays: number | null;
  /** The compact model before it is deflated, as it is kept here. */
  readonly unpacked: FileFacts | null;
  /** A later model of a population has a higher one: the size of the ledger. */
  readonly version: number;
  /** Its entry in the ledger; null: it shows none, as those that were published by older servers, or by no server. */
  readonly publication: Included<PublishEntry> | null;
  /** Of how many other people it knows, where too few have taken part in its population: 0 where it knows of nobody; null: enough have. */
  readonly elsewhere: number | null;
  /** Of how many items, the first ones, it was learned: all, unless it was put over more since. */
  readonly learned: number;
  /** What the population had spent, as mu^2; infinite where it isn't said. */
  readonly spentMu2: number;
}

const REQUIRED = [...SHOWN.required, "population", "algorithm", "releases", "catalogue", "items", "model_hash", "files", "public_key"];

function readFile(value: unknown): FileFacts {
  const fields = Fields.of("a file", value as never, ["sha256", "bytes"]);
  return { sha256: fields.text("sha256"), bytes: fields.whole("bytes") };
}

/** The manifest, its signature verified by the pinned release key, or by that to which its handovers lead. */
export async function readManifest(data: Uint8Array, signature: Uint8Array, publicKey: string): Promise<Manifest> {
  if (data.length > MOST_SIGNED || signature.length > MOST_SIGNED) throw new IntegrityError(`a manifest must be at most ${MOST_SIGNED} bytes`);
  const fields = Fields.of("a manifest", readCanonical(data, MOST_SIGNED), REQUIRED.slice(2), [], true);
  const shown = fields.has("checkpoint") ? readShown(fields.has("consistency") ? fields : Fields.of("a manifest", { ...fields.value, consistency: {} }, [], [], true)) : null;
  if (!shown) throw new IntegrityError("a manifest must have `checkpoint`");
  const signer = await signerOf(publicKey, fields.text("population"), shown.handovers);
  await verify(signer, MANIFEST_TAG, data, textOf(signature));
  const format = fields.has("format") ? fields.whole("format", 1, 4) : 1;
  const shows = fields.has("publication") && fields.get("publication") !== null;
  const publication = shows ? included("a publication", fields.get("publication"), publishEntry) : null;
  const due = publication ? 4 : shown.cosigned !== null || shown.handovers.length > 0 ? 3 : 2;
  if (format !== due && !(format === 1 && due === 2)) {
    throw new IntegrityError("a manifest of format 4 has its entry, one of 3 cosignatures or handovers, and no other");
  }
  if (publication) checkPublication(fields, shown, publication, signer);
  const number = (name: string): number | null => {
    const value = fields.has(name) ? fields.get(name) : null;
    return value instanceof Float ? value.value : typeof value === "number" ? value : null;
  };
  const recent = number("recent_half_life_days");
  if (recent !== null && !(recent > 0)) throw new IntegrityError("`recent_half_life_days` of a manifest must be above 0");
  return {
    ...shown,
    population: fields.text("population"),
    algorithm: fields.text("algorithm"),
    releases: fields.whole("releases"),
    catalogue: fields.text("catalogue"),
    items: fields.whole("items"),
    modelHash: fields.text("model_hash"),
    files: new Map(Object.entries(fields.object("files")).map(([name, facts]) => [name, readFile(facts)])),
    recentHalfLifeDays: recent,
    unpacked: fields.has("unpacked") && fields.get("unpacked") !== null ? readFile(fields.get("unpacked")) : null,
    publication,
    version: shown.checkpoint.size,
    elsewhere: othersOf(fields),
    learned: learnedOf(fields),
    spentMu2: number("spent_mu2") ?? Infinity,
  };
}

/** How many people a model made elsewhere was learned from, if the manifest says that its population starts from one. */
function othersOf(fields: Fields): number | null {
  const users = ((fields.has("starts_from") ? fields.get("starts_from") : null) as { users?: unknown } | null)?.users;
  if (typeof users === "number" && Number.isInteger(users) && users > 0) return users;
  return fields.get("releases") === 0 ? 0 : null;
}

function learnedOf(fields: Fields): number {
  const { items, model_hash: hash } = ((fields.has("extends") ? fields.get("extends") : null) ?? {}) as { items?: unknown; model_hash?: unknown };
  return typeof hash === "string" && typeof items === "number" && Number.isInteger(items) ? items : fields.whole("items");
}

/** Members that are of the state which a manifest shows, and not of what it says. */
const OF_THE_STATE = [...SHOWN.required, ...SHOWN.optional, "format", "publication"];

/** Hash of what a manifest says. The ledger's entry about it has that; the state has the entry, so it comes later. */
function saidBy({ value }: Fields): string {
  return digest(canonicalJson(Object.fromEntries(Object.entries(value).filter(([name]) => !OF_THE_STATE.includes(name)))));
}

/** Refuses a manifest whose entry is about another one, isn't the last of the state that it shows, or isn't in it. */
function checkPublication(fields: Fields, { checkpoint }: Shown, publication: Included<PublishEntry>, signer: string): void {
  const { entry } = publication;
  if (entry.manifest !== saidBy(fields) || entry.modelHash !== fields.text("model_hash")) throw new IntegrityError("a manifest must be the one that its entry in the ledger is about, got another");
  if (fields.text("public_key") !== signer) throw new IntegrityError("a manifest must be signed by the release key that it names, got another's signature");
  if (entry.seq !== checkpoint.size - 1) throw new IntegrityError(`a model's entry must be the last of the ${checkpoint.size} that it shows, got entry ${entry.seq}`);
  checkIncluded([publication], checkpoint);
}

/** Refuses a model that shows no entry of its own, where witnesses are pinned: a cosignature is over a state, and public. */
export function checkRecorded({ publication }: Manifest, pinned: Pinned): void {
  if (pinned.quorums.length && !publication) throw new IntegrityError("a model must show its own entry in the ledger where the app pins witnesses, got none");
}

/** Manifest and signature of a verified model as one JSON, which a device keeps with the ledger's state in it. */
export function evidenceOf(manifest: Uint8Array, signature: Uint8Array): Uint8Array {
  return canonicalJson({ manifest: readCanonical(manifest, MOST_SIGNED), signature: textOf(signature) });
}

/** Hash of the item ids in row order. */
export function catalogueHash(items: readonly string[]): string {
  return digest(canonicalJson(items));
}
