/** A plan as a ledger charges it, of any place and cost: the ledger's own tests charge what no server has signed. */

import type { KeptPlan, RoundPlan } from "../../src/rounds/plan.js";

export const kept = (plan: RoundPlan): KeptPlan => ({ plan }) as unknown as KeptPlan;
