/**
 * Sync: a device is online for a bounded time.
 *
 *     consent -> policy -> newest model -> (message -> answer)* -> leave
 *
 * Every error becomes a `SyncResult`. It doesn't use the network without the user's consent to `train` or `analytics`, except to
 * download the newest model if the app asks for that. Which of the two a plan needs is checked when it arrives.
 */

import { IntegrityError, LockedError, RefusedError, UnreachableError } from "../errors.js";
import type { Storage } from "../ledger/storage.js";
import { digest } from "../records/canonical.js";
import { purposeOf } from "../rounds/admission.js";
import type { Masked, Purpose, Rounds } from "../rounds/participation.js";
import { readPlan } from "../rounds/plan.js";
import { REFUSED } from "../rounds/wire.js";
import { stepOf } from "../secagg/messages.js";
import type { Service } from "../service.js";
import * as downloads from "./downloads.js";
import { askedToDelete, enrolmentOf, type Enrolment } from "./enrolment.js";
import { Exchanges, LEAVE_SECONDS, SURVEYS, TRAINING, type Availability, type Reply, type ServerMessage } from "./exchange.js";
import { Https, RejectedError, StoppedError } from "./https.js";

const [FIRST_BACKOFF, LONGEST_BACKOFF] = [1, 30];
const GIVE_UP_SECONDS = 120;
/** Seconds after the end of its time in which a device still finishes the attempt that it is in. */
const GRACE_SECONDS = 60;

export type Ended = "come back" | "model" | "time" | "stopped" | "policy" | "no consent" | "spent" | "not enrolled" | "busy" | "unreachable" | "rejected" | "failed";

/** Why a sync ends. `quiet`: the device must not even sign off. */
interface SyncEnd {
  readonly ended: Ended;
  readonly reason: string;
  /** Seconds after which the server wants the device to sync again; null: it didn't say. */
  readonly next: number | null;
  readonly quiet: boolean;
}

const end = (ended: Ended, reason = "", next: number | null = null, quiet = false): SyncEnd => ({ ended, reason, next, quiet });
const WITHDRAWN = end("no consent", "the user no longer agrees to what an answer is for");
const LEFT = end("not enrolled", "this device has asked its server to delete it, and takes part in nothing more", null, true);

export interface SyncResult {
  readonly ended: Ended;
  readonly reason: string;
  readonly next: number | null;
  /** Whether a newer model was taken into use. */
  readonly model: boolean;
  /** Attempts that the device took part in to their end, those that it was charged for and left before, and messages that it refused. */
  readonly rounds: number;
  readonly dropped: number;
  readonly refused: number;
  readonly requests: number;
  /** Messages that were answered. */
  readonly exchanges: number;
  readonly sent: number;
  readonly received: number;
  readonly seconds: number;
}

/** Reads a file of the newest model, at most so many bytes; null: there is none. */
export type ModelSource = (name: string, most: number) => Promise<Uint8Array | null>;

export interface SyncOptions {
  readonly storage: Storage;
  readonly service: Service;
  readonly rounds: Rounds;
  /** Its longest duration. */
  readonly seconds: number;
  /** The shortest time between two requests for messages; 1 if left out. */
  readonly pollSeconds?: number;
  readonly signal?: AbortSignal;
  /** The first condition of the app that doesn't hold, in words; empty: all hold. Without power or off a free network, say. */
  readonly policy?: () => string | Promise<string>;
  /** SHA-256 of the manifest of the model in use; null: there is none. */
  readonly modelInUse: () => Promise<string | null>;
  /** Verifies a model and takes it into use; whether it did. An error means that the present one stays. */
  readonly takeModel: (manifest: string, source: ModelSource) => Promise<boolean>;
  /** Take the newest model into use, and no part in rounds. `origin`: of a server, where the device isn't enrolled. */
  readonly modelsOnly?: boolean;
  readonly origin?: string;
}

const monotonic = (): number => performance.now() / 1000;

/** An answer, and what follows from it. */
interface Made {
  /** Kind and SHA-256 of the message: an equal one asks for the same bytes. */
  readonly asked: string;
  readonly bytes: Uint8Array;
  readonly purpose: Purpose | null;
  /** Whether the device is in an attempt that it hasn't finished, and whether this is the last answer of it. */
  readonly underWay: boolean;
  readonly last: boolean;
}

/** Runs one sync; it raises no error. */
export async function sync(options: SyncOptions): Promise<SyncResult> {
  const session = new Session(options);
  const began = monotonic();
  const over = await runToEnd(() => session.run());
  return { ...session.counts(), ended: over.ended, reason: over.reason, next: over.next, seconds: monotonic() - began };
}

async function runToEnd(work: () => Promise<SyncEnd>): Promise<SyncEnd> {
  try {
    return await work();
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    if (error instanceof StoppedError) return end("stopped");
    if (error instanceof RejectedError) return end("rejected", reason, null, true); // whoever is online now, it isn't this device
    return end(error instanceof LockedError ? "busy" : "failed", reason);
  }
}

class Session {
  private readonly until: number;
  /** When the device takes no more plans. */
  private readonly last: number;
  private readonly poll: number;
  private https: Https | null = null;
  private exchanges: Exchanges | null = null;
  private model = false;
  private begun = 0;
  private rounds = 0;
  /** Whether the device is in an attempt that it hasn't finished. */
  private underWay = false;
  /** Seconds that a device must have left to take the present plan. */
  private needs = 0;
  private refused = 0;
  private machine: Masked | null = null;
  private plan = new Uint8Array();
  private purpose: Purpose | null = null;
  /** The latest round's model and its hash, kept for another attempt at the round. */
  private kept: { readonly name: string; readonly data: Uint8Array } | null = null;

  constructor(private readonly options: SyncOptions) {
    this.until = monotonic() + options.seconds;
    this.last = this.until - Math.min(LEAVE_SECONDS, options.seconds / 4);
    this.poll = options.pollSeconds ?? 1;
  }

  /** When the device starts to sign off: an attempt that has begun is finished first. */
  private get end(): number {
    return this.last + this.grace();
  }

  private grace(): number {
    return this.underWay ? GRACE_SECONDS : 0;
  }

  /** Seconds for which it still takes plans. */
  private stays(): number {
    return Math.max(0, this.last - monotonic());
  }

  /** For how long this device takes plans now, and for what: the server draws it for nothing else. */
  private async availability(): Promise<Availability> {
    const { rounds } = this.options;
    const [train, analytics] = [await rounds.agreed("train"), await rounds.agreed("analytics")];
    return { stays: this.stays(), takes: (train ? TRAINING : 0) + (analytics ? SURVEYS : 0) };
  }

  counts(): Pick<SyncResult, "model" | "rounds" | "dropped" | "refused" | "requests" | "exchanges" | "sent" | "received"> {
    const { requests = 0, sent = 0, received = 0 } = this.https ?? {};
    return { model: this.model, rounds: this.rounds, dropped: this.begun - this.rounds, refused: this.refused, requests, exchanges: this.exchanges?.answered ?? 0, sent, received };
  }

  async run(): Promise<SyncEnd> {
    const over = await this.over();
    if (over) return over;
    const enrolment = await enrolmentOf(this.options.storage);
    const { service, modelsOnly, origin, signal } = this.options;
    if (modelsOnly && (origin ?? enrolment)) {
      this.https = new Https(origin ?? (enrolment as Enrolment).origin, signal, () => 1000 * (this.until + this.grace()));
      const without = await this.updateModel(this.https);
      return typeof without === "string" ? end("model", without) : without;
    }
    if (!enrolment) return end("not enrolled", "this device must be enrolled first");
    if (![service.beganWith, service.publicKey].includes(enrolment.publicKey) || enrolment.population !== service.population) {
      return end("not enrolled", "this device must be enrolled with its app's service, and is with another");
    }
    return this.online(enrolment);
  }

  /** Connects, answers rounds and signs off; why it ended. */
  private async online({ origin, device, population }: Enrolment): Promise<SyncEnd> {
    const { rounds, service, signal } = this.options;
    const https = new Https(origin, signal, () => 1000 * (this.until + this.grace()));
    const exchanges = new Exchanges(https, device, population, await rounds.identity(), service.mostBytes, () => this.availability());
    [this.https, this.exchanges] = [https, exchanges];
    const over = await runToEnd(() => this.answerRounds(https, exchanges, device));
    if (!over.quiet) {
      https.farewell(LEAVE_SECONDS);
      await exchanges.leave();
    }
    return over;
  }

  private async answerRounds(https: Https, exchanges: Exchanges, number: number): Promise<SyncEnd> {
    const without = await this.updateModel(https);
    if (typeof without !== "string") return without;
    if (await this.options.rounds.ledger.atLimit()) return end("spent", "the user's limits are reached");
    return this.answer(https, exchanges, number);
  }

  /**
   * Answers messages until there is a reason to end. An answer goes with the request for the next message, which comes when the other
   * devices have answered, too; where its reply is lost, the same bytes are sent again.
   *
   * A plan is taken only with time left for it. An attempt that has begun is finished, at most `GRACE_SECONDS` after the sync's time,
   * unless the app, the user or the policy end it.
   */
  private async answer(https: Https, exchanges: Exchanges, number: number): Promise<SyncEnd> {
    let made: Made | null = null;
    let answers = "";
    for (;;) {
      const asking = monotonic();
      const reply: Reply | SyncEnd = await this.retry(() => this.send(exchanges, answers, made));
      if ("ended" in reply) return reply;
      if (answers && made) made = this.delivered(made, reply.taken !== "late");
      const { message } = reply;
      if (message?.kind === "come-back") return end("come back", "", message.seconds);
      const asked: string = message ? `${message.kind} ${digest(message.body)}` : "";
      // A server that asks the same again has lost the answer: it gets the same bytes, and nothing is computed again.
      const fresh: boolean = made?.asked !== asked;
      // What is refused is soon computed: a server could else have as many signatures as its line carries.
      if ((!message || !fresh || made?.bytes === REFUSED) && monotonic() - asking < this.poll) {
        const paused = await this.pause(this.poll);
        if (paused) return paused;
      }
      answers = message?.exchange ?? "";
      if (!message) continue;
      if (fresh) {
        [this.purpose, this.needs] = [null, message.seconds];
        const found = await this.dispatch(https, message, number);
        if ("ended" in found) return found;
        made = { ...found, asked };
      }
      if (made) [this.purpose, this.underWay] = [made.purpose, made.underWay];
    }
  }

  /** One request, with the answer to an exchange if there is one: while the user agrees to what it is for, as each try may be minutes later. */
  private async send(exchanges: Exchanges, answers: string, made: Made | null): Promise<Reply | SyncEnd> {
    if (!answers || !made) return exchanges.ask("", new Uint8Array(), this.holdSeconds(this.end), () => this.isOver());
    try {
      // After the last answer of an attempt nothing is left to finish.
      return await exchanges.ask(answers, made.bytes, this.holdSeconds(made.last ? this.last : this.end), () => this.halted());
    } catch (error) {
      if (error instanceof StoppedError && (await this.revoked())) return WITHDRAWN;
      throw error;
    }
  }

  /** The server has an answer, or it came too late: then the attempt is over without it, unless it is asked for again. */
  private delivered(made: Made, intime: boolean): Made {
    if (made.last && intime) this.rounds += 1;
    if (made.last || !intime) this.underWay = false;
    return made.last && intime ? { ...made, underWay: false, last: false } : made;
  }

  /** For how long the server may wait for a message now. */
  private holdSeconds(until: number): number {
    return Math.max(0, until - monotonic() - this.poll);
  }

  /** Whether the device has time for the present plan: before it is charged, and before anything is fetched. */
  private async hasTime(): Promise<boolean> {
    const left = this.stays();
    if (this.needs <= left && left > 0) return true;
    const reason = `a plan needs a device that has ${this.needs.toFixed(0)} s for it, and this sync ends in ${left.toFixed(0)} s`;
    await this.options.rounds.noteRefusal("plan", new RefusedError(reason));
    return false;
  }

  private async isOver(): Promise<boolean> {
    return (await this.over()) !== null;
  }

  /** Whether the user no longer agrees to what the answer that is being sent, or the model that is being fetched, is for. */
  private async revoked(): Promise<boolean> {
    return this.purpose !== null && !(await this.options.rounds.agreed(this.purpose));
  }

  /** Whether what is being sent or fetched is to stop. */
  private async halted(): Promise<boolean> {
    return (await this.isOver()) || (await this.revoked());
  }

  /** The answer to a message. */
  private async dispatch(https: Https, { kind, plan, directory, request }: ServerMessage, number: number): Promise<Omit<Made, "asked"> | SyncEnd> {
    if (kind === "masked") return this.join(https, plan, directory, request, number);
    if (kind === "step") {
      const answer = await this.next(request);
      const last = answer !== REFUSED && stepOf(request) === "unmask";
      return this.count(answer, this.machine?.purpose ?? null, false, last);
    }
    const found = await this.roundModel(https, plan);
    if (found && "ended" in found) return found;
    const answer = found && (await this.hasTime()) ? await this.options.rounds.contribute(plan, found, number) : REFUSED;
    return this.count(answer, answer === REFUSED ? null : purposeOf(readPlan(plan).plan), answer !== REFUSED, true);
  }

  /** Takes part in a masked attempt. For the same plan again the same state machine answers. */
  private async join(https: Https, plan: Uint8Array, directory: Uint8Array, request: Uint8Array, number: number): Promise<Omit<Made, "asked"> | SyncEnd> {
    const begins = !this.machine || digest(this.plan) !== digest(plan);
    if (begins) {
      [this.machine, this.plan] = [null, plan];
      const found = await this.roundModel(https, plan);
      if (found && "ended" in found) return found;
      if (!found) return this.count(REFUSED, null);
      try {
        if (!(await this.hasTime())) return this.count(REFUSED, null);
        this.machine = await this.options.rounds.join(plan, found, directory, number);
      } catch (error) {
        await this.options.rounds.noteRefusal("plan", error);
        return this.count(REFUSED, null);
      }
    }
    return this.count(await this.next(request), this.machine?.purpose ?? null, begins && this.machine !== null); // it is charged, whatever it answers
  }

  private async next(request: Uint8Array): Promise<Uint8Array> {
    return this.machine ? this.machine.answer(request) : REFUSED;
  }

  /** Keeps count, and what the answer is for. */
  private count(bytes: Uint8Array, purpose: Purpose | null, begins = false, last = false): Omit<Made, "asked"> {
    const underWay = bytes !== REFUSED;
    if (!underWay) this.refused += 1;
    if (begins) this.begun += 1;
    return { bytes, purpose: underWay ? purpose : null, underWay, last: underWay && last };
  }

  /**
   * The model that a plan starts from, kept or downloaded; null: the plan is refused, or the server has no such model. For a
   * plan that is refused nothing is fetched.
   */
  private async roundModel(https: Https, plan: Uint8Array): Promise<Uint8Array | SyncEnd | null> {
    const { rounds, service } = this.options;
    const name = (await this.hasTime()) ? await rounds.wanted(plan) : null;
    if (name === null) return null;
    if (this.kept?.name === name) return this.kept.data;
    try {
      this.purpose = purposeOf(readPlan(plan).plan);
      const fetched = await this.retry(() => downloads.roundModel(https, name, service.mostBytes, () => this.halted()));
      if (!("ended" in fetched)) this.kept = { name, data: fetched };
      else if (await this.revoked()) return WITHDRAWN;
      return fetched;
    } catch (error) {
      await rounds.noteRefusal("plan", error);
      return null;
    }
  }

  /** Takes the newest model into use; otherwise the reason why not, and the model in use stays. */
  private async updateModel(https: Https): Promise<string | SyncEnd> {
    const found = await this.retry(async () => ({ manifest: await downloads.latest(https) }));
    if ("ended" in found) return found;
    const { manifest } = found;
    if (manifest === null) return "the server has no model yet";
    if ((await this.options.modelInUse()) === manifest) return "";
    let over: SyncEnd | null = null;
    try {
      this.model = await this.options.takeModel(manifest, async (name, most) => {
        const file = await this.retry(async () => ({ data: await downloads.modelFile(https, manifest, name, most) }));
        if ("ended" in file) {
          over = file;
          throw new UnreachableError(`${name} must come in time, got none: ${file.ended}`);
        }
        return file.data;
      });
      return "";
    } catch (error) {
      if (over) return over;
      if (error instanceof UnreachableError || error instanceof IntegrityError || error instanceof RefusedError) return error.message;
      throw error;
    }
  }

  /** Whether the app, the user, who may have left, the policy or the clock end the sync now. */
  private async over(): Promise<SyncEnd | null> {
    const { signal, modelsOnly, rounds, policy, storage } = this.options;
    if (signal?.aborted) return end("stopped");
    if (!modelsOnly && (await askedToDelete(storage))) return LEFT;
    if (!modelsOnly && !(await rounds.agreed("train")) && !(await rounds.agreed("analytics"))) {
      return end("no consent", "the user has not agreed to take part in training", null, true);
    }
    const forbids = policy ? await Promise.resolve(policy()).catch((error: unknown) => `an error: ${String(error).slice(0, 200)}`) : "";
    if (forbids) return end("policy", forbids, null, forbids.startsWith("unmetered"));
    return monotonic() >= this.end ? end("time") : null;
  }

  /** Waits for a random time around `seconds`, at most until `end`; an end if the app asks to stop meanwhile. */
  private async pause(seconds: number, least = 0.8, most = 1.2): Promise<SyncEnd | null> {
    const share = least + ((most - least) * crypto.getRandomValues(new Uint32Array(1))[0]) / 2 ** 32;
    const left = Math.min(seconds * share, this.end - monotonic());
    const { signal } = this.options;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(done, Math.max(0, 1000 * left));
      function done(): void {
        clearTimeout(timer);
        signal?.removeEventListener("abort", done);
        resolve();
      }
      signal?.addEventListener("abort", done);
    });
    return signal?.aborted ? end("stopped") : null;
  }

  /** Calls until it succeeds, with growing random pauses, so that a server may restart meanwhile. */
  private async retry<T>(call: () => Promise<T>): Promise<T | SyncEnd> {
    let delay = FIRST_BACKOFF;
    const began = monotonic();
    for (;;) {
      const over = await this.over();
      if (over) return over;
      try {
        return await call();
      } catch (error) {
        if (error instanceof StoppedError) return (await this.over()) ?? end("stopped");
        if (!(error instanceof UnreachableError)) throw error;
        if (error instanceof RejectedError && error.final) throw error;
        const now = monotonic();
        if (now - began > GIVE_UP_SECONDS || now + delay > this.end) return end("unreachable", error.message);
      }
      const stopped = await this.pause(delay, 0.5, 1);
      if (stopped) return stopped;
      delay = Math.min(delay * 2, LONGEST_BACKOFF);
    }
  }
}
