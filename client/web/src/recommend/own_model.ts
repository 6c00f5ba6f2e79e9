/** Own model: a recommender by a model that the app gives, in memory alone. It is an app's mistake where that is none, or doesn't fit. */

import { InputError, IntegrityError } from "../errors.js";
import { shown } from "../events.js";
import { expandUnpacked } from "../models/compact.js";
import type { GlobalModel } from "../models/model.js";

/** What `useModel` takes beside the model and its items. */
export interface OwnModelOptions {
  /** The domain of each item, such as "books"; left out: all have the same. */
  readonly domains?: readonly string[];
  /** In lists an event loses half its weight, against others, for each of these many days; left out: recent ones count no more. */
  readonly recentHalfLifeDays?: number;
}

/** A model of the app's own: the file, its items in row order, and the rest. It has a name, by which a new leader is told that it lacks it. */
export interface OwnModel extends OwnModelOptions {
  readonly name: string;
  readonly file: Uint8Array;
  readonly items: readonly string[];
}

/** @param make - makes the recommender of the model, by a half-life. */
export async function byOwnModel<Made>(
  { file, items, domains, recentHalfLifeDays }: OwnModel,
  make: (model: GlobalModel, halfLifeDays: number | null) => Promise<Made>,
): Promise<Made> {
  if (!(file instanceof Uint8Array)) throw new InputError("`model` must be the bytes of a model file");
  const half = recentHalfLifeDays ?? null;
  if (half !== null && !(half > 0 && Number.isFinite(half))) throw new InputError(`\`recentHalfLifeDays\` must be positive and finite, got ${half}`);
  const words = (name: string, values: unknown): void => {
    if (!Array.isArray(values) || !values.every((each) => typeof each === "string")) throw new InputError(`\`${name}\` must be an array of words, got ${shown(values)}`);
  };
  try {
    const model = expandUnpacked(file);
    words("items", items);
    if (domains !== undefined) words("domains", domains);
    if (new Set(items).size !== items.length || items.length !== model.header.facts.nItems) throw new InputError(`\`items\` must be the model's ${model.header.facts.nItems}, each once, got ${items.length}`);
    if (domains && domains.length !== items.length) throw new InputError(`\`domains\` must be one for each of the ${items.length} items, got ${domains.length}`);
    return await make(model, half);
  } catch (error) {
    throw error instanceof IntegrityError ? new InputError(error.message) : error;
  }
}
