/**
 * Rounds: the part of a device that answers a server's plans.
 *
 *     consent -> limits -> Contributor (verify, floors, charge, train, clip) -> journal -> bytes, or the constant refusal
 *
 * Without consent nothing is read; before the charge is on the disk nothing is computed from behaviour; and before the journal has it
 * nothing is sent. Reasons of refusals are for the user alone.
 */

import type { History } from "../algorithms/history.js";
import { PalateError, RefusedError } from "../errors.js";
import { DeviceLedger } from "../ledger/device_ledger.js";
import type { Storage } from "../ledger/storage.js";
import { catalogueHash } from "../models/manifest.js";
import { randomBytes } from "../records/crypto.js";
import { SigningKey } from "../records/signing.js";
import type { MaskedDevice } from "../secagg/attempt.js";
import { Directory } from "../secagg/directory.js";
import { stepOf } from "../secagg/messages.js";
import type { Service } from "../service.js";
import { purposeOf } from "./admission.js";
import { Contributor, type Histories } from "./contribution.js";
import { readPlan, readSigned, type RoundPlan } from "./plan.js";
import type { Survey } from "./survey.js";
import { REFUSED } from "./wire.js";

export type Purpose = "train" | "analytics";

/** What is about to leave this device. */
export interface Leaving {
  /** "contribution", or the step of a masked attempt. */
  readonly what: string;
  readonly dp: string;
  readonly run: string;
  readonly round: number;
  readonly attempt: number;
  readonly bytes: number;
  /** Seconds since 1970. */
  readonly time: number;
}

/** What the app's device gives to its rounds. */
export interface RoundsOptions {
  /** Durable, and sealed: ledger, latches and identity are kept in it. */
  readonly storage: Storage;
  readonly service: Service;
  readonly clock: () => number;
  /** Whether the user agrees to a purpose now. */
  readonly consents: (purpose: Purpose) => boolean | Promise<boolean>;
  /** The catalogue of the model in use: its item ids in row order; null: there is no model yet. */
  readonly catalogue: () => Promise<readonly string[] | null>;
  /** The user's history over that catalogue. It is asked for after the charge. */
  readonly history: () => Promise<History>;
  /** The user's answers to a survey, by question. It is asked for after the charge. */
  readonly answers?: (survey: Survey) => Promise<ReadonlyMap<string, number>>;
  /** Records durably what is about to be sent; if it fails, nothing is. */
  readonly note: (leaving: Leaving) => Promise<void>;
  /** Records why something was refused, for the user. `what` is "plan" or "request". */
  readonly refused?: (what: "plan" | "request", reason: string) => Promise<void>;
}

const IDENTITY = "identity";

export class Rounds {
  readonly ledger: DeviceLedger;

  constructor(private readonly options: RoundsOptions) {
    const { storage, service, clock } = options;
    this.ledger = new DeviceLedger(storage, { limitMu2: service.limitMu2, participations: service.participations }, clock);
  }

  /** This installation's signing key for secure aggregation; made once. */
  async identity(): Promise<SigningKey> {
    const fresh = randomBytes(32);
    const secret = await this.options.storage.transaction([IDENTITY], (found) => {
      const kept = found.get(IDENTITY);
      return { write: kept ? new Map() : new Map([[IDENTITY, fresh]]), result: kept ?? fresh };
    });
    return SigningKey.fromSecret(secret);
  }

  /** The public half of that key; null: none was made yet. */
  async kept(): Promise<string | null> {
    const secret = await this.options.storage.get(IDENTITY);
    return secret ? (await SigningKey.fromSecret(secret)).publicKey : null;
  }

  /** Whether the user agrees to a purpose now. */
  async agreed(purpose: Purpose): Promise<boolean> {
    return this.options.consents(purpose);
  }

  /**
   * The hash of the model that a plan starts from, for whoever fetches it; null: the plan is refused. No model is fetched for a plan that the
   * user doesn't agree to, that doesn't verify, is below the floors, was answered before or would exceed a limit, or is of an algorithm that a
   * browser takes no part in; all of it is checked again once the model is there.
   */
  async wanted(plan: Uint8Array): Promise<string | null> {
    try {
      this.checkSize({ plan });
      const { plan: asked } = await readSigned(plan, this.options.service.publicKey);
      return await (await this.contributor(asked, 0)).wanted(plan);
    } catch (error) {
      await this.noteRefusal("plan", error);
      return null;
    }
  }

  /** A contribution's bytes, or the constant refusal. */
  async contribute(plan: Uint8Array, model: Uint8Array, number: number): Promise<Uint8Array> {
    try {
      const asked = this.read(plan, model);
      const answer = await (await this.contributor(asked, number)).contribute(plan, model);
      await this.checkConsent(asked); // it takes a while
      await this.note(asked, "contribution", answer);
      return answer;
    } catch (error) {
      await this.noteRefusal("plan", error);
      return REFUSED;
    }
  }

  /** Charges a masked attempt and gives this device's part in it; null if it refuses. */
  async join(plan: Uint8Array, model: Uint8Array, directory: Uint8Array, number: number): Promise<Masked | null> {
    try {
      const asked = this.read(plan, model);
      this.checkSize({ directory });
      const invited = Directory.read(directory, asked.cohort?.subcohorts);
      const machine = await (await this.contributor(asked, number)).join(plan, model, await this.identity(), invited);
      return new Masked(machine, purposeOf(asked), () => this.checkConsent(asked), (what, data) => this.note(asked, what, data), (error) => this.noteRefusal("request", error));
    } catch (error) {
      await this.noteRefusal("plan", error);
      return null;
    }
  }

  /** Records why something was refused. Where that fails, as on a full disk, the refusal is sent all the same: its lack would say something. */
  async noteRefusal(what: "plan" | "request", error: unknown): Promise<void> {
    const reason = error instanceof PalateError ? error.message : `an error of the device itself: ${String(error).slice(0, 200)}`;
    await this.options.refused?.(what, reason).catch(() => undefined);
  }

  private read(plan: Uint8Array, model: Uint8Array): RoundPlan {
    this.checkSize({ plan, model });
    return readPlan(plan).plan;
  }

  private checkSize(given: Readonly<Record<string, Uint8Array>>): void {
    const most = this.options.service.mostBytes;
    for (const [name, data] of Object.entries(given)) {
      if (data.length > most) throw new RefusedError(`a ${name} must be at most ${most} bytes, got ${data.length}`);
    }
  }

  /** The contributor for this user's history or their answers to a survey. */
  private async contributor(asked: RoundPlan, number: number): Promise<Contributor> {
    await this.checkConsent(asked);
    const { service, clock } = this.options;
    return new Contributor({ histories: await this.histories(asked), ledger: this.ledger, service, clock, number });
  }

  private async histories(asked: RoundPlan): Promise<Histories> {
    if (purposeOf(asked) === "analytics") {
      const { answersAsHistory, readSurvey } = await import("./seldom.js");
      const survey = readSurvey(asked.settings);
      const read = async (): Promise<History> => answersAsHistory(await this.answers(survey), survey);
      return { catalogue: catalogueHash(survey.questions), nItems: survey.questions.length, read };
    }
    const items = await this.options.catalogue();
    if (!items) throw new RefusedError("this device has no model yet, so that it doesn't know the catalogue");
    return { catalogue: catalogueHash(items), nItems: items.length, read: () => this.options.history() };
  }

  /** The answers; after an error none, because a missing answer would say something about the user. */
  private async answers(survey: Survey): Promise<ReadonlyMap<string, number>> {
    try {
      return (await this.options.answers?.(survey)) ?? new Map();
    } catch {
      return new Map();
    }
  }

  private async checkConsent(asked: RoundPlan): Promise<void> {
    const purpose = purposeOf(asked);
    if (!(await this.options.consents(purpose))) {
      throw new RefusedError(`the user has not agreed, or no longer agrees, to take part in ${purpose === "train" ? "training" : "surveys"}`);
    }
  }

  private async note(asked: RoundPlan, what: string, data: Uint8Array): Promise<void> {
    const { dp, run, round, attempt } = asked;
    await this.options.note({ what, dp, run, round, attempt, bytes: data.length, time: this.options.clock() });
  }
}

/** This device in one masked attempt. It is kept in memory only: a page that is loaded again has dropped out. */
export class Masked {
  constructor(
    private readonly machine: MaskedDevice,
    readonly purpose: Purpose,
    private readonly check: () => Promise<void>,
    private readonly note: (what: string, data: Uint8Array) => Promise<void>,
    private readonly refused: (error: unknown) => Promise<void>,
  ) {}

  /** The answer to one request of the attempt, or the constant refusal. */
  async answer(request: Uint8Array): Promise<Uint8Array> {
    try {
      await this.check();
      const step = stepOf(request);
      const answer = await this.machine.answer(step, request);
      await this.check(); // a vector takes a while
      await this.note(step, answer);
      return answer;
    } catch (error) {
      await this.refused(error);
      return REFUSED;
    }
  }
}

