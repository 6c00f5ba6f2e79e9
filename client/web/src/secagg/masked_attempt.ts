/** Masked attempt: its terms, which both sides derive from the signed plan before the first message. */

import { InputError } from "../errors.js";
import { DUMMIES, layoutSize } from "../mechanism/update.js";
import { canonicalJson, hashed } from "../records/canonical.js";
import type { Checkpoint } from "../records/merkle.js";
import type { RoundPlan } from "../rounds/plan.js";
import { checkTerms, type AttemptTerms } from "./transcript.js";

const CONTEXT = "palate/secagg/context/1";

/** The terms of the masked attempt that a verified plan asks for, charged in the state of a checkpoint. */
export function attemptTerms(plan: RoundPlan, checkpoint: Checkpoint | undefined): AttemptTerms {
  const { cohort } = plan;
  if (!cohort?.directory || !checkpoint) throw new InputError(`a masked attempt needs a charged plan with masks, got dp ${plan.dp} without`);
  const facts = {
    tag: CONTEXT,
    version: 1,
    run: plan.run,
    round: plan.round,
    attempt: plan.attempt,
    plan_hash: plan.hash,
    model_hash: plan.modelHash,
    checkpoint: { size: checkpoint.size, root: checkpoint.root },
  };
  return checkTerms({
    context: hashed(canonicalJson(facts)),
    size: layoutSize(plan.layout) + DUMMIES,
    bits: plan.bits(1),
    nMax: cohort.nMax,
    nMin: cohort.nMin,
    cMax: cohort.cMax,
    directory: cohort.directory,
    maxTosses: cohort.maxTosses,
  });
}
