/** Kinds: what an event of each kind says of its item, and what its value is, as in Python's `palate_common.kinds`. */

/** What an event says: below 0 its item isn't recommended until something is said for it again. */
export const [FOR, NOTHING, AGAINST, HIDDEN, BACK, BY_VALUE] = [1, 0, -1, -2, -3, 2] as const;

/** What a kind means. */
export interface Meaning {
  /** What an event's value is; left out: it has none. */
  readonly value?: string;
  /** The lowest and the highest value; left out: from 0. */
  readonly bounds?: readonly [least: number, most: number];
  /** Whether a value is a whole number. */
  readonly whole?: boolean;
  /** Whether there must be one. */
  readonly needed?: boolean;
  /** What it says of its item; left out: it counts for the taste. */
  readonly says?: number;
  /** Whether it is a reaction to a recommendation, if it says something for the item. */
  readonly answers?: boolean;
}

const [ANSWER, NO] = [{ answers: true }, { says: NOTHING }];
const PIECES = { value: "a whole number of pieces", whole: true };
const MEANINGS = {
  impression: NO,
  view: { value: "seconds on the page" },
  click: ANSWER,
  play: { value: "seconds played", answers: true },
  like: ANSWER,
  rate: { value: "the verdict, from 1 to 5", bounds: [1, 5], needed: true },
  comment: { value: "how good it calls the item, from -1 to 1", bounds: [-1, 1], says: BY_VALUE, answers: true },
  share: ANSWER,
  purchase: { ...PIECES, answers: true },
  skip: NO,
  dismiss: { says: AGAINST },
  hide: { says: HIDDEN },
  search: NO,
  cart: { ...PIECES, answers: true },
  wishlist: ANSWER,
  follow: ANSWER,
  bookmark: ANSWER,
  playlist: ANSWER,
  return: { ...PIECES, says: BACK },
} as const satisfies Record<string, Meaning>;
/** A kind that a weighting declares: of weight below 0 it says something against its item. */
const OWN: Meaning = { value: "a number", bounds: [-Number.MAX_VALUE, Number.MAX_VALUE] };

declare const own: unique symbol;
/** A kind of an app's own, which its `preset` declares: `"unboxed" as OwnKind`. */
export type OwnKind = string & { readonly [own]: true };
export type Kind = keyof typeof MEANINGS;
export type EventKind = Kind | OwnKind;
export const KINDS = Object.keys(MEANINGS) as Kind[];

export function meaningOf(kind: string): Meaning {
  return Object.hasOwn(MEANINGS, kind) ? MEANINGS[kind as Kind] : OWN;
}

/** Whether an event is a reaction to a recommendation that says something for the item. */
export function isAnswer(kind: string, value: number | null): boolean {
  const { answers, says } = meaningOf(kind);
  return answers === true && (says !== BY_VALUE || (value ?? 0) > 0);
}
