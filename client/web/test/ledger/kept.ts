/** A plan as a ledger charges it, of any place and cost: tests of the ledger, and of the noise, charge what no server has signed. */

import type { ChargedPlan } from "../../src/ledger/device_ledger.js";
import type { KeptPlan, RoundPlan } from "../../src/rounds/plan.js";

export const kept = (plan: RoundPlan): KeptPlan => ({ plan }) as unknown as KeptPlan;
export const charged = (plan: RoundPlan): ChargedPlan => ({ plan }) as unknown as ChargedPlan;
