/** Floors: conditions that every plan must meet before this device takes part. The defaults are for an app. */

export interface Floors {
  /** The least standard deviation of the noise, in steps of the grid; the accounting needs it. */
  readonly minSigma: number;
  /** The highest cost of one attempt, as mu^2. */
  readonly maxMu2: number;
  /** The least `cohort_floor` that a plan may have. */
  readonly minCohort: number;
  /** The only population it belongs to; null: any. */
  readonly population: string | null;
  readonly allowSeeded: boolean;
  readonly allowOff: boolean;
  /** Whether a contribution may be sent without noise, to a server that is trusted to add it. */
  readonly allowCentral: boolean;
  readonly allowDistributed: boolean;
  readonly allowLocal: boolean;
  /** Whether a contribution with its share of the noise may be sent without masks. */
  readonly allowUnmasked: boolean;
  /** With `distributed`: the least number of honest survivors that a plan may assume. */
  readonly minHonest: number;
  /** With `distributed`: the least number of corrupt devices that a plan must assume. */
  readonly minCorrupt: number;
  /** The same as a share of the largest cohort that a plan allows, rounded up. */
  readonly minCorruptShare: number;
  /** The highest cost of one attempt, as mu^2, if all other devices are corrupt. */
  readonly maxAloneMu2: number;
}

export const FLOORS: Floors = {
  minSigma: 64,
  maxMu2: Infinity,
  minCohort: 1,
  population: null,
  allowSeeded: false,
  allowOff: false,
  allowCentral: false,
  allowDistributed: true,
  allowLocal: true,
  allowUnmasked: false,
  minHonest: 20,
  minCorrupt: 1,
  minCorruptShare: 0.1,
  maxAloneMu2: Infinity,
};

/** The same floors without conditions on the cohort: for a small deployment, an experiment or a test. */
export function forFew(floors: Floors): Floors {
  return { ...floors, minHonest: 1, minCorrupt: 1, minCorruptShare: 0 };
}
