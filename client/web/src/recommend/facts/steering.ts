/**
 * Steering: which items may be listed now, and which stand first or higher: by public facts, rules and the app; as
 * `palate_client.recommend.steering`.
 *
 * Nothing of it is about the user but what they hid, which no rule outranks, and nothing of it leaves the device.
 */

import { InputError } from "../../errors.js";
import { shown } from "../../events.js";
import type { ItemTable, Value } from "../../models/item_table.js";
import { PINNED, type Rule } from "../../models/rules.js";
import { ALIASES, check, namesOf, numberOf, parse, select } from "../where.js";

/** Boosts of one call, and filters whose items are kept in memory, at most. */
const [MOST_BOOSTS, MOST_KEPT] = [20, 64];

/** What an app asks of a list. */
export interface Steers {
  /** Recommend only items of which this is true: a filter such as 'price < 20 and "Drama" in genres', see docs/rules.md. */
  readonly where?: string;
  /** Items that stand first, in this order, unless the user has hidden them or may not get them. */
  readonly pin?: readonly string[];
  /** Filter -> by how much its items rise: from -1 to 1, of the distance between the best and the last of the list's candidates. */
  readonly boost?: Readonly<Record<string, number>>;
  /** A column of the item table by which items are alike; left out: as the model has it. */
  readonly diversityBy?: string;
}

/** What is public about a model's items, and what the operator wants of lists. */
export interface Facts {
  readonly table: ItemTable | null;
  readonly rules: readonly Rule[];
  readonly clock: () => number;
  /** Of how many items, the first ones, the model was learned. */
  readonly learned: number;
}

/** What one list's candidates become by boosts. */
export interface Lifted {
  readonly pool: Int32Array;
  /** What is added to the score of each. */
  readonly lifts: Float64Array;
  /** Rows that stand in the list by that alone. */
  readonly risen: readonly number[];
}

/** How one list is steered. */
export class Steer {
  constructor(
    /** The only rows that may be in it; null: all. */
    readonly rows: Int32Array | null,
    private readonly pinned: readonly number[],
    private readonly boosts: readonly (readonly [mask: Uint8Array, share: number])[],
    /** Vectors whose cosine says how alike items are, row after row; null: the model's. */
    readonly likeness: ((rows: readonly number[]) => Float64Array) | null,
  ) {}

  /** The pinned rows that may be in the list, in their order. */
  first(n: number, without: readonly number[], allowed: ArrayLike<number> | null): number[] {
    if (!this.pinned.length) return [];
    const may = allowed && Int32Array.from(allowed);
    return this.pinned.filter((row) => !without.includes(row) && (may?.includes(row) ?? true)).slice(0, n);
  }

  /**
   * A pool with what boosts bring near it, best first; null: there are none.
   *
   * A boost adds its share of the distance between the best and the last of the pool: what is far from a user's taste stays far.
   * The n best of all that rise come into the pool.
   */
  lifted(pool: ArrayLike<number>, n: number, allowed: ArrayLike<number> | null, scores: (rows: ArrayLike<number>) => Float64Array, best: (among: Int32Array) => ArrayLike<number>): Lifted | null {
    if (!this.boosts.length || !pool.length) return null;
    n = Math.max(n, 1);
    const nth = (all: Float64Array) => all.slice().sort()[Math.max(all.length - n, 0)];
    let [rows, plain] = [Int32Array.from(pool), scores(pool)];
    const [most, least] = [plain.reduce((one, other) => Math.max(one, other), -Infinity), plain.reduce((one, other) => Math.min(one, other), Infinity)];
    const span = most - least;
    const lift = (): Float64Array => Float64Array.from(rows, (row) => span * Math.min(Math.max(this.boosts.reduce((total, [mask, share]) => total + share * mask[row], 0), -1), 1));
    let lifts = lift();
    const risers = this.boosts.filter(([, share]) => share > 0);
    const share = Math.min(risers.reduce((total, [, each]) => total + each, 0), 1);
    if (nth(plain.map((each, place) => each + lifts[place])) < least + span * share) { // others than these may come among the n best
      const among = allowed ? Int32Array.from(allowed) : Int32Array.from(risers[0][0].keys());
      const more = best(among.filter((row) => risers.some(([mask]) => mask[row])));
      rows = Int32Array.from(new Set([...rows, ...Array.from(more)])).sort();
      [plain, lifts] = [scores(rows), lift()];
    }
    const places = [...rows.keys()].sort((one, other) => plain[other] + lifts[other] - plain[one] - lifts[one] || rows[one] - rows[other]);
    const risen = places.filter((place) => lifts[place] > 0 && plain[place] < nth(plain)).map((place) => rows[place]);
    return { pool: Int32Array.from(places, (place) => rows[place]), lifts: Float64Array.from(places, (place) => lifts[place]), risen };
  }
}

/** The public facts and rules of a model's items. */
export class Steering {
  private readonly found = new Map<string, { readonly mask: Uint8Array; readonly rows: Int32Array }>();
  private latest: { readonly since: number; readonly until: number; readonly rows: Int32Array | null } = { since: Infinity, until: -Infinity, rows: null };

  constructor(
    private readonly rowOf: ReadonlyMap<string, number>,
    private readonly table: ItemTable | null,
    private readonly rules: readonly Rule[],
    private readonly clock: () => number,
  ) {}

  /** Rows that any list may have now: in stock, in their time, and left out by no rule; null: all. */
  offered(): Int32Array | null {
    const now = this.clock();
    if (!(this.latest.since <= now && now < this.latest.until)) this.latest = this.offeredAt(now);
    return this.latest.rows;
  }

  private offeredAt(now: number): { since: number; until: number; rows: Int32Array | null } {
    const edges = this.rules.flatMap(({ since, until }) => [since, until]);
    const out = new Uint8Array(this.rowOf.size);
    const { table } = this;
    if (table) {
      const numbers = (name: string): number[] => (table.column(name) ?? []).map(numberOf);
      numbers("stock").forEach((stock, row) => stock <= 0 && (out[row] = 1));
      numbers("from").forEach((begin, row) => edges.push(begin) && begin > now && (out[row] = 1));
      numbers("until").forEach((end, row) => edges.push(end) && end <= now && (out[row] = 1));
      for (const rule of this.rules) if (rule.exclude && holds(rule, now)) this.select(rule.where, table).mask.forEach((each, row) => (out[row] |= each));
    }
    const since = edges.reduce((latest, each) => (each <= now && each > latest ? each : latest), -Infinity);
    const until = edges.reduce((next, each) => (each > now && each < next ? each : next), Infinity);
    return { since, until, rows: out.includes(1) ? placesOf(out, 0) : null };
  }

  /** How a list of n items is steered, by what an app asks and by the rules; null: it isn't. */
  steer(n: number, { where, pin = [], boost = {}, diversityBy }: Steers): Steer | null {
    if (!Array.isArray(pin) || !pin.every((each) => typeof each === "string")) throw new InputError(`\`pin\` must be an array of item ids, got ${shown(pin)}`);
    const asked = typeof boost === "object" && boost ? Object.entries(boost) : null;
    if (!asked || asked.length > MOST_BOOSTS) throw new InputError(`\`boost\` must say of at most ${MOST_BOOSTS} filters by how much, got ${shown(boost)}`);
    for (const [each, by] of asked) if (typeof by !== "number" || !(Math.abs(by) <= 1)) throw new InputError(`\`boost\` must have numbers from -1 to 1 by filters, got ${shown(each)}: ${shown(by)}`);
    const boosts = asked.map(([each, by]) => [this.asked(each, "boost").mask, by] as const);
    const [now, pinned, among] = [this.clock(), new Set<string>(pin), new Set<string>()];
    for (const rule of this.rules) {
      if (!holds(rule, now)) continue;
      for (const item of rule.pin) if (!pinned.has(item)) among.add(item);
      if (rule.boost && this.table) boosts.push([this.select(rule.where, this.table).mask, rule.boost]);
    }
    for (const item of [...among].slice(0, Math.ceil(PINNED * n))) pinned.add(item);
    const likeness = diversityBy === undefined ? null : this.likeness(diversityBy);
    const rows = where === undefined ? null : this.asked(where, "where").rows;
    if (!rows && !pinned.size && !boosts.length && !likeness) return null;
    return new Steer(rows, [...pinned].flatMap((item) => this.rowOf.get(item) ?? []), boosts, likeness);
  }

  /** A filter's items, of columns that there are. */
  private asked(text: unknown, name: string): { readonly mask: Uint8Array; readonly rows: Int32Array } {
    if (typeof text !== "string") throw new InputError(`\`${name}\` must be a filter such as 'price < 20', or a function, got ${shown(text)}`);
    const table = this.has(name);
    check(parse(text, name), table, name);
    return this.select(text, table);
  }

  private has(name: string): ItemTable {
    if (!this.table) throw new InputError(`\`${name}\` must be left out where no item table came with the model, got one`);
    return this.table;
  }

  private select(text: string, table: ItemTable): { readonly mask: Uint8Array; readonly rows: Int32Array } {
    const known = this.found.get(text);
    if (known) return known;
    if (this.found.size === MOST_KEPT) this.found.clear();
    const mask = select(parse(text), table);
    const made = { mask, rows: placesOf(mask, 1) };
    this.found.set(text, made);
    return made;
  }

  /** How alike items are by one column: a dimension for each value that some of them have. */
  private likeness(asked: string): (rows: readonly number[]) => Float64Array {
    const table = this.has("diversityBy");
    const name = Object.hasOwn(ALIASES, asked) ? ALIASES[asked] : asked;
    if (!namesOf(table).includes(name)) throw new InputError(`\`diversityBy\` must be one of ${namesOf(table).join(", ")}, got ${shown(asked)}`);
    const column = table.column(name) ?? [];
    return (rows) => {
      const has = rows.map((row): readonly Value[] => [column[row] ?? []].flat() as Value[]);
      const places = new Map([...new Set(has.flat())].map((value, place) => [value, place]));
      const width = Math.max(places.size, 1);
      const table = new Float64Array(rows.length * width);
      has.forEach((values, row) => values.forEach((value) => (table[row * width + (places.get(value) as number)] = 1)));
      return table;
    };
  }
}

const holds = ({ since, until }: Rule, now: number): boolean => since <= now && now < until;

/** The places of a mask that have a value. */
function placesOf(mask: Uint8Array, value: number): Int32Array {
  const found = new Int32Array(mask.length);
  let count = 0;
  for (let row = 0; row < mask.length; row += 1) if (mask[row] === value) found[count++] = row;
  return found.slice(0, count);
}
