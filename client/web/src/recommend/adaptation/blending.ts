/**
 * Blending: the weight of each source of recommendations for this user, learned from reactions to what was shown.
 *
 * The weight of a source is sqrt((liked + 30 r) / (shown + 30) / r), kept in [1/2, 2], where r = all liked / all shown. The
 * share of exploration is multiplied by the same ratio, without the root, kept in [1/4, 4].
 */

import { COLLABORATIVE, CONTENT, EXPLORATION, familyOf, PANEL, POPULARITY } from "../factors.js";

const SOURCES = [POPULARITY, COLLABORATIVE, CONTENT, PANEL, EXPLORATION];
const PRIOR = 30;
/** Impressions of a source above which both of its numbers are halved; and the same for recent ones of all. */
const [MEMORY, LATELY] = [1000, 60];

/** Source -> how often items of it were shown, and liked. "lately": the same for recent ones, without exploration. */
export type Counts = Readonly<Record<string, readonly [shown: number, liked: number]>>;

/** The user's reaction to one recommendation. */
export interface RecommendationOutcome {
  readonly source: string;
  readonly position: number;
  readonly liked: boolean;
}

/** The counts after further reactions. */
export function blended(before: Counts, outcomes: readonly RecommendationOutcome[]): Counts {
  const counts: Record<string, [number, number]> = {};
  for (const [name, [shown, liked]] of Object.entries(before)) counts[name] = [shown, liked];
  for (const { source, position, liked } of outcomes) {
    const looked = liked ? 1 : 1 / Math.log2(position + 2);
    for (const name of source === EXPLORATION ? [EXPLORATION] : [familyOf(source), "lately"]) {
      const own = (counts[name] ??= [0, 0]);
      own[0] += looked;
      own[1] += Number(liked);
    }
  }
  for (const [name, own] of Object.entries(counts))
    if (own[0] > (name === "lately" ? LATELY : MEMORY)) counts[name] = [own[0] / 2, own[1] / 2];
  return counts;
}

/** The weight of each source but exploration. */
export function weightsOf(counts: Counts): Record<string, number> {
  return Object.fromEntries(SOURCES.slice(0, -1).map((source) => [source, Math.min(Math.max(Math.sqrt(ratio(counts, source)), 0.5), 2)]));
}

/** The share of exploration for this user, from the usual share. */
export function explorationOf(counts: Counts, share: number): number {
  return Math.min(share * Math.min(Math.max(ratio(counts, EXPLORATION), 0.25), 4), 0.5);
}

/** Both numbers of all sources, without those of exploration if `known` only. */
export function totals(counts: Counts, without: readonly string[]): [shown: number, liked: number] {
  const kept = Object.entries(counts).filter(([name]) => !without.includes(name));
  return [kept.reduce((sum, [, [shown]]) => sum + shown, 0), kept.reduce((sum, [, [, liked]]) => sum + liked, 0)];
}

/** The rate of liked items of a source divided by that of all, shrunk towards 1. */
function ratio(counts: Counts, source: string): number {
  const [shown, liked] = totals(counts, ["lately"]);
  const overall = shown ? liked / shown : 0;
  if (!overall) return 1;
  const [ownShown, ownLiked] = counts[source] ?? [0, 0];
  return (ownLiked + PRIOR * overall) / (ownShown + PRIOR) / overall;
}
