/**
 * RoundPlan: the signed contract from which each attempt at a round starts.
 *
 * The server fixes everything in the plan, charges its ledger with the plan's hash, and signs plan, charge and checkpoint
 * together. A device verifies all of it before it computes.
 */

import { readFacts, type PublicFacts } from "../algorithms/facts.js";
import { InputError, IntegrityError } from "../errors.js";
import { chargedMu2, costsMore, SIGMA_FLOOR } from "../mechanism/accounting.js";
import { modulusBits, mostOf, readCohort, shareSigma, noiseSharesOf, type CohortTerms } from "../mechanism/cohort.js";
import { DUMMIES, layoutSize, type BlockSpec } from "../mechanism/update.js";
import { canonicalJson, digest, readCanonical, type Json } from "../records/canonical.js";
import { checkGrowth, lasting, readShown, SHOWN, spendShown, type Seen, type Shown } from "../records/consistency.js";
import { chargeEntry, type ChargeEntry } from "../records/entries.js";
import { Fields } from "../records/fields.js";
import { signerOf } from "../records/handovers.js";
import { verifyInclusion, type Checkpoint } from "../records/merkle.js";
import { Pinned } from "../records/pinned.js";
import { verify } from "../records/signing.js";

export const PLAN_TAG = "palate/plan/1";
/** Bytes of the largest signed plan that is read. */
export const MOST_PLAN = 2 ** 20;
const MAX_GRID = 2 ** 26;
const MAX_USERS = 2 ** 26;
const MAX_STEPS = 64;
const LEAST_INCLUSION = 1e-3;

export const MODES = ["distributed", "local", "central", "off"] as const;
export type DpMode = (typeof MODES)[number];

function readBlock(value: Json): BlockSpec {
  const fields = Fields.of("a block", value, ["name", "shape", "weight"]);
  const shape = fields.list("shape", 8);
  if (!shape.every((each) => typeof each === "number" && Number.isSafeInteger(each) && each >= 1)) {
    throw new IntegrityError("`shape` of a block must be whole numbers from 1");
  }
  return { name: fields.text("name", 1), shape: shape as readonly number[], weight: fields.real("weight", Number.MIN_VALUE, 1) };
}

const REQUIRED = [
  ...["version", "population", "run", "round", "attempt", "model_hash", "algorithm", "settings", "facts", "layout"],
  ...["clip_norm", "grid", "sigma", "dp", "noise", "cohort_floor", "cohort", "mu2", "expires"],
];

/** What one attempt at one round asks of a device, and what it costs. */
export class RoundPlan {
  readonly population: string;
  readonly run: string;
  readonly round: number;
  readonly attempt: number;
  readonly modelHash: string;
  readonly algorithm: string;
  readonly settings: { readonly [key: string]: Json };
  readonly facts: PublicFacts;
  readonly layout: readonly BlockSpec[];
  readonly clipNorm: number;
  readonly grid: number;
  readonly sigma: number;
  readonly dp: DpMode;
  readonly noise: "secure" | "seeded";
  readonly cohortFloor: number;
  readonly perNode: number;
  readonly cohort: CohortTerms | null;
  /** Whether the unit is one event, with steps of its own: this package takes no part in such rounds. */
  readonly events: boolean;
  readonly mu2: number;
  readonly expires: number;
  /** SHA-256 of the canonical plan: what the ledger is charged with. */
  readonly hash: string;

  constructor(readonly value: Json) {
    const fields = Fields.of("a plan", value, REQUIRED, ["per_node", "events"]);
    if (fields.get("version") !== 1) throw new IntegrityError("a plan must be of version 1, got another: device and server must be of one");
    this.population = fields.text("population");
    this.run = fields.text("run", 1);
    this.round = fields.whole("round", 0, 2 ** 31 - 1);
    this.attempt = fields.whole("attempt", 0, 2 ** 31 - 1);
    this.modelHash = fields.text("model_hash");
    this.algorithm = fields.text("algorithm");
    this.settings = fields.object("settings");
    this.facts = readFacts(fields.get("facts"));
    this.layout = fields.list("layout", 64).map(readBlock);
    this.clipNorm = fields.real("clip_norm", 1e-6, 1e6);
    this.grid = fields.whole("grid", 1, MAX_GRID);
    this.sigma = fields.whole("sigma");
    this.dp = fields.word("dp", MODES);
    this.noise = fields.word("noise", ["secure", "seeded"]);
    this.cohortFloor = fields.whole("cohort_floor", 1);
    this.perNode = fields.has("per_node") ? fields.whole("per_node", 2, MAX_USERS) : 1;
    this.cohort = fields.get("cohort") === null ? null : readCohort(fields.get("cohort"));
    this.events = fields.has("events");
    this.mu2 = fields.real("mu2", 0);
    this.expires = fields.whole("expires", Number.MIN_SAFE_INTEGER);
    this.hash = digest(canonicalJson(value));
    const names = new Set(this.layout.map(({ name }) => name));
    if (!names.size || names.size < this.layout.length) throw new IntegrityError("a layout has at least one block, and each has a name of its own");
    if ((this.dp === "distributed") !== (this.cohort !== null)) throw new IntegrityError("a cohort is given with dp distributed, and only then");
    if (this.cohort && this.cohort.nMin < this.cohortFloor) {
      throw new IntegrityError(`\`cohort_floor\` must be at most n_min of the cohort, ${this.cohort.nMin}, got ${this.cohortFloor}`);
    }
    if (this.events) {
      if (this.dp !== "local") throw new IntegrityError("the unit may be one event with dp local only");
      const events = Fields.of("the events", fields.get("events"), ["inclusion", "steps"]);
      events.real("inclusion", LEAST_INCLUSION, 1);
      events.whole("steps", 1, MAX_STEPS);
    }
  }

  get private(): boolean {
    return this.dp !== "off";
  }

  /** Whether each device adds noise before anything leaves it. */
  get noisedByDevices(): boolean {
    return this.dp === "distributed" || this.dp === "local";
  }

  /** Standard deviation of the noise that this device adds, in steps; 0 where it adds none. */
  get shareSigma(): number {
    if (this.cohort) return shareSigma(this.sigma, noiseSharesOf(this.cohort));
    return this.dp === "local" ? this.sigma : 0;
  }

  /** What this attempt costs as mu^2 if all others collude: only this device's own noise counts. */
  get mu2Alone(): number {
    if (this.dp === "local") return this.mu2;
    const share = this.shareSigma;
    return share >= SIGMA_FLOOR ? chargedMu2(this.grid, share) : Infinity;
  }

  /** Bits in which no coordinate of a noised sum over `users` devices, or over the cohort, can wrap. */
  bits(users: number): number {
    return modulusBits(this.cohort ? mostOf(this.cohort) : users, this.grid, this.shareSigma);
  }

  /** Bytes of this installation's numbers on the wire. */
  get vectorBytes(): number {
    const size = layoutSize(this.layout);
    if (!this.noisedByDevices) return size * (this.grid < 2 ** 31 ? 4 : 8);
    const bits = this.bits(1);
    return this.cohort?.masks ? Math.ceil(((size + DUMMIES) * bits) / 8) : (size + DUMMIES) * (bits <= 32 ? 4 : 8);
  }
}

/** Proof that the ledger was charged for the plan before it was signed, in a state of the ledger that it shows. */
export interface ChargeProof extends Shown {
  readonly entry: ChargeEntry;
  readonly inclusion: readonly string[];
}

function readCharge(value: Json): ChargeProof {
  const fields = Fields.of("a charge", value, [...SHOWN.required, "entry", "inclusion"], SHOWN.optional);
  return { ...readShown(fields), entry: chargeEntry(fields.get("entry")), inclusion: fields.texts("inclusion", 64) };
}

/** A plan, its charge, and the release key's signature over both. */
export interface SignedPlan {
  readonly plan: RoundPlan;
  readonly charge: ChargeProof | null;
  readonly signature: string;
  /** What is signed. */
  readonly payload: Uint8Array;
}

/** Parses a plan without verifying it: it may only decide a refusal, or what to fetch. */
export function readPlan(data: Uint8Array): SignedPlan {
  const fields = Fields.of("a signed plan", readCanonical(data, MOST_PLAN), ["plan", "charge", "signature"]);
  const [plan, charge] = [fields.get("plan"), fields.get("charge")];
  return {
    plan: new RoundPlan(plan),
    charge: charge === null ? null : readCharge(charge),
    signature: fields.text("signature"),
    payload: canonicalJson({ plan, charge }),
  };
}

/** The release key that must have signed a plan: the pinned one, or the one to which the plan's handovers lead. */
export function signer({ plan, charge }: SignedPlan, publicKey: string): Promise<string> {
  return signerOf(publicKey, plan.population, charge?.handovers ?? []);
}

/** What a device asks of a plan beside its signature. */
export interface Verification {
  /** The release key pinned on the device. */
  readonly publicKey: string;
  /** The last state of a population's ledger that the device saw. */
  readonly seen: (population: string) => Promise<Seen>;
  /** The device's own floors: throws. It runs before the cost is computed. */
  readonly accept: (plan: RoundPlan) => void;
  /** The witnesses that the app pins; null: none. */
  readonly pinned: Pinned | null;
}

/** Reads a plan, and verifies its signature alone: it may decide what to fetch before it is opened. */
export async function readSigned(data: Uint8Array, publicKey: string): Promise<SignedPlan> {
  const signed = readPlan(data);
  await verify(await signer(signed, publicKey), PLAN_TAG, signed.payload, signed.signature);
  return signed;
}

class Verified {
  declare private readonly made: "by openPlan";
  constructor(
    readonly signed: SignedPlan,
    readonly data: Uint8Array,
    readonly pinned: Pinned,
  ) {}
}
/** A plan that meets this device's floors and whose charge is in a ledger that only grew. Nothing but `openPlan` makes one. */
export type VerifiedPlan = Verified;

class Kept {
  declare private readonly made: "by keepState";
  constructor(readonly plan: RoundPlan) {}
}
/** A plan whose state of the ledger is on this device's disk: only such a plan is charged. Nothing but `keepState` makes one. */
export type KeptPlan = Kept;

/** Verifies a plan as a device does: signature, floors, cost, charge, witnesses, and that the ledger only ever grew. */
export async function openPlan(data: Uint8Array, { publicKey, seen, accept, pinned }: Verification): Promise<VerifiedPlan> {
  const signed = await readSigned(data, publicKey);
  const { plan, charge } = signed;
  accept(plan);
  verifyCost(plan);
  if (plan.private !== (charge !== null)) throw new IntegrityError(`a plan with dp ${plan.dp} must ${plan.private ? "" : "not "}carry a charge`);
  const trusted = pinned ?? new Pinned(plan.population, publicKey);
  if (charge) {
    verifyCharge(plan, charge);
    await checkGrowth("plan", charge, await seen(plan.population), spendShown(data), trusted);
  }
  return new Verified(signed, data, trusted);
}

/** What a device has seen of ledgers, as `DeviceLedger` keeps it. */
interface States {
  see(population: string, checkpoint: Checkpoint, shows: (seen: Seen) => Promise<Uint8Array>): Promise<void>;
}

/** Writes to the disk which state of the ledger a plan shows, with the evidence for it; what was seen meanwhile must be extended, too. */
export async function keepState({ signed: { plan, charge }, data, pinned }: VerifiedPlan, states: States): Promise<KeptPlan> {
  if (charge) {
    await states.see(plan.population, charge.checkpoint, async (seen) => {
      await checkGrowth("plan", charge, seen, spendShown(data), pinned);
      return lasting("plan", charge, data, seen);
    });
  }
  return new Kept(plan);
}

/** Computes the cost from grid and noise: a device must not trust the plan's number. */
function verifyCost(plan: RoundPlan): void {
  if (plan.private !== plan.sigma > 0 || (!plan.private && plan.mu2 > 0)) {
    throw new IntegrityError(`a plan with dp ${plan.dp} must have noise and a cost with privacy, and only then`);
  }
  if (plan.events) throw new InputError("this device can't count the cost of steps for single events, and takes no part in them");
  if (plan.private && costsMore(plan.grid, plan.sigma, plan.mu2)) {
    throw new IntegrityError(`\`mu2\` of a plan must be at least what its noise costs, got ${plan.mu2}`);
  }
}

/** Checks that the charge is for this very plan, and is in the log. */
function verifyCharge(plan: RoundPlan, { entry, inclusion, checkpoint }: ChargeProof): void {
  const wrong = (
    [
      ["run", entry.run === plan.run],
      ["round", entry.round === plan.round],
      ["attempt", entry.attempt === plan.attempt],
      ["plan_hash", entry.planHash === plan.hash],
      ["mu2", entry.mu2 === plan.mu2],
    ] as const
  ).find(([, fits]) => !fits);
  if (wrong) throw new IntegrityError(`the charged plan must be this plan, but \`${wrong[0]}\` differs`);
  verifyInclusion(entry.leaf, entry.seq, checkpoint, inclusion);
}
