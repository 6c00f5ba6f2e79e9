/**
 * Consent: what the user agreed to, for each purpose, with date and version. A purpose that wasn't granted is denied.
 *
 * A decision is on the disk before `grant` or `revoke` resolves. The history is kept: it is the user's proof, and the app's.
 */

import { InputError } from "./errors.js";
import { checkText, shown } from "./events.js";
import type { Decision } from "./store/store.js";

/** Purposes that a user can agree to. */
export const PURPOSES = ["store", "train", "analytics", "messaging", "panel"] as const;
export type Purpose = (typeof PURPOSES)[number];

/** What a revocation doesn't undo. */
export const REMAINS: Readonly<Record<Purpose, string>> = {
  store: "what was stored before is kept until the user erases it",
  train: "rounds that this device took part in stay released: its share of a noised sum can't be taken back",
  analytics: "counts that were sent before stay in the noised figures they became part of",
  messaging: "messages that were sent before stay sent",
  panel:
    "what was shared openly before can't be called back: copies and models made of it stay; the next panel is made without it",
};

/** A decision, as an app sees it. */
export interface ConsentDecision extends Decision {
  readonly purpose: Purpose;
  /** What a revocation doesn't undo; empty for a grant. */
  readonly remains: string;
}

export function checkPurpose(purpose: unknown): asserts purpose is Purpose {
  if (!PURPOSES.includes(purpose as Purpose)) throw new InputError(`\`purpose\` must be one of ${PURPOSES.join(", ")}, got ${shown(purpose)}`);
}

/** A decision that was checked. */
export function decisionOf(purpose: Purpose, granted: boolean, version: string, time: number, nonce: string): Decision {
  checkPurpose(purpose);
  checkText("version", version, 1, 200);
  return { purpose, granted, version, time, nonce };
}

export function told({ nonce: _, ...decision }: Decision): ConsentDecision {
  const purpose = decision.purpose as Purpose;
  return { ...decision, purpose, remains: decision.granted ? "" : REMAINS[purpose] };
}
