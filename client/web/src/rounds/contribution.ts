/**
 * Contribution: this device takes part in one round.
 *
 *     signed plan + model -> verify, the device's floors first -> its own ledger -> blocks -> clipped -> noised -> bytes
 *
 * A plan is verified and charged before anything is computed from behaviour, and only the clipped, noised numbers are ever returned.
 */

import { contributionOf } from "../algorithms/algorithm.js";
import { type History } from "../algorithms/history.js";
import { InputError, IntegrityError, RefusedError } from "../errors.js";
import type { ChargedPlan, DeviceLedger } from "../ledger/device_ledger.js";
import { clip } from "../mechanism/clipping.js";
import { addShare, inTheClear, shareSource } from "../mechanism/shares.js";
import { DUMMIES, layoutSize, type Block, type Clipped } from "../mechanism/update.js";
import { namedBy, readNamedModel } from "../models/model.js";
import type { SigningKey } from "../records/signing.js";
import { MaskedDevice } from "../secagg/attempt.js";
import type { Directory } from "../secagg/directory.js";
import { attemptTerms } from "../secagg/masked_attempt.js";
import type { Service } from "../service.js";
import { checkFloors, purposeOf } from "./admission.js";
import { keepState, openPlan, signer, type RoundPlan, type VerifiedPlan } from "./plan.js";
import { encode } from "./wire.js";
import { Fields } from "../records/fields.js";

/** What a contribution is computed from: read only after a plan was verified and charged. */
export interface Histories {
  /** Hash of the catalogue's item ids, and how many there are. */
  readonly catalogue: string;
  readonly nItems: number;
  read(): Promise<History>;
}

export interface ContributorOptions {
  readonly histories: Histories;
  readonly ledger: DeviceLedger;
  readonly service: Service;
  /** Seconds since 1970. */
  readonly clock: () => number;
  /** This installation's number, for noise from a seed. */
  readonly number: number;
}

export class Contributor {
  constructor(private readonly options: ContributorOptions) {}

  /** Takes part in one attempt without masks: a contribution in wire format. An attempt is answered at most once. */
  async contribute(planBytes: Uint8Array, modelBytes: Uint8Array): Promise<Uint8Array> {
    const [verified, compute] = await this.verified(planBytes, modelBytes);
    const { plan } = verified.signed;
    if (plan.cohort?.masks) throw new RefusedError("a plan with masks must be answered under masks");
    const charged = await this.charged(verified);
    const noised = plan.noisedByDevices;
    const header = {
      run: plan.run,
      round: plan.round,
      attempt: plan.attempt,
      planHash: plan.hash,
      users: 1,
      rejected: 0,
      size: layoutSize(plan.layout) + (noised ? DUMMIES : 0),
    };
    const clear = await inTheClear(await this.clipped(plan, compute), charged, await shareSource(plan, this.options.number));
    return encode(header, clear, (noised ? plan.bits(1) <= 32 : plan.grid < 2 ** 31) ? 4 : 8);
  }

  /** Takes part in one masked attempt: the device's state machine for its messages. It is charged before anybody has it. */
  async join(planBytes: Uint8Array, modelBytes: Uint8Array, identity: SigningKey, directory: Directory): Promise<MaskedDevice> {
    const [verified, compute] = await this.verified(planBytes, modelBytes);
    const { plan, charge } = verified.signed;
    const device = this.options.number;
    const machine = new MaskedDevice({
      terms: attemptTerms(plan, charge?.checkpoint),
      id: device,
      identity,
      directory,
      serverKey: await signer(verified.signed, this.options.service.publicKey),
      vector: async () => addShare(await this.clipped(plan, compute), charged, await shareSource(plan, device)),
      latch: (step, digest) => this.options.ledger.latch(plan, step, digest),
    });
    const charged = await this.charged(verified); // the vector is asked for after it: what doesn't fit isn't charged
    return machine;
  }

  /** The hash of a plan's model, once all is checked of the plan that needs no model. Nothing is charged. */
  async wanted(planBytes: Uint8Array): Promise<string> {
    const { plan } = (await this.opened(planBytes)).signed;
    await contributionOf(plan);
    await this.options.ledger.affords(plan);
    return plan.modelHash;
  }

  /** The plan, checked against the floors and what this device has seen of the ledger. */
  private opened(planBytes: Uint8Array): Promise<VerifiedPlan> {
    const { service, ledger, clock } = this.options;
    const now = clock();
    return openPlan(planBytes, {
      publicKey: service.publicKey,
      seen: (population) => ledger.seen(population),
      accept: (plan) => checkFloors(plan, service.floors, now),
      pinned: service.pinned,
    });
  }

  /** The plan, checked, and what is sent for a history by its model. */
  private async verified(planBytes: Uint8Array, modelBytes: Uint8Array): Promise<[VerifiedPlan, (history: History) => Block[]]> {
    const { histories } = this.options;
    const verified = await this.opened(planBytes);
    const { plan } = verified.signed;
    const model = readNamedModel(modelBytes, plan.modelHash);
    const named = Fields.of("a plan", plan.value, [], [], true);
    if (model.header.named !== namedBy(named.get("algorithm"), named.get("settings"), named.get("facts"))) {
      throw new IntegrityError("the model must have the algorithm, settings and facts that the plan names");
    }
    const contribution = await contributionOf(plan);
    if (model.header.catalogue !== histories.catalogue) throw new RefusedError("the catalogue must be the one this device has its items from, got another");
    if (plan.facts.nItems !== histories.nItems) throw new RefusedError(`the catalogue must have ${histories.nItems} items, got ${plan.facts.nItems}`);
    return [verified, (history) => contribution(model, plan.round, history)];
  }

  /** Remembers the state of the ledger that the plan shows, then charges it. */
  private async charged(verified: VerifiedPlan): Promise<ChargedPlan> {
    const kept = await keepState(verified, this.options.ledger);
    return this.options.ledger.charge(kept, purposeOf(kept.plan));
  }

  /** Reads, trains and clips. If any of it fails for the user, they count as one without events: a failure would leak. */
  private async clipped(plan: RoundPlan, compute: (history: History) => Block[]): Promise<Clipped> {
    const { nItems } = plan.facts;
    const trained = (own: History): Clipped => clip(compute(own), plan.layout, plan.clipNorm, plan.grid);
    try {
      const history = await this.options.histories.read();
      if (history.nItems !== nItems) throw new InputError(`the history must be of ${nItems} items, got ${history.nItems}`);
      return trained(history);
    } catch {
      // If it fails even without events, the failure doesn't depend on behaviour.
      return trained({ indices: new Int32Array(), weights: new Float32Array(), nItems });
    }
  }
}

