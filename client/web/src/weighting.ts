/**
 * Weighting: how strongly an event shows that a user likes an item, by its kind, its value and its age.
 *
 * An event's weight is (weight of its kind) x (weight of its value) x (decay by age); an event of weight 0 doesn't count.
 */

import { InputError } from "./errors.js";
import { AGAINST, BY_VALUE, FOR, KINDS, meaningOf, NOTHING } from "./kinds.js";

export const SMALLEST = 2 ** -126;
export const LARGEST = (2 - 2 ** -23) * 2 ** 127;

/** Steps, value -> weight: an event takes the weight of the largest step not above its value, and 0 below the smallest. */
export type Steps = Readonly<Record<string, number>>;

export interface WeightingOptions {
  /** Weight by kind of event; below 0 it says something against its item. "*" is for kinds not named that say something for it; others weigh 0. Left out: every kind weighs 1. */
  readonly kinds?: Readonly<Record<string, number>>;
  /** Left out: every value weighs 1. */
  readonly values?: Steps;
  /** Kind -> steps that replace `values` for events of that kind. */
  readonly kindValues?: Readonly<Record<string, Steps>>;
  /** The weight of an item is the largest weight of its events, or their sum. */
  readonly combine?: "max" | "sum";
  /** Largest weight of an item. */
  readonly cap?: number;
  /** An event loses half its weight for each of these many days before the latest one. Left out: no decay. */
  readonly halfLifeDays?: number;
}

type Table = readonly (readonly [step: number, weight: number])[];

/** How events become the weight of an item. */
export class Weighting {
  readonly combine: "max" | "sum";
  readonly cap: number;
  readonly halfLifeDays: number | undefined;
  /** The kinds that a device records: those that all have, then those that only this weighting names. */
  readonly known: readonly string[];
  private readonly kinds: ReadonlyMap<string, number> | undefined;
  private readonly values: Table | undefined;
  private readonly kindValues: ReadonlyMap<string, Table>;

  constructor(readonly options: WeightingOptions) {
    const { kinds, values, kindValues = {}, combine = "max", cap = Infinity, halfLifeDays } = options;
    for (const table of [kinds, values, ...Object.values(kindValues)])
      for (const [key, weight] of Object.entries(table ?? {}))
        if (!(Number.isFinite(weight) && (weight >= 0 || (table === kinds && key !== "*"))))
          throw new InputError(`a weight must be finite and not negative, got ${weight} for ${key}`);
    if (combine !== "max" && combine !== "sum") throw new InputError(`\`combine\` must be max or sum, got ${String(combine)}`);
    if (!(cap > 0)) throw new InputError(`\`cap\` must be positive, got ${cap}`);
    if (halfLifeDays !== undefined && !(Number.isFinite(halfLifeDays) && halfLifeDays > 0))
      throw new InputError(`\`halfLifeDays\` must be positive and finite, got ${halfLifeDays}`);
    const folded = Object.entries(kinds ?? {}).map(([kind, weight]) => [kind.toLowerCase(), weight] as const);
    this.kinds = kinds && new Map(folded);
    this.values = values && stepsOf(values);
    this.kindValues = new Map(Object.entries(kindValues).map(([kind, steps]) => [kind.toLowerCase(), stepsOf(steps)]));
    this.known = [...KINDS, ...folded.map(([kind]) => kind).filter((kind) => kind !== "*" && !(KINDS as string[]).includes(kind)).sort()];
    this.combine = combine;
    this.cap = Math.min(cap, LARGEST);
    this.halfLifeDays = halfLifeDays;
  }

  /** What an event says of its item, and its weight if that is something for it. */
  judge(kind: string, value: number | null): [says: number, weight: number] {
    const own = this.kinds?.get(kind);
    let { says = FOR } = meaningOf(kind) as { says?: number };
    const byKind = this.kinds ? (own ?? (says > 0 ? this.kinds.get("*") : 0) ?? 0) : 1;
    if ((own ?? 0) < 0) says = AGAINST;
    if (says === BY_VALUE) says = Math.sign(value ?? 0);
    if (says === FOR && !byKind) says = NOTHING;
    return [says, says === FOR ? byKind * this.ofValue(kind, value) : 0];
  }

  /** The weight of an event's value; 1 where it has none. A comment's is its value. */
  private ofValue(kind: string, value: number | null): number {
    const own = this.kindValues.get(kind);
    if (!own && meaningOf(kind).says === BY_VALUE) return Math.min(value ?? 0, 1);
    const steps = own ?? this.values;
    if (!steps || value === null) return 1;
    let found = 0;
    for (const [step, weight] of steps) {
      if (step > value) break;
      found = weight;
    }
    return found;
  }

  /** Whether an event counts for the taste. */
  counts(kind: string, value: number | null): boolean {
    return this.judge(kind, value)[1] > 0;
  }

  /** The weighting with a further decay by age; two decays together have one half-life. */
  decaying(days: number): Weighting {
    const own = this.halfLifeDays;
    return new Weighting({ ...this.options, halfLifeDays: own === undefined ? days : 1 / (1 / own + 1 / days) });
  }
}

function stepsOf(table: Steps): Table {
  const steps = Object.entries(table).map(([step, weight]) => [Number(step), weight] as const);
  if (!steps.length || !steps.every(([step]) => Number.isFinite(step))) throw new InputError("steps of values must be finite numbers");
  return steps.sort((one, other) => one[0] - other[0]);
}

const WHOLE = { view: { 0: 1 }, purchase: { 0: 1 }, cart: { 0: 1 } };
const halves = Object.fromEntries(Array.from({ length: 20 }, (_, place) => [String((place + 1) / 2), (place + 1) / 2]));

/** The presets of Python's package, `common/palate_common/presets`. */
const PRESETS: Readonly<Record<string, WeightingOptions>> = {
  plain: { kinds: { "*": 1 }, kindValues: { rate: { 0: 0.7, 3: 1, 4: 1.2 } } },
  movies: {
    kinds: { view: 0.2, click: 0.2, like: 1.2, share: 1.2, "*": 1 },
    values: { 0: 0.7, 3: 1, 4: 1.2 },
    kindValues: { ...WHOLE, play: { 0: 0.2, 120: 0.5, 1200: 1 } },
  },
  music: {
    kinds: { view: 0.3, click: 0.3, play: 1, listen: 1, like: 2, love: 2, playlist: 2, "*": 1 },
    values: { 1: 0.7, 10: 0.9, 100: 1.1, 1000: 1.3 },
    kindValues: { ...WHOLE, play: { 0: 0.1, 30: 1 }, rate: { 0: 0.7, 3: 1, 4: 1.2 } },
    combine: "sum",
    cap: 4,
  },
  news: {
    kinds: {
      view: 1, click: 1, read: 1, play: 1, like: 1.5, share: 2, bookmark: 2, follow: 2, comment: 2.5,
      "comment created": 2.5, "*": 1,
    },
    kindValues: { view: { 0: 0.3, 10: 1 }, play: { 0: 0.3, 10: 1 }, rate: { 0: 0.7, 3: 1, 4: 1.5 } },
    halfLifeDays: 30,
  },
  ratings: { kinds: { rate: 1, "*": 0 }, values: halves },
  shop: {
    kinds: {
      view: 0.2, click: 0.2, play: 0.2, like: 0.5, share: 0.5, wishlist: 0.5, addtocart: 0.6, add_to_cart: 0.6,
      cart: 0.6, comment: 0.6, rate: 1, buy: 1, purchase: 1, transaction: 1, order: 1, "*": 0.2,
    },
    kindValues: { rate: { 0: 0.2, 3: 0.6, 4: 1 } },
    combine: "sum",
    cap: 2,
  },
};

/** The weighting of a preset. */
export function weightingOf(name: string): Weighting {
  const options = Object.hasOwn(PRESETS, name) ? PRESETS[name] : undefined;
  if (!options) throw new InputError(`a preset of weights must be one of ${Object.keys(PRESETS).join(", ")}, got ${name.slice(0, 80)}`);
  return new Weighting(options);
}
