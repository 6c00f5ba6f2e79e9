/** Cohort: how many devices an attempt with dp distributed needs, and the share of the noise that each adds. */

import { IntegrityError, InputError } from "../errors.js";
import type { Json } from "../records/canonical.js";
import { Fields } from "../records/fields.js";

const LEAST_SHARE = 2n;
const MAX_COHORT = 2 ** 26;
/** Standard deviations of the whole noise that the modulus has room for. */
const TAIL = 64n;
const MAX_SUBCOHORTS = 1024;
const MAX_TOSSES = 1024;
/** Logarithm to base 2 of the probability, for each attempt, that masks don't protect against corrupt devices' places in the graph. */
export const FAILURE = -40;
/** Most attempts of a population with masks or sampled steps: delta is reserved for them. */
const MAX_ATTEMPTS = 2 ** 10;

export interface CohortTerms {
  readonly nMax: number;
  readonly nMin: number;
  readonly cMax: number;
  readonly masks: boolean;
  readonly directory: string | null;
  readonly maxTosses: number;
  /** Into how many sub-cohorts an attempt's devices are split. All of the above, and all of the noise, is of each. */
  readonly subcohorts: number;
}

/** The part of delta that so many attempts may use besides their noise: at least that of a population's most. */
export const reservedDelta = (attempts: number): number => Math.max(MAX_ATTEMPTS, attempts) * 2 ** FAILURE;

/** Number of noise shares that make up the charged noise. */
export const noiseSharesOf = ({ nMin, cMax }: CohortTerms): number => nMin - cMax;

export function readCohort(value: Json): CohortTerms {
  const fields = Fields.of("a cohort", value, ["n_max", "n_min", "c_max", "masks", "directory", "max_tosses"], ["subcohorts"]);
  const cohort = {
    nMax: fields.whole("n_max", 2, MAX_COHORT),
    nMin: fields.whole("n_min", 2),
    cMax: fields.whole("c_max", 1),
    masks: fields.flag("masks"),
    directory: fields.get("directory") === null ? null : fields.hash("directory"),
    maxTosses: fields.whole("max_tosses", 1, MAX_TOSSES),
    subcohorts: fields.has("subcohorts") ? fields.whole("subcohorts", 2, MAX_SUBCOHORTS) : 1,
  };
  if (!(cohort.cMax < cohort.nMin && cohort.nMin <= cohort.nMax)) throw new IntegrityError("c_max must be below n_min, and n_min at most n_max");
  if (cohort.masks !== (cohort.directory !== null)) throw new IntegrityError("a directory of identities is given with masks, and only then");
  return cohort;
}

/** Most devices in one sum that the server sees: of a sub-cohort under masks, of all of them without. */
export const mostOf = ({ nMax, masks, subcohorts }: CohortTerms): number => nMax * (masks ? 1 : subcohorts);

/** The whole square root, rounded down. */
export function isqrt(value: bigint): bigint {
  if (value < 2n) return value;
  let root = 1n << BigInt(Math.ceil(value.toString(2).length / 2));
  for (;;) {
    const next = (root + value / root) >> 1n;
    if (next >= root) return root;
    root = next;
  }
}

/** Standard deviation of one device's share, in whole steps: `shares` of them have at least variance sigma^2. */
export function shareSigma(sigma: number, shares: number): number {
  const variance = (BigInt(sigma) ** 2n + BigInt(shares) - 1n) / BigInt(shares);
  const share = isqrt(variance - 1n) + 1n;
  return Number(share > LEAST_SHARE ? share : LEAST_SHARE);
}

/** Bits of a coordinate of the sum: no cohort of at most `nMax` can wrap it, noise included. */
export function modulusBits(nMax: number, grid: number, share: number): number {
  const most = BigInt(nMax) * BigInt(grid) + TAIL * (isqrt(BigInt(nMax)) + 1n) * BigInt(share);
  const bits = most.toString(2).length + 1;
  if (bits > 62) throw new InputError(`a sum over ${nMax} devices must fit 62 bits, got ${bits}: use a coarser grid`);
  return bits;
}
