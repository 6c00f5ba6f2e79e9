/**
 * The device's ledger: attempts it took part in, what they cost, and the last state of the population's ledger that it has seen.
 *
 * A charge is on the disk before the device computes anything for a plan, so that no server can make it take part more often, or at
 * a higher cost, than its user agreed to. Costs are mu^2 under zero-out adjacency of one installation.
 */

import { BudgetError, IntegrityError, RefusedError } from "../errors.js";
import { totalMu2 } from "../mechanism/accounting.js";
import { concat, fromHex, hex, same } from "../records/bytes.js";
import { canonicalJson, Float, readCanonical, type Json } from "../records/canonical.js";
import { readCheckpoint, type Seen } from "../records/consistency.js";
import { Fields } from "../records/fields.js";
import { sameCheckpoint, type Checkpoint } from "../records/merkle.js";
import type { KeptPlan, RoundPlan } from "../rounds/plan.js";
import type { Storage } from "./storage.js";

const CHARGES = "ledger/charges";
const MOST = 2 ** 24;
/** mu^2 above which there is no guarantee: the accountant counts up to mu = 10^4. */
const MOST_MU2 = 0.99e8;

/** The assumptions of one round's cost. */
export interface Trust {
  /** How many of the cohort's devices may be corrupt, and its largest size; null if the noise isn't shared. */
  readonly corrupt: number | null;
  readonly cohort: number | null;
  /** The cost if all other devices are corrupt, as mu^2; null: it isn't bounded. */
  readonly aloneMu2: number | null;
}

export function trustOf(plan: RoundPlan): Trust {
  const alone = plan.mu2Alone;
  return { corrupt: plan.cohort?.cMax ?? null, cohort: plan.cohort?.nMax ?? null, aloneMu2: alone < Infinity ? alone : null };
}

/** The assumption in words; empty if there is none. */
function said({ corrupt, cohort, aloneMu2 }: Trust): string {
  if (cohort !== null) return `at most ${corrupt} of the ${cohort} devices of a cohort are the operator's`;
  return aloneMu2 === null ? "the server, which saw what was sent, added its noise" : "";
}

/** All assumptions of the total cost of several rounds; of several cohorts, that with the smallest corrupt share. */
export function conditions(trusts: readonly Trust[]): readonly string[] {
  const shared = trusts.filter(({ cohort }) => cohort !== null);
  const found = trusts.filter(({ cohort }) => cohort === null).map(said);
  if (shared.length) {
    const share = ({ corrupt, cohort }: Trust): number => (corrupt ?? 0) / (cohort ?? 1);
    const least = shared.reduce((one, other) => (share(other) < share(one) ? other : one));
    const several = new Set(shared.map(({ corrupt, cohort }) => `${corrupt}/${cohort}`)).size > 1;
    found.unshift(`${several ? "in each round no more than it allows for, " : ""}${said(least)}`);
  }
  return [...new Set(found.filter(Boolean))];
}

/** mu^2 of each round if all others are corrupt; null if one of them, or the sum, isn't bounded. */
export function worstCaseCosts(trusts: readonly Trust[]): readonly number[] | null {
  const costs = trusts.map(({ aloneMu2 }) => aloneMu2 ?? Infinity);
  return costs.reduce((sum, each) => sum + each, 0) < MOST_MU2 ? costs : null;
}

/** One participation in an attempt. */
export interface Receipt {
  readonly run: string;
  readonly round: number;
  readonly attempt: number;
  readonly planHash: string;
  readonly mu2: number;
  readonly bytes: number;
  /** Seconds since 1970. */
  readonly time: number;
  readonly trust: Trust;
  readonly purpose: "train" | "analytics";
}

const maybe = (value: number | null): Json => (value === null ? null : new Float(value));

function written(receipts: readonly Receipt[]): Uint8Array {
  return canonicalJson(
    receipts.map(({ planHash, mu2, time, trust, ...rest }) => ({
      ...rest,
      plan_hash: planHash,
      mu2: new Float(mu2),
      time: new Float(time),
      trust: { corrupt: trust.corrupt, cohort: trust.cohort, alone_mu2: maybe(trust.aloneMu2) },
    })),
  );
}

function read(data: Uint8Array | undefined): Receipt[] {
  if (!data) return [];
  const all = readCanonical(data, MOST);
  if (!Array.isArray(all)) throw new IntegrityError("the device's ledger must be a list of charges, got something else");
  return (all as Json[]).map((value) => {
    const fields = Fields.of("a charge", value, ["run", "round", "attempt", "plan_hash", "mu2", "bytes", "time", "trust", "purpose"]);
    const trust = Fields.of("trust", fields.get("trust"), ["corrupt", "cohort", "alone_mu2"]);
    const whole = (name: string): number | null => (trust.get(name) === null ? null : trust.whole(name));
    return {
      run: fields.text("run"),
      round: fields.whole("round"),
      attempt: fields.whole("attempt"),
      planHash: fields.text("plan_hash"),
      mu2: fields.real("mu2", 0),
      bytes: fields.whole("bytes"),
      time: fields.real("time"),
      trust: { corrupt: whole("corrupt"), cohort: whole("cohort"), aloneMu2: trust.get("alone_mu2") === null ? null : trust.real("alone_mu2") },
      purpose: fields.word("purpose", ["train", "analytics"] as const),
    };
  });
}

class Charged {
  declare private readonly made: "by DeviceLedger.charge";
  constructor(readonly plan: RoundPlan) {}
}
/** A plan that is charged, on this device's disk: only for such a plan noise is drawn. Nothing but `DeviceLedger.charge` makes one. */
export type ChargedPlan = Charged;

/** The participations of one installation. Whatever number a server gives it, the same device is charged. */
export class DeviceLedger {
  constructor(
    private readonly storage: Storage,
    private readonly limits: { readonly limitMu2: number; readonly participations: number },
    private readonly clock: () => number,
  ) {}

  /** Records, before it computes, that the device takes part in an attempt. What would exceed a limit isn't charged. */
  async charge({ plan }: KeptPlan, purpose: "train" | "analytics"): Promise<ChargedPlan> {
    const { run, round, attempt, mu2 } = plan;
    const receipt: Receipt = { run, round, attempt, planHash: plan.hash, mu2, bytes: plan.vectorBytes, time: this.clock(), trust: trustOf(plan), purpose };
    await this.storage.transaction([CHARGES], (found) => {
      const before = read(found.get(CHARGES));
      this.check(before, plan);
      return { write: new Map([[CHARGES, written([...before, receipt])]]), result: undefined };
    });
    return new Charged(plan);
  }

  /** Refuses a plan that could not be charged now, as `charge` would; nothing is written. */
  async affords(plan: RoundPlan): Promise<void> {
    this.check(await this.receipts(), plan);
  }

  private check(before: readonly Receipt[], { run, round, attempt, mu2 }: RoundPlan): void {
    const reached = before.filter((each) => each.run === run && (each.round > round || (each.round === round && each.attempt >= attempt)));
    if (reached.length) throw new RefusedError(`(round, attempt) must be above every earlier one of run ${run}, got (${round}, ${attempt}) again`);
    const spent = totalMu2([...before.map((each) => each.mu2), mu2]);
    if (before.length >= this.limits.participations || !(spent <= this.limits.limitMu2)) {
      throw new BudgetError("this installation has reached a limit of its own");
    }
  }

  /** Fixes the message at a step of a masked attempt; another one can never be sent there. */
  async latch(plan: RoundPlan, step: string, digest: string): Promise<void> {
    const name = `ledger/latch/${JSON.stringify([plan.run, plan.round, plan.attempt, step])}`;
    const held = await this.storage.transaction([name], (found) => {
      const before = found.get(name);
      return before ? { write: new Map(), result: hex(before) } : { write: new Map([[name, fromHex(digest, 32)]]), result: digest };
    });
    if (held !== digest) throw new RefusedError(`the step ${step} of this attempt was answered to another request`);
  }

  /** The participations, oldest first. */
  async receipts(): Promise<readonly Receipt[]> {
    return read(await this.storage.get(CHARGES));
  }

  /** The mu^2 of all participations, rounded up. */
  async spent(): Promise<number> {
    return totalMu2((await this.receipts()).map(({ mu2 }) => mu2));
  }

  /** Whether the user's limits are reached, so that this device may not take part any more. */
  async atLimit(): Promise<boolean> {
    const receipts = await this.receipts();
    return receipts.length >= this.limits.participations || totalMu2(receipts.map(({ mu2 }) => mu2)) >= this.limits.limitMu2;
  }

  /** The last state of a population's ledger that this device has seen, and the signed bytes that have shown it. */
  async seen(population: string): Promise<Seen> {
    return seenIn(await this.storage.get(nameOf(population)));
  }

  /**
   * Stores a later state of a population's ledger. Of two at once that don't extend each other one is refused: what comes in between is
   * verified against, too.
   *
   * @param shows - verifies the state's signature and proofs against what was seen before, and gives the signed bytes that are kept; null:
   * the state is no later one, and nothing is stored.
   */
  async see(population: string, checkpoint: Checkpoint, shows: (seen: Seen) => Promise<Uint8Array | null>): Promise<void> {
    const [name, head] = [nameOf(population), canonicalJson({ size: checkpoint.size, root: checkpoint.root })];
    for (let stored = false; !stored; ) {
      const before = await this.storage.get(name);
      const seen = seenIn(before);
      const evidence = await shows(seen);
      if (!evidence || (seen.checkpoint && sameCheckpoint(seen.checkpoint, checkpoint))) return;
      if (seen.checkpoint && checkpoint.size <= seen.checkpoint.size) {
        throw new RefusedError(`the ledger of ${population} must extend size ${seen.checkpoint.size}, got size ${checkpoint.size}: ${checkpoint.size < seen.checkpoint.size ? "rolled back" : "forked"}`);
      }
      const data = concat(new Uint8Array(4), head, evidence);
      new DataView(data.buffer).setUint32(0, head.length);
      stored = await this.storage.transaction([name], (found) => {
        const unchanged = same(found.get(name) ?? NOTHING, before ?? NOTHING);
        return { write: new Map(unchanged ? [[name, data]] : []), result: unchanged };
      });
    }
  }
}

const NOTHING = new Uint8Array();
const nameOf = (population: string): string => `ledger/seen/${population}`;

function seenIn(data: Uint8Array | undefined): Seen {
  if (!data) return { checkpoint: null, evidence: null };
  const length = new DataView(data.buffer, data.byteOffset).getUint32(0);
  return { checkpoint: readCheckpoint(readCanonical(data.subarray(4, 4 + length), MOST)), evidence: data.slice(4 + length) };
}
