/** Manifest: what an operator signs for a published model. It shows the state of the ledger when the model was made. */

import { IntegrityError } from "../errors.js";
import { textOf } from "../records/bytes.js";
import { canonicalJson, digest, Float, readCanonical } from "../records/canonical.js";
import { readShown, SHOWN, type Shown } from "../records/consistency.js";
import { Fields } from "../records/fields.js";
import { signerOf } from "../records/handovers.js";
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
  /** The compact model before compression: the result of every delta. */
  readonly unpacked: FileFacts | null;
  /** A later model of a population has a higher one: the size of the ledger. */
  readonly version: number;
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
  const format = fields.has("format") ? fields.whole("format", 1, 3) : 1;
  if ((format === 3) !== (shown.cosigned !== null || shown.handovers.length > 0)) {
    throw new IntegrityError("a manifest of format 3 has cosignatures or handovers, and no other");
  }
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
    version: shown.checkpoint.size,
    spentMu2: number("spent_mu2") ?? Infinity,
  };
}

/** Manifest and signature of a verified model as one JSON, which a device keeps with the ledger's state in it. */
export function evidenceOf(manifest: Uint8Array, signature: Uint8Array): Uint8Array {
  return canonicalJson({ manifest: readCanonical(manifest, MOST_SIGNED), signature: textOf(signature) });
}

/** Hash of the item ids in row order. */
export function catalogueHash(items: readonly string[]): string {
  return digest(canonicalJson(items));
}
