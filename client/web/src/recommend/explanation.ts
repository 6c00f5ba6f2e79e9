/**
 * Explanation: a score as the sum of the contributions of the user's events.
 *
 * A contribution comes through what many items have in common, or through a link between two: then people who have the one
 * also have the other, and the reason says so.
 */

import type { EventKind } from "../kinds.js";

const DID: Readonly<Record<string, string>> = {
  view: "looked at", click: "opened", play: "played", like: "liked", rate: "rated",
  comment: "commented on", share: "shared", purchase: "bought", dismiss: "wanted less like",
  cart: "wanted to buy", wishlist: "wished for", follow: "followed", bookmark: "bookmarked", playlist: "playlisted",
};
/** The most events in a reason; each must contribute at least this share of the first one's contribution. */
export const [TOLD, LEAST] = [3, 0.1];
/** The kind of a contribution of an item that comes from the user's profile. */
export const PROFILE = "profile";
const POPULAR = "popular with others";
export const TASTE = "goes with your taste as a whole";
/** Reasons that name no event, by source; of other sources it is `TASTE`. */
export const WHY: Readonly<Record<string, string>> = { popularity: POPULAR, exploration: "something new", "content:new": "something new", promoted: "promoted" };

/** The contribution of one item of the user's history to a score. */
export interface Contribution {
  readonly item: string;
  /** The kind of the event on it with the highest weight. */
  readonly kind: EventKind;
  /** Below 0 for an item that the user dismissed. */
  readonly score: number;
  /** The item's domain; null if there is only one. */
  readonly domain: string | null;
  /** The part of `score` that comes through links between the two items. */
  readonly linked: number;
  /** The item's title by the model's item table; "": it has none. */
  readonly title: string;
}

/** Why an item has its score. */
export interface Explanation {
  readonly item: string;
  /** Its score in `recommend`. */
  readonly score: number;
  /** Contributions of the user's events, largest first. */
  readonly contributions: readonly Contribution[];
  /** The score minus all contributions, such as popularity. */
  readonly rest: number;
  readonly domain: string | null;
  /** The sum of contributions from other domains. */
  readonly elsewhere: number;
  /** The sum of what contributions add through links. */
  readonly linked: number;
  /** The largest contributions, in words. */
  readonly text: string;
}

/** An event that a reason names, for an app with words, titles or a language of its own. */
export interface Because {
  readonly item: string;
  readonly kind: EventKind;
  readonly domain: string | null;
  /** The item's title by the model's item table; "": it has none. */
  readonly title: string;
}

/** Whether what contributes most only stands for the user's profile. */
function profiled(contributions: readonly Because[]): boolean {
  return contributions[0]?.kind === PROFILE;
}

/** The contributions that a reason names: the largest, if they add anything; none if a profile says more. */
function telling(contributions: readonly Contribution[]): readonly Contribution[] {
  const least = contributions.length ? Math.max(LEAST * contributions[0].score, 0) : 0;
  const told = contributions.filter(({ score }) => score > 0 && score >= least).slice(0, TOLD);
  return profiled(told) ? [] : told.filter(({ kind }) => kind !== PROFILE);
}

/** A reason that names the events with the largest contributions, or popularity if there are none. */
export function inWords(contributions: readonly Contribution[], domain: string | null): string {
  const told = telling(contributions);
  if (!told.length) return profiled(contributions) && contributions[0].score > 0 ? "because of your profile" : POPULAR;
  const did = told.map((each) => `${DID[each.kind] ?? "chose"} ${each.title || each.item}${each.domain === null || each.domain === domain ? "" : ` (${each.domain})`}`);
  const because = `because you ${did.length === 1 ? did[0] : `${did.slice(0, -1).join(", ")} and ${did[did.length - 1]}`}`;
  const total = (of: (each: Contribution) => number) => told.reduce((sum, each) => sum + of(each), 0);
  if (!(total((each) => each.linked) > total((each) => each.score) / 2)) return because;
  return `${because}: people who have ${did.length > 1 ? "them" : "it"} often have this too`;
}
