/**
 * Recommender: makes the list of recommendations for the device's user. The last step of the path on a device.
 *
 *     Interests -> taste (the algorithm's fold-in) -> exact ranking -> diversity -> exploration -> [Recommendation]
 *
 * The taste is recomputed after each new event. It is written to no disk and no message: a recommender returns only items.
 */

import { InputError } from "../errors.js";
import { shown } from "../events.js";
import { explorationOf, weightsOf, type Counts } from "./adaptation/blending.js";
import type { fusedWeights } from "./adaptation/fusion.js";
import { diverse } from "./diversity.js";
import { inWords, TASTE, WHY, type Because, type Contribution, type Explanation } from "./explanation.js";
import { imagined, Popular, RANDOM, slots, type Rng } from "./exploration.js";
import { CONTENT, EXPLORATION, Factors, familyOf, POPULARITY, PROMOTED } from "./factors.js";
import { numbersOf, type GlobalModel } from "../models/model.js";
import { entries, focus, type Interests, type Look } from "./interests.js";
import { namedEvents } from "./reasons.js";
import { highest, Scorer, type Added, type Taste } from "./scoring.js";
import { Selection } from "./selection.js";
import type { Facts, Steer, Steering, Steers } from "./facts/steering.js";

const [POOL, SHORT] = [4, 10];
/** How far a list departs from the highest scores if nothing is said; what the setting is for the three options at 1. */
const [DISCOVERY, EXPLORE, DIVERSITY, DEBIAS] = [0.2, 0.5, 0.8, 0.25];
/** Factor on the share of exploration for a user without events. */
const NEW = 3;

/** A recommended item. */
export interface Recommendation {
  readonly item: string;
  /** Comparable only within a list. */
  readonly score: number;
  /** popularity, collaborative, content, panel or exploration; one of several of a family, such as "content:titles"; or promoted: by a rule, a pin or a boost. */
  readonly source: string;
  /** Why it is recommended, as text for the user. */
  readonly reason: string;
  /** The events that the reason names, largest contribution first: without them the item would stand lower. Empty: it names none. */
  readonly because: readonly Because[];
  /** Its position in the list, from 0. */
  readonly position: number;
  /** Its title by the model's item table; "": it has none. */
  readonly title: string;
}

/** An item that is similar to another one. */
export interface Similar {
  readonly item: string;
  /** The similarity: a cosine, at most 1. */
  readonly score: number;
  /** Its title by the model's item table; "": it has none. */
  readonly title: string;
}

export interface ScoreOptions {
  /** The domain that is asked for. */
  readonly domain?: string;
  /** How far the list departs from the highest scores, from 0, not at all, to 1. */
  readonly discovery?: number;
  /** The part of the popularity score that is removed, 0 to 1. */
  readonly debias?: number;
}

export interface RecommendOptions extends ScoreOptions, Steers {
  /** Leave out items on which the user has positive events; true unless it is false. */
  readonly filterAlreadyLikedItems?: boolean;
  /** Further items to leave out. */
  readonly filterItems?: readonly string[];
  /** Recommend only these. */
  readonly items?: readonly string[];
  /** The share of the list that is explored. */
  readonly explore?: number;
  /** Weight of the items' dissimilarity, 0 to 1. */
  readonly diversity?: number;
  /** Whether the user's loyalty changes how much the list explores; true unless it is false. */
  readonly tuned?: boolean;
}

const TINY = 1e-30;
const NO_FACTS: Facts = { table: null, rules: [], clock: () => 0, learned: Infinity };

/** Recommendations from a model and one user's interests. */
export class Recommender {
  private readonly scorer: Scorer;
  private readonly selection: Selection;
  private readonly popularity: ArrayLike<number>;
  private readonly crowds = new Map<string | undefined, Popular>();
  /** Learns weights of the sources; null: the model has no several sources of public features. */
  private fuse: typeof fusedWeights | null = null;
  private fused: Record<string, number> = {};
  private steering: Steering | null = null;
  /** Rows of items that have a vector by their kinds alone. */
  private fresh: ReadonlySet<number> = new Set();
  private made: { look: Look; of: string; taste: Taste; contributed: readonly (Contribution["kind"] | null)[] } | undefined;

  private constructor(
    model: GlobalModel,
    private readonly items: readonly string[],
    private readonly interests: Interests,
    private readonly counts: () => Counts,
    domains: readonly string[] | null,
    private readonly rng: Rng,
    private readonly facts: Facts,
  ) {
    if (model.header.facts.nItems !== items.length) throw new InputError(`\`items\` must be the model's ${model.header.facts.nItems} items, got ${items.length}`);
    this.scorer = new Scorer(Factors.of(model, items.length));
    this.selection = new Selection(interests.rows, domains);
    const popular = model.state.get("counts");
    this.popularity = popular ? numbersOf(popular) : new Float32Array(items.length).fill(1);
  }

  /** The recommender for a model; what only some models need is loaded for them. */
  static async of(model: GlobalModel, items: readonly string[], interests: Interests, counts: () => Counts, domains: readonly string[] | null = null, rng: Rng = RANDOM, facts: Facts = NO_FACTS): Promise<Recommender> {
    const made = new Recommender(model, items, interests, counts, domains, rng, facts);
    if (facts.table || facts.rules.length) await made.steerable();
    if (facts.table && facts.learned < items.length) made.fresh = (await import("../models/apart.js")).standIn(made.scorer.factors, facts.table, facts.learned);
    const several = made.scorer.sources.some((source) => source !== CONTENT && familyOf(source) === CONTENT);
    if (several) made.fuse = (await import("../models/apart.js")).fusedWeights;
    return made;
  }

  /** Loads what `where`, `pin`, `boost` and `diversityBy` need. */
  async steerable(): Promise<void> {
    const { Steering } = await import("../models/apart.js");
    const steering = (this.steering ??= new Steering(this.interests.rows, this.facts.table, this.facts.rules, this.facts.clock));
    this.selection.offered = () => steering.offered();
  }

  private titleOf(item: string): string {
    return this.facts.table?.title(item) ?? "";
  }

  /** Recommended items, best first. Items that the user hid or dismissed are never among them. */
  recommend(n = 10, options: RecommendOptions = {}, tuning = 1): Recommendation[] {
    checkCount(n);
    checkItems("filterItems", options.filterItems);
    checkItems("items", options.items);
    const mix = mixOf(options);
    const steer = this.steering?.steer(n, options);
    const allowed = this.selection.allowedRows(options.items, options.domain, steer?.rows);
    const { taste, look, counts } = this.current(mix.debias, options.domain);
    const own = options.filterAlreadyLikedItems === false ? [] : taste.history.indices;
    const without = [...look.unwanted, ...own, ...this.selection.knownRows(options.filterItems ?? [])];
    const first = steer?.first(n, without, allowed) ?? [];
    n -= first.length;
    without.push(...first);
    const wide = POOL * Math.max(n, SHORT);
    let out = [...without, ...look.resting];
    let pool: ArrayLike<number> = this.scorer.top(taste, wide, out, allowed);
    const lifted = steer?.lifted(pool, n, allowed, (rows) => this.scorer.scores(taste, rows), (among) => this.scorer.top(taste, Math.max(n, 1), out, among));
    pool = lifted?.pool ?? pool;
    let order = this.rerank(taste, pool, n, mix.diversity, [], steer, lifted?.lifts);
    if (order.length < n && out.length > without.length) {
      // Items that pause come after all others.
      out = without;
      pool = order = [...order, ...this.scorer.top(taste, n - order.length, [...without, ...order], allowed)];
    }
    const usual = taste.history.indices.length ? mix.explore : NEW * mix.explore;
    const share = options.explore === undefined ? explorationOf(counts, tuning * usual) : mix.explore;
    const places = slots(share, order.length, this.rng);
    if (places.length) {
      const drawn = imagined(taste.history, this.popular(options.domain), this.rng);
      const less = look.dismissed;
      const other = this.scorer.taste(drawn, less, this.weights(counts, 1)); // without popularity
      const kept = order.slice(0, order.length - places.length);
      const candidates = this.scorer.topOnce(other, wide, [...out, ...kept], allowed);
      const found = this.rerank(other, candidates, places.length, mix.diversity, kept, steer);
      order = kept;
      found.forEach((row, place) => order.splice(places[place], 0, row));
    }
    const promoted = new Set([...first, ...(lifted?.risen ?? [])]);
    if (!pool.length) pool = first;
    return this.withReasons(taste, [...first, ...order], new Set(places.map((place) => place + first.length)), pool, promoted);
  }

  /** Items of the user's own, in this order, as far as a list may have them. */
  listedAgain(n: number, found: ReadonlyMap<string, number>, kind: Contribution["kind"]): Recommendation[] {
    checkCount(n);
    const allowed = this.selection.allowedRows(undefined, undefined);
    const [out, may] = [new Set(this.interests.look().unwanted), allowed && Int32Array.from(allowed)];
    const listed = [...found].filter(([item]) => this.selection.knownRows([item]).some((row) => !out.has(row) && (may?.includes(row) ?? true)));
    return listed.slice(0, n).map(([item, score], position) => {
      const [title, domain] = [this.titleOf(item), this.selection.domain(this.selection.row(item))];
      const because = { item, kind, domain, title };
      return { item, score, source: "again", reason: inWords([{ ...because, score: Math.max(score, TINY), linked: 0 }], domain), because: [because], position, title };
    });
  }

  /** The seconds of an item; 0: not known. */
  lengthOf(item: string): number {
    const seconds = this.facts.table?.get(item)?.more.seconds;
    return typeof seconds === "number" ? seconds : 0;
  }

  /** Items to ask a new user about, those first whose answers tell most. */
  async questions(n = 1, options: { readonly items?: readonly string[]; readonly domain?: string } = {}): Promise<string[]> {
    checkCount(n);
    checkItems("items", options.items);
    const allowed = this.selection.allowedRows(options.items, options.domain);
    const { questions } = await import("../models/apart.js");
    const { taste, look } = this.current(0, options.domain);
    const asked = [...new Set([...look.history.indices, ...look.unwanted, ...look.skipped])].sort((one, other) => one - other);
    const known = new Set(asked);
    const among = Array.from(allowed ?? this.items.keys()).filter((row) => !known.has(row));
    return questions(this.scorer, this.popularity, taste, asked, among, n).map((row) => this.items[row]);
  }

  /** The contribution of each of the user's events to an item's score. */
  explain(item: string, options: ScoreOptions = {}): Explanation {
    const [row, mix] = [this.selection.row(item), mixOf(options)];
    const { taste } = this.current(mix.debias, options.domain);
    const score = this.scorer.scores(taste, [row])[0];
    const added = this.scorer.contributions(taste, row);
    const contributions = this.told(taste, added, highest(added.all, added.all.length, [], null));
    const rest = score - contributions.reduce((total, each) => total + each.score, 0);
    const domain = this.selection.domain(row);
    const total = (of: (each: Contribution) => number) => contributions.reduce((sum, each) => sum + of(each), 0);
    const elsewhere = total((each) => (each.domain === domain ? 0 : each.score));
    return { item, score, contributions, rest, domain, elsewhere, linked: total((each) => each.linked), text: inWords(contributions, domain) };
  }

  /** Whether an item is in the top share `reach` of its domain for this user, and is new to them. */
  fits(item: string, reach: number): boolean {
    const [row] = this.selection.knownRows([item]);
    if (row === undefined) return false;
    const domain = this.selection.domain(row) ?? undefined;
    const { taste, look } = this.current(0, domain);
    const among = this.selection.allowedRows(undefined, domain);
    const count = Math.ceil(reach * (among?.length ?? this.items.length));
    return this.scorer.top(taste, count, [...look.unwanted, ...taste.history.indices], among).includes(row);
  }

  /** Items similar to this one by the model, most similar first, independent of the user. */
  similarItems(item: string, n = 10, options: { readonly domain?: string } = {}): Similar[] {
    checkCount(n);
    const row = this.selection.row(item);
    const among = this.selection.allowedRows(undefined, options.domain);
    return this.scorer.similar(row, n, among).map((each) => ({ item: this.items[each.row], score: each.score, title: this.titleOf(this.items[each.row]) }));
  }

  private popular(domain: string | undefined): Popular {
    const known = this.crowds.get(domain);
    const made = known ?? new Popular(this.popularity, domain === undefined ? null : this.selection.within(domain));
    if (!known) this.crowds.set(domain, made);
    return made;
  }

  /** The user's taste for a domain, recomputed after a new event or reaction; their interests and counts. */
  private current(debias: number, domain: string | undefined): { taste: Taste; look: Look; counts: Counts } {
    const [look, counts] = [this.interests.look(), this.counts()];
    const of = JSON.stringify([debias, domain ?? null, counts]);
    if (this.made?.look !== look || this.made.of !== of) {
      const dismissed = new Set(look.dismissed);
      let history = entries(look.recent, (row) => !dismissed.has(row));
      if (domain !== undefined) history = focus(history, new Set(this.selection.within(domain)));
      if (this.fuse) this.fused = this.fuse(this.scorer, history);
      const taste = this.scorer.taste(history, look.dismissed, this.weights(counts, debias));
      const kinds = look.kinds.filter((_, place) => !dismissed.has(look.recent.indices[place]));
      this.made = { look, of, taste, contributed: kinds };
    }
    return { taste: this.made.taste, look, counts };
  }

  /** The weight of each part of a score: from reactions, fusion and debiasing. */
  private weights(counts: Counts, debias: number): Record<string, number> {
    const weights = weightsOf(counts);
    weights[POPULARITY] *= 1 - debias;
    for (const [source, weight] of Object.entries(this.fused)) weights[source] = weight * (weightsOf(counts)[familyOf(source)] * (familyOf(source) === POPULARITY ? 1 - debias : 1));
    return weights;
  }

  /** Reranks a pool, best first, for diversity, also towards the rows `beside`; the first n. */
  private rerank(taste: Taste, pool: ArrayLike<number>, n: number, diversity: number, beside: readonly number[] = [], steer?: Steer | null, lifts?: Float64Array): number[] {
    const rows = Array.from(pool);
    if (!diversity || rows.length < 2) return rows.slice(0, n);
    const all = [...rows, ...beside];
    const scores = this.scorer.scores(taste, rows).map((score, place) => score + (lifts?.[place] ?? 0));
    const likeness = steer?.likeness;
    return diverse(scores, likeness?.(all) ?? this.scorer.likeness(all), n, diversity, beside.length, likeness ? null : this.scorer.bonds(all)).map((place) => rows[place]);
  }

  /** Recommendations of rows, with source and reason. */
  private withReasons(taste: Taste, order: readonly number[], explored: ReadonlySet<number>, pool: ArrayLike<number>, promoted: ReadonlySet<number>): Recommendation[] {
    if (!order.length) return [];
    const parts = [...this.scorer.byPart(taste, order)];
    const usual = pool === order ? new Map(parts) : this.scorer.byPart(taste, pool);
    const means = parts.map(([name]) => (usual.get(name) as Float64Array).reduce((total, each) => total + each, 0) / pool.length);
    const places = new Map(Array.from(pool, (row, place) => [row, place]));
    const at = order.map((row, place) => (explored.has(place) ? -1 : (places.get(row) ?? -1)));
    const added = order.map((row, place) => (at[place] < 0 ? null : this.scorer.contributions(taste, row)));
    const named = namedEvents(this.scorer, taste, pool, at, added);
    return order.map((row, place) => {
      const score = parts.reduce((total, [, part]) => total + part[place], 0);
      // The source is the part furthest above its mean over the pool; a part that adds nothing can't be it.
      let [source, most] = ["", -Infinity];
      parts.forEach(([name, part], at) => {
        const above = part[place] ? part[place] - means[at] : -Infinity;
        if (source === "" || above > most) [source, most] = [name, above];
      });
      if (this.fresh.has(row)) source = "content:new";
      if (explored.has(place)) source = EXPLORATION;
      else if (promoted.has(row)) source = PROMOTED;
      const said = source === EXPLORATION || source === PROMOTED ? [] : this.told(taste, added[place], named[place]);
      const because = said.map(({ item, kind, domain, title }) => ({ item, kind, domain, title }));
      const reason = said.length ? inWords(said, this.selection.domain(row)) : (WHY[source] ?? TASTE);
      return { item: this.items[row], score, source, reason, because, position: place, title: this.titleOf(this.items[row]) };
    });
  }

  /** What is said of some events that add to an item's score. */
  private told(taste: Taste, added: Added | null, places: ArrayLike<number>): Contribution[] {
    const kinds = this.made?.contributed ?? [];
    return Array.from(added ? places : [], (at) => {
      const [row, item] = [taste.items[at], this.items[taste.items[at]]];
      const { all, linked } = added as Added;
      return { item, kind: kinds[at] ?? "dismiss", score: all[at], domain: this.selection.domain(row), linked: linked[at], title: this.titleOf(item) };
    });
  }
}

/** The three options: as given, or else by the setting `discovery`. */
function mixOf(options: RecommendOptions): { explore: number; diversity: number; debias: number } {
  const { discovery = DISCOVERY, explore = discovery * EXPLORE, diversity = discovery * DIVERSITY, debias = discovery * DEBIAS } = options;
  for (const [name, share] of Object.entries({ discovery, explore, diversity, debias }))
    if (typeof share !== "number" || !(share >= 0 && share <= 1)) throw new InputError(`\`${name}\` must be a share from 0 to 1, got ${shown(share)}`);
  return { explore, diversity, debias };
}

function checkCount(n: number): void {
  if (!Number.isInteger(n) || n < 1) throw new InputError(`\`n\` must be a number of items from 1, got ${shown(n)}`);
}

function checkItems(name: string, items: unknown): void {
  if (items !== undefined && !Array.isArray(items)) throw new InputError(`\`${name}\` must be an array of item ids, got ${shown(items)}`);
}
