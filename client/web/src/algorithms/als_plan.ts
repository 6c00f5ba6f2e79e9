/** Plan: how many rounds, of which sizes, and what of the budget each has; part of `als`. Each rule follows from public facts. */

import { InputError } from "../errors.js";
import { Float, type Json } from "../records/canonical.js";
import { roundEven } from "../mechanism/update.js";
import { signalOf, type PublicFacts } from "./facts.js";

/** Score source -> the block of the vote on its weight. */
export type Source = "content" | "pairs" | "panel";

const clip = (value: number, least: number, most: number): number => Math.min(Math.max(value, least), most);

/** Settings of `als`; what is null follows from the public facts. */
export interface AlsSettings {
  readonly rounds: number | null;
  readonly embeddingSize: number | null;
  readonly headItems: number | null;
  readonly popularityShare: number | null;
  readonly popularityOnlyBelow: number;
  readonly contentWeight: number | null;
  readonly voteShare: number | null;
  readonly pairItems: number | null;
  readonly contributionExponent: number;
  readonly foldExponent: number;
  readonly scoreExponent: number;
}

/** All of a model's settings; the last two are the server's alone. */
const DEFAULTS: AlsSettings & { readonly whitening: number; readonly formerDiscount: number } = {
  rounds: null,
  embeddingSize: null,
  headItems: null,
  popularityShare: null,
  popularityOnlyBelow: 350,
  contentWeight: null,
  voteShare: null,
  pairItems: null,
  contributionExponent: -0.15,
  foldExponent: -0.3,
  scoreExponent: 0.1,
  whitening: -0.3,
  formerDiscount: 0.5,
};
/** As settings spell it -> the name here. */
const NAMES: Readonly<Record<string, string>> = Object.fromEntries(Object.keys(DEFAULTS).map((name) => [name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`), name]));

export function readSettings(settings: { readonly [key: string]: Json }): AlsSettings {
  const found: Record<string, unknown> = { ...DEFAULTS };
  for (const [name, value] of Object.entries(settings)) {
    if (name === "feature_sources") continue; // only how the server groups what it computes
    const number = value instanceof Float ? value.value : value;
    if (!Object.hasOwn(NAMES, name) || (number !== null && typeof number !== "number")) throw new InputError(`settings of als must have known numbers, got \`${name.slice(0, 80)}\``);
    if (number !== null) found[NAMES[name]] = number;
  }
  return found as unknown as AlsSettings;
}

interface Sizes {
  readonly rounds: number;
  readonly rows: number;
  readonly width: number;
}

export interface AlsPlan {
  /** Each release's share of mu^2, round 0 first. */
  readonly shares: readonly number[];
  readonly later: number;
  readonly headItems: number;
  readonly contentWeight: number;
  /** The score sources whose weight is voted on in the last round, and their share of its squared norm. */
  readonly votes: readonly Source[];
  readonly voteShare: number;
  readonly pairItems: number;
}

export function alsPlan(settings: AlsSettings, facts: PublicFacts): AlsPlan {
  const warm = facts.formerSignal > 0;
  const signal = Math.hypot(signalOf(facts), facts.formerSignal);
  const content = facts.nFeatures > 0;
  const later = laterRounds(settings, signal, warm);
  // Content covers the tail, so that with features the head grows more slowly.
  const wanted = content ? 10 * Math.sqrt(signal) : 1.2 * signal ** 0.75;
  const usual = facts.nItems > 50 ? Math.trunc(clip(wanted, 50, facts.nItems)) : facts.nItems;
  const head = Math.min(settings.headItems ?? usual, facts.nItems);
  const size = facts.mu === null ? 96 : Math.trunc(clip(4 * roundEven(0.1125 * Math.sqrt(signal)), 8, 96));
  const sizes = { rounds: later, rows: head, width: Math.min(settings.embeddingSize ?? size, head) };
  const pairItems = pairItemsOf(settings, facts, sizes);
  const elections: [Source, boolean][] = [["content", content], ["pairs", pairItems > 0 && sizes.rounds > 1], ["panel", facts.panelUsers > 0]];
  const each = elections.some(([, held]) => held) ? voteShareOf(settings, signal, sizes.rounds > 0) : 0;
  const votes = elections.flatMap(([name, held]) => (held && each ? [name] : []));
  const share = each * votes.length;
  if (share >= 1) throw new InputError(`\`vote_share\` must be below 1 / ${votes.length} where ${votes.length} weights are voted on`);
  let [voteShare, shares] = [share ? 1 : 0, share ? [1 - share, share] : [1]];
  if (sizes.rounds) {
    voteShare = share;
    const first = settings.popularityShare || (warm ? 0.3 : clip(150 / signal, 0.04, 0.5));
    const doubling = Array.from({ length: sizes.rounds }, (_, at) => 2 ** at); // later rounds count more: the last one is the model
    const whole = doubling.reduce((sum, one) => sum + one, 0);
    const pairs = pairItems ? 0.5 : 0;
    const rest = doubling.map((one) => ((1 - first) * (1 - pairs) * one) / whole);
    rest[0] += (1 - first) * pairs;
    shares = [first, ...rest];
  }
  const contentWeight = settings.contentWeight ?? (sizes.rounds ? 1 : 0.5);
  return { shares, later: sizes.rounds, headItems: sizes.rows, contentWeight, votes, voteShare, pairItems };
}

function laterRounds({ rounds, popularityOnlyBelow }: AlsSettings, signal: number, warm: boolean): number {
  if (rounds !== null) return rounds - 1;
  if (signal < popularityOnlyBelow) return 0;
  return warm ? 1 : signal >= 20_000 ? 4 : 3;
}

/** As set; else by the signal an item, where there is enough, for at most twice the numbers of all products. */
function pairItemsOf(settings: AlsSettings, facts: PublicFacts, { rounds, rows, width }: Sizes): number {
  if (!rounds) return 0;
  let wanted = settings.pairItems;
  if (wanted === null) {
    const signal = signalOf(facts);
    if (signal < Math.max(25_000, 3 * facts.nItems)) return 0;
    const left = Math.max(4_000_000 - rows * width, 1_000_000);
    wanted = Math.trunc(Math.min(signal / 40, 2 * Math.sqrt(rounds * rows * width), Math.sqrt(2 * left)));
  }
  const size = Math.min(wanted, facts.nItems);
  return size > 1 ? size : 0;
}

/** Of one vote: as set; else a constant beside products, or by the signal in a round of its own. */
function voteShareOf({ voteShare, rounds }: AlsSettings, signal: number, later: boolean): number {
  const usual = later ? 0.02 : signal < 100 ? 0 : clip((60 / signal) ** 2, 0.01, 0.1);
  return rounds === 1 ? 0 : (voteShare ?? usual);
}
