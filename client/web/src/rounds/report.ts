/** Report: what this device has spent, by its own ledger, as its user reads it. */

import { conditions, worstCaseCosts, type DeviceLedger, type Receipt } from "../ledger/device_ledger.js";
import { totalMu2 } from "../mechanism/accounting.js";
import type { Checkpoint } from "../records/merkle.js";
import type { Service } from "../service.js";

export const UNIT = "this installation";
export const ADJACENCY = "zero-out";
export const ACCOUNTANT = "palate closed form";

/** Unit: this installation; adjacency: zero-out. */
export interface Spending {
  readonly population: string;
  /** What was spent at `delta`, rounded up; null: something left without noise. */
  readonly epsilon: number | null;
  /** What it relies on. */
  readonly conditions: readonly string[];
  /** The same if all other devices are the operator's; null: it isn't bounded. */
  readonly epsilonAlone: number | null;
  readonly limit: number;
  readonly remaining: number | null;
  readonly delta: number;
  readonly mu2: number;
  readonly participations: number;
  readonly participationLimit: number;
  readonly receipts: readonly Receipt[];
  /** The population's ledger, as last seen here. */
  readonly seen: Checkpoint | null;
}

export async function spendingOf(ledger: DeviceLedger, service: Service): Promise<Spending> {
  const receipts = await ledger.receipts();
  const mu2 = totalMu2(receipts.map((each) => each.mu2));
  const epsilon = receipts.some((each) => each.mu2 === 0) ? null : service.epsilonOf(mu2);
  const trusts = receipts.map(({ trust }) => trust);
  const costs = worstCaseCosts(trusts);
  return {
    population: service.population,
    epsilon,
    conditions: conditions(trusts),
    epsilonAlone: costs === null ? null : service.epsilonOf(totalMu2(costs)),
    limit: service.epsilon,
    remaining: epsilon === null ? null : Math.max(service.epsilon - epsilon, 0),
    delta: service.delta,
    mu2,
    participations: receipts.length,
    participationLimit: service.participations,
    receipts,
    seen: (await ledger.seen(service.population)).checkpoint,
  };
}
