/** Shares: the final check of this device's contribution, and its noise, before anything leaves it. */

import { InputError, RefusedError } from "../errors.js";
import type { ChargedPlan } from "../ledger/device_ledger.js";
import { concat, utf8 } from "../records/bytes.js";
import { canonicalJson, hashed } from "../records/canonical.js";
import type { RoundPlan } from "../rounds/plan.js";
import { bounded } from "./bounded.js";
import { sampleDiscreteGaussian } from "./discrete_gaussian.js";
import { Source } from "./randomness.js";
import { DUMMIES, type Clipped } from "./update.js";

class Noised {
  declare private readonly made: "by addShare";
  constructor(readonly steps: Float64Array) {}
}
/** A contribution that has passed the final check, with this device's noise. Nothing but `addShare` makes one. */
export type NoisedVector = Noised;

class Clear {
  declare private readonly made: "by inTheClear";
  constructor(readonly steps: Float64Array) {}
}
/** What leaves this device without masks. Nothing but `inTheClear` makes one. */
export type ClearVector = Clear;

/** The contribution, if it is within the grid, with this device's noise on every coordinate, and 64 coordinates of noise alone. */
export async function addShare(clipped: Clipped, { plan }: ChargedPlan, source: Source): Promise<NoisedVector> {
  if (!plan.noisedByDevices) throw new InputError(`devices add noise with dp distributed or local, got ${plan.dp}`);
  if (plan.noise === "secure" && !source.secure) throw new InputError("a plan for secure noise must get it from a secure source, got a seeded one");
  const { steps } = bounded({ steps: clipped.steps, grid: plan.grid });
  const noise = await sampleDiscreteGaussian(steps.length + DUMMIES, plan.shareSigma, source);
  for (let at = 0; at < steps.length; at += 1) noise[at] += steps[at];
  return new Noised(noise);
}

/** The contribution as it leaves without masks: with all of the noise that the plan's mode demands, or none where the server adds it. */
export async function inTheClear(clipped: Clipped, charged: ChargedPlan, source: Source): Promise<ClearVector> {
  const { cohort, grid, noisedByDevices } = charged.plan;
  if (cohort?.masks) throw new RefusedError("a plan with masks must be answered under masks");
  return new Clear((noisedByDevices ? await addShare(clipped, charged, source) : bounded({ steps: clipped.steps, grid })).steps);
}

/** A fresh secure source, or, for a plan with seeded noise, one that repeats for this device. */
export function shareSource(plan: RoundPlan, device: number): Promise<Source> {
  if (plan.noise === "secure") return Source.secure();
  const scope = canonicalJson({ seed: plan.facts.seed, round: plan.round, attempt: plan.attempt, devices: [device] });
  return Source.seeded(hashed(concat(utf8("palate/seeded-share/1"), scope)));
}
