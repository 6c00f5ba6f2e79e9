/** Admission: whether a plan meets a device's floors, before anything is charged for it. */

import { RefusedError } from "../errors.js";
import type { Floors } from "../floors.js";
import { noiseSharesOf } from "../mechanism/cohort.js";
import type { RoundPlan } from "./plan.js";

/** What the user must have agreed to before this device answers a plan. */
export function purposeOf(plan: RoundPlan): "train" | "analytics" {
  return plan.algorithm === "analytics" ? "analytics" : "train";
}

const WHY = {
  off: "this device takes no part without privacy",
  central: "this device sends nothing without noise of its own",
  local: "this device doesn't add all of the noise by itself",
  distributed: "this device trusts no other with its noise",
};

/** Refuses a plan that protects less than the floors demand. `now` is in seconds since 1970. */
export function checkFloors(plan: RoundPlan, floors: Floors, now: number): void {
  const { allowOff: off, allowCentral: central, allowLocal: local, allowDistributed: distributed } = floors;
  const allowed = { off, central, local, distributed }[plan.dp];
  const refusals: [boolean, string][] = [
    [floors.population !== null && floors.population !== plan.population, `this device is of the population ${floors.population}, got ${plan.population}`],
    [now > plan.expires, "the plan has expired"],
    [!allowed, WHY[plan.dp]],
    [plan.events, "this device protects its user, not single events"],
    [plan.noise === "seeded" && !floors.allowSeeded, "this device accepts no seeded noise"],
    [plan.private && plan.sigma < floors.minSigma, `\`sigma\` must be >= ${floors.minSigma} steps`],
    [plan.mu2 > floors.maxMu2, `one attempt may cost mu^2 <= ${floors.maxMu2}, got ${plan.mu2}`],
    [plan.cohortFloor < floors.minCohort, `\`cohort_floor\` must be >= ${floors.minCohort}`],
    [plan.mu2Alone > floors.maxAloneMu2, `alone, one attempt may cost mu^2 <= ${floors.maxAloneMu2}, got ${plan.mu2Alone}`],
  ];
  if (plan.cohort) {
    // 0.1 has no exact binary form: without the factor, 0.1 of 30 devices could be rounded up to 4.
    const corrupt = Math.max(floors.minCorrupt, Math.ceil(floors.minCorruptShare * plan.cohort.nMax * (1 - 1e-12)));
    const honest = noiseSharesOf(plan.cohort);
    refusals.push(
      [!(plan.cohort.masks || floors.allowUnmasked), "this device sends nothing without masks"],
      [honest < floors.minHonest, `the plan must count on >= ${floors.minHonest} honest survivors, got ${honest}`],
      [plan.cohort.cMax < corrupt, `the plan must count >= ${corrupt} of the cohort as corrupt, got ${plan.cohort.cMax}`],
    );
  }
  const refused = refusals.find(([each]) => each);
  if (refused) throw new RefusedError(refused[1]);
}
