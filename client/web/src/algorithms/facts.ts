/** Facts: what is public before the first release, and numbers of settings; a plan and a model name both. */

import { IntegrityError } from "../errors.js";
import { Float, type Json } from "../records/canonical.js";
import { Fields } from "../records/fields.js";

/** Public numbers known before the first release. */
export interface PublicFacts {
  readonly nUsers: number;
  readonly nItems: number;
  readonly mu: number | null;
  readonly nFeatures: number;
  readonly panelUsers: number;
  readonly seed: number | bigint;
  readonly local: boolean;
  readonly subcohorts: number;
  readonly formerSignal: number;
}

export function readFacts(value: Json): PublicFacts {
  const fields = Fields.of("the facts", value, ["n_users", "n_items", "mu", "n_features", "seed"], ["panel_users", "local", "subcohorts", "former_signal"]);
  const seed = fields.get("seed");
  if (typeof seed !== "bigint") fields.whole("seed", Number.MIN_SAFE_INTEGER);
  if (fields.has("local") && !fields.flag("local")) throw new IntegrityError("`local` of the facts must be left out where it is false");
  return {
    nUsers: fields.whole("n_users", 1),
    nItems: fields.whole("n_items", 1, 2 ** 31 - 1),
    mu: fields.get("mu") === null ? null : fields.real("mu", Number.MIN_VALUE),
    nFeatures: fields.whole("n_features"),
    panelUsers: fields.has("panel_users") ? fields.whole("panel_users", 1) : 0,
    seed: seed as number | bigint,
    local: fields.has("local"),
    subcohorts: fields.has("subcohorts") ? fields.whole("subcohorts", 2) : 1,
    formerSignal: fields.has("former_signal") ? fields.real("former_signal", Number.MIN_VALUE) : 0,
  };
}

/** Signal-to-noise ratio of a count that all users share, in a sum with the whole budget; infinite without noise. */
export function signalOf({ mu, local, nUsers, subcohorts }: PublicFacts): number {
  return mu === null ? Infinity : mu * (local ? Math.sqrt(nUsers) : nUsers / Math.sqrt(subcohorts));
}

/** A number of a plan's settings, whichever way it is written. */
export function settingOf(settings: { readonly [key: string]: Json }, name: string): number | undefined {
  const value = settings[name];
  if (value instanceof Float) return value.value;
  return typeof value === "number" ? value : undefined;
}
