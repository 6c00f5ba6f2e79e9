/**
 * Interests: one user's interest in the items of a catalogue, from their stored events. Third step on a device.
 *
 *     EventStore -> Interests -> History (weights of items) -> user vector
 *
 * Implausible data counts less. If n > 60 positive events are tracked in a minute, each counts 60/n; a time after now
 * counts as now; an event of unknown time keeps its weight. An item pauses after more than five impressions without a
 * later positive event. A taste can be reset: older events then don't count, but rejected items stay rejected.
 */

import { DAY, SET_CLOCK } from "../clock.js";
import { InputError } from "../errors.js";
import type { Row } from "../events.js";
import { AGAINST, BACK, FOR, NOTHING, type EventKind } from "../kinds.js";
import { LARGEST, SMALLEST, type Weighting } from "../weighting.js";

const BURST = 60;
const [TIRED, RESTED_DAYS] = [5, 7];
/** Up to this many events in a domain, each counts twice. */
const FEW = 5;

/** A user's items, rising, and their weights. */
export interface History {
  readonly indices: Int32Array;
  readonly weights: Float32Array;
  readonly nItems: number;
}

/** A user's interests at one moment. */
export interface Look {
  /** The items that count for the taste, with weights after decay. */
  readonly history: History;
  /** The same items, where recent events count more: what lists are made of, and nothing else. */
  readonly recent: History;
  /** Of each item of the history, the kind of its event with the highest weight. */
  readonly kinds: readonly EventKind[];
  /** Of each item of the history, when the user was last positive about it; NaN: not known. */
  readonly latest: Float64Array;
  /** Rows of items turned down or given back, without a later positive event, rising. */
  readonly unwanted: Int32Array;
  /** Those that also count against the taste, since its last reset. */
  readonly dismissed: Int32Array;
  /** Rows of items that pause, as they were shown often without a reaction. */
  readonly resting: Int32Array;
  /** Rows of items that were skipped. */
  readonly skipped: Int32Array;
}

interface Positive {
  readonly row: number;
  readonly kind: EventKind;
  readonly weight: number;
  readonly time: number;
  /** The minute in which it was tracked; NaN: it was imported. */
  readonly minute: number;
}

/** What is known of the events so far; it is extended by each new one. */
class Evidence {
  positives: Positive[] = [];
  readonly minutes = new Map<number, number>();
  readonly shown = new Map<number, number[]>();
  readonly unwanted = new Set<number>();
  readonly dismissed = new Set<number>();
  readonly skipped = new Set<number>();
  newest = -Infinity;
  latest = -Infinity;

  add(event: Row, row: number, weighting: Weighting, reset: number): void {
    const [says, weight] = weighting.judge(event.kind, event.value);
    if (says < 0) this.unwanted.add(row);
    else if (says === FOR) this.unwanted.delete(row);
    if (event.time !== null) this.latest = Math.max(this.latest, event.time);
    if (event.seq <= reset) return;
    if (says === AGAINST) this.dismissed.add(row);
    else if (says !== NOTHING) this.dismissed.delete(row);
    if (says === BACK) {
      this.positives = this.positives.filter((each) => each.row !== row || void this.minutes.set(each.minute, (this.minutes.get(each.minute) ?? 0) - 1));
    }
    if (event.kind === "skip") this.skipped.add(row);
    if (says === FOR) this.shown.delete(row);
    if (event.kind === "impression") {
      const times = this.shown.get(row);
      if (times) times.push(event.received);
      else this.shown.set(row, [event.received]);
    }
    this.newest = Math.max(this.newest, event.received);
    if (!(weight > 0)) return;
    const minute = event.imported ? NaN : Math.floor(event.received / 60);
    this.positives.push({ row, kind: event.kind, weight, time: event.time ?? NaN, minute });
    if (!event.imported) this.minutes.set(minute, (this.minutes.get(minute) ?? 0) + 1);
  }

  /** The weights of events, by their place, at a time; null: the clock isn't set. */
  factors(weighting: Weighting, now: number | null): Float64Array {
    const times = this.positives.map(({ time }) => (now === null ? time : Math.min(time, now)));
    const halfLife = weighting.halfLifeDays;
    const latest = times.reduce((most, time) => (time > most ? time : most), -Infinity);
    return Float64Array.from(this.positives, ({ weight, minute }, place) => {
      const age = latest - times[place];
      const decayed = halfLife === undefined || Number.isNaN(age) ? 1 : Math.max(0.5 ** (age / (halfLife * DAY)), SMALLEST);
      const many = this.minutes.get(minute) ?? 0;
      return weight * decayed * (many > BURST ? BURST / many : 1);
    });
  }

  resting(): Int32Array {
    const pausing: number[] = [];
    for (const [row, times] of this.shown)
      if (times.length > TIRED && times.reduce((sum, at) => sum + 0.5 ** ((this.newest - at) / DAY / RESTED_DAYS), 0) > TIRED) pausing.push(row);
    return rising(pausing);
  }
}

/** One user's interactions with a catalogue. */
export class Interests {
  /** Item id -> its row. */
  readonly rows: ReadonlyMap<string, number>;
  private evidence = new Evidence();
  private mark = { generation: -1, read: 0 };
  private kept: Look | undefined;
  private readonly recency: Weighting | undefined;

  constructor(
    private readonly store: { rows: readonly Row[]; generation: number; reset: number; clock: () => number },
    readonly catalogue: readonly string[],
    private readonly weighting: Weighting,
    recentHalfLifeDays: number | null = null,
  ) {
    this.rows = new Map(catalogue.map((item, row) => [item, row]));
    if (this.rows.size !== catalogue.length) throw new InputError(`\`items\` must name each item once, got ${catalogue.length} ids, ${this.rows.size} different`);
    if (recentHalfLifeDays !== null) this.recency = weighting.decaying(recentHalfLifeDays);
  }

  /** The user's interests now. It is the same object until something changes. */
  look(): Look {
    const { store } = this;
    if (this.mark.generation !== store.generation) {
      this.evidence = new Evidence();
      this.mark = { generation: store.generation, read: 0 };
      this.kept = undefined;
    }
    for (; this.mark.read < store.rows.length; this.mark.read += 1) {
      const event = store.rows[this.mark.read];
      const row = this.rows.get(event.item);
      if (row === undefined) continue;
      this.evidence.add(event, row, this.weighting, store.reset);
      this.kept = undefined;
    }
    const now = store.clock();
    const keeps = now < SET_CLOCK || this.evidence.latest <= now; // otherwise the result depends on "now"
    const look = this.kept ?? this.lookAt(now >= SET_CLOCK ? now : null);
    this.kept = keeps ? look : undefined;
    return look;
  }

  private lookAt(now: number | null): Look {
    const { positives } = this.evidence;
    const groups = new Map<number, number[]>();
    positives.forEach(({ row }, place) => {
      const group = groups.get(row);
      if (group) group.push(place);
      else groups.set(row, [place]);
    });
    const indices = rising(groups.keys());
    const places = Array.from(indices, (row) => groups.get(row) as number[]);
    const factors = this.evidence.factors(this.weighting, now);
    const weights = pairWeights(this.weighting, factors, places);
    const history = { indices, weights, nItems: this.catalogue.length };
    let recent = history;
    if (this.recency) {
      const decayed = pairWeights(this.recency, this.evidence.factors(this.recency, now), places);
      const after = sum(decayed);
      const scale = after > 0 ? sum(weights) / after : 1;
      recent = { ...history, weights: decayed.map((each) => clipped(each * scale)) };
    }
    const kinds = places.map((group) => positives[group.reduce((best, at) => (factors[at] > factors[best] ? at : best))].kind);
    const latest = Float64Array.from(places, (group) => group.reduce((most, at) => (positives[at].time > most || Number.isNaN(most) ? positives[at].time : most), NaN));
    const { unwanted, dismissed, skipped } = this.evidence;
    return {
      history, recent, kinds, latest,
      unwanted: rising(unwanted), dismissed: rising(dismissed), skipped: rising(skipped), resting: this.evidence.resting(),
    };
  }
}

/** The history with larger weights for the events of one domain: up to five count twice. */
export function focus(history: History, within: ReadonlySet<number>): History {
  const own = history.indices.map((row) => Number(within.has(row)));
  const factor = 1 + Math.min(1, FEW / Math.max(sum(own), 1));
  return { ...history, weights: history.weights.map((weight, place) => (own[place] ? weight * factor : weight)) };
}

/** How many items of equal weight would tell as much: Kish, Survey Sampling (1965), section 11.2. */
export function effectiveCount(weights: ArrayLike<number>): number {
  let [total, squares, even] = [0, 0, true];
  for (let place = 0; place < weights.length; place += 1) {
    total += weights[place];
    squares += weights[place] ** 2;
    even &&= weights[place] === 1;
  }
  return even ? weights.length : total ** 2 / squares;
}

/** More items beside a history's; a repeated or present one keeps its largest weight. */
export function withInteractions(history: History, items: ArrayLike<number>, weights: ArrayLike<number>): History {
  const merged = new Map(Array.from(history.indices, (row, place) => [row, history.weights[place]]));
  for (let place = 0; place < items.length; place += 1)
    merged.set(items[place], Math.max(merged.get(items[place]) ?? 0, Math.fround(weights[place])));
  const indices = rising(merged.keys());
  return { ...history, indices, weights: Float32Array.from(indices, (row) => merged.get(row) as number) };
}

/** The entries of a history where `kept` says so. */
export function entries(history: History, kept: (row: number, place: number) => boolean): History {
  const places = Array.from(history.indices.keys()).filter((place) => kept(history.indices[place], place));
  return {
    ...history,
    indices: Int32Array.from(places, (place) => history.indices[place]),
    weights: Float32Array.from(places, (place) => history.weights[place]),
  };
}

/** Distinct rows, rising. */
export function rising(rows: Iterable<number>): Int32Array {
  return Int32Array.from(new Set(rows)).sort();
}

export function clipped(weight: number): number {
  return Math.min(Math.max(weight, SMALLEST), LARGEST);
}

export function sum(values: ArrayLike<number>): number {
  let total = 0;
  for (let place = 0; place < values.length; place += 1) total += values[place];
  return total;
}

function pairWeights(weighting: Weighting, factors: Float64Array, places: readonly (readonly number[])[]): Float32Array {
  const add = weighting.combine === "sum";
  return Float32Array.from(places, (group) => {
    const merged = group.reduce((total, at) => (add ? total + factors[at] : Math.max(total, factors[at])), 0);
    return Math.min(Math.max(merged, SMALLEST), weighting.cap);
  });
}
