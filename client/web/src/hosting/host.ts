/**
 * Host: the device where its store is, behind the app's `Device`: in a worker of the leading tab, or in the same thread in Node.
 *
 * It consists of parts. A part gets what it needs as arguments and doesn't know the host: the events with consent, the published
 * model in use, lists by that model, messages, and taking part (`Part`). What concerns several parts is put together here. Its
 * methods are what `Device` asks for: arguments and answers are plain values, which can be cloned from thread to thread.
 */

import { decisionOf, PURPOSES, told as toldDecision, type ConsentDecision, type Purpose } from "../consent.js";
import { Calendar } from "../delivery/calendar.js";
import type { Messages } from "../delivery/messages.js";
import type { MessageInput, MessengerTerms } from "../delivery/message.js";
import type { Allowance, Delivery, Reaction } from "../delivery/record.js";
import type { Reason } from "../delivery/rules.js";
import type { HistoryAsked } from "../history/storing.js";
import { ErasedError, InputError, LockedError, PalateError, RefusedError, UnreachableError } from "../errors.js";
import { checkKind, checkText, eventOf, shown, type EventInput, type Tracked } from "../events.js";
import type { EventKind } from "../kinds.js";
import type { Loyalty } from "../loyalty/loyalty.js";
import { pastOf, visitsOf } from "../store/activity.js";
import type { ItemFacts } from "../models/item_table.js";
import { fetched, given, Models } from "../models/models.js";
import { DeviceLedger } from "../ledger/device_ledger.js";
import type { Statement } from "../leaving/remains.js";
import type { Forbids } from "../policy.js";
import { openLogOf, type OpenLog } from "../panel.js";
import type { ImportReport } from "../portability.js";
import { blended, totals, type RecommendationOutcome } from "../recommend/adaptation/blending.js";
import { tuning, type Tuning } from "../recommend/adaptation/tuning.js";
import type { Explanation } from "../recommend/explanation.js";
import { EXPLORATION, PROMOTED } from "../recommend/factors.js";
import { Interests } from "../recommend/interests.js";
import type { OwnModel } from "../recommend/own_model.js";
import { Recommender, type RecommendOptions, type Recommendation, type ScoreOptions, type Similar } from "../recommend/recommender.js";
import { Journal } from "../store/journal.js";
import { limitsOf, type Limits } from "../store/retention.js";
import type { Sealed } from "../store/sealed.js";
import { EventStore, type Asked } from "../store/store.js";
import type { Spending } from "../rounds/report.js";
import { Service, type ServiceOptions } from "../service.js";
import { Weighting, weightingOf, type WeightingOptions } from "../weighting.js";
import { loaded } from "./loaded.js";
import type { PrivacyReport, StorageReport } from "./report.js";
import { checkSeconds, NOTHING, SECONDS, type Enrolled, type SyncOptions, type SyncResult } from "./syncing.js";
import type { Part } from "./taking.js";

const HOUR = 3600;
const YEAR = 365 * 24 * HOUR;
/** Statements that are made before an erasure, at most: a round has few messages. */
const TRIES = 10;

/** What an app says once, and all tabs alike. */
export interface HostOptions {
  readonly app: string;
  /** How much an event counts: a preset's name, or weights of the app's own. */
  readonly preset?: string | WeightingOptions;
  readonly limits?: Partial<Limits>;
  readonly service?: ServiceOptions;
  /** The user's time zone, such as Europe/Berlin; left out: this machine's setting. */
  readonly zone?: string;
}

/** The model in use, in short. */
export interface ModelInfo {
  readonly population: string;
  /** A later model of a population has a higher one. */
  readonly version: number;
  readonly algorithm: string;
  readonly items: number;
  readonly domains: readonly string[];
  /** Of how many other people it knows, where too few have taken part in its population: 0 where it knows of nobody; null: enough have. */
  readonly elsewhere: number | null;
}

/** The user's interest in the items of a catalogue. */
export interface InterestsNow {
  /** Places of the items that count, rising, and what each counts. */
  readonly indices: Int32Array;
  readonly weights: Float32Array;
  /** Places of rejected items, rising. */
  readonly unwanted: Int32Array;
}

/** What `erase` takes. */
export interface EraseOptions {
  /** Make a statement of what remains before the key is destroyed, and give it. */
  readonly statement?: boolean;
}

export class Host {
  readonly methods: readonly string[] = METHODS;
  private readonly journal: Journal;
  private readonly calendar: Calendar;
  private readonly weighting: Weighting;
  private made: Promise<Messages> | null = null;
  private readonly ending = new AbortController();
  private readonly service: Service | null;
  private readonly models: Models | null;
  private used: { readonly of: string; readonly recommender: Promise<Recommender> } | null = null;
  /** The model that the app gave, and the published one that was in use then: a later published one takes its place. */
  private own: { readonly name: string; readonly over: string; readonly recommender: Recommender } | null = null;
  private readonly replaced = new Set<string>();
  private visits: { readonly at: number; readonly starts: readonly number[] } | null = null;
  private part: Promise<Part> | null = null;
  private problem = "";

  private constructor(
    private readonly options: HostOptions,
    private readonly storage: Sealed,
    private readonly store: EventStore,
  ) {
    const { preset = "plain", service, zone } = options;
    this.calendar = new Calendar(zone);
    this.weighting = typeof preset === "string" ? weightingOf(preset) : new Weighting(preset);
    this.journal = new Journal(storage);
    this.service = service ? new Service(service) : null;
    this.models = this.service && new Models(this.journal, this.service, new DeviceLedger(storage, this.service, store.clock), store.clock);
  }

  static async open(options: HostOptions, storage: Sealed, clock = () => Date.now() / 1000): Promise<Host> {
    try {
      checkText("app", options.app, 1, 100);
      const store = await EventStore.open(storage, limitsOf(options.limits), clock);
      return new Host(options, storage, store);
    } catch (error) {
      await storage.close().catch(() => undefined);
      throw error;
    }
  }

  // The events.

  /** Stores events; a failure of the machine is an answer, not an error. */
  async track(asked: readonly (readonly [EventInput, nonce: string])[]): Promise<{ outcomes: Tracked[]; problem: string }> {
    const events = asked.map(([event, nonce]) => ({ event: checkKind(eventOf(event), this.weighting.known), nonce }));
    const outcomes = await this.added(events);
    return { outcomes, problem: this.problem };
  }

  async decide(purpose: Purpose, granted: boolean, version: string, nonce: string): Promise<ConsentDecision> {
    const decision = decisionOf(purpose, granted, version, this.store.clock(), nonce);
    await this.store.decide(decision);
    return toldDecision(decision);
  }

  async consents(): Promise<Record<Purpose, boolean>> {
    return Object.fromEntries(PURPOSES.map((purpose) => [purpose, this.store.granted(purpose)])) as Record<Purpose, boolean>;
  }

  async history(): Promise<ConsentDecision[]> {
    return this.store.decisions.map(toldDecision);
  }

  async resetTaste(): Promise<void> {
    await this.store.resetTaste();
  }

  // Models and lists.

  /** Verifies a published model, of files or at an address, and uses it; false if it is in use already. */
  async updateModel(source: string | Readonly<Record<string, Uint8Array>>): Promise<boolean> {
    if (typeof source !== "string") return this.require().update(given(source));
    return this.require().update(fetched(source, AbortSignal.any([this.ending.signal, AbortSignal.timeout(1000 * SECONDS)])));
  }

  /** Uses a model of the app's own for lists; it is in memory alone, and no round takes note of it. */
  async useModel(given: OwnModel): Promise<void> {
    const { byOwnModel } = await loaded(import("../models/apart.js"));
    const { items, domains = null } = given;
    const made = byOwnModel(given, (model, half) =>
      Recommender.of(model, items, new Interests(this.store, items, this.weighting, half), () => this.store.counts, domains),
    );
    const [recommender, over] = [await made, await this.inUse()];
    if (this.own) this.replaced.add(this.own.name);
    this.own = { name: given.name, over, recommender };
  }

  /** What became of the model of the app's own with this name: another tab that has come to lead lacks it. */
  async ownModel(name: string): Promise<"used" | "replaced" | "lacking"> {
    if (this.own?.name !== name) return this.replaced.has(name) ? "replaced" : "lacking";
    return this.own.over === (await this.inUse()) ? "used" : "replaced";
  }

  /** Which published model is in use; empty: none. */
  private async inUse(): Promise<string> {
    return (await this.models?.current())?.id ?? "";
  }

  /** Drops the model from memory, with the user's vector and scores. The published one is read again when it is needed. */
  async forgetModel(): Promise<void> {
    this.used = this.own = null;
  }

  /** The model in use, in short; null if there is none yet. */
  async model(): Promise<ModelInfo | null> {
    const current = await this.models?.current();
    if (!current) return null;
    const { manifest, items, domains } = current;
    return { population: manifest.population, version: manifest.version, algorithm: manifest.algorithm, elsewhere: manifest.elsewhere, items: items.length, domains: [...new Set(domains)] };
  }

  /** The items of the model in use, in its order; none without a model. */
  async catalogue(): Promise<readonly string[]> {
    return (await this.models?.current())?.items ?? [];
  }

  /** What is public about some items of the model in use, or about all; none where no item table came with it. */
  async items(of?: readonly string[]): Promise<ItemFacts[]> {
    const table = await (await this.models?.current())?.table();
    return !table ? [] : of === undefined ? [...table] : of.flatMap((item) => table.get(item) ?? []);
  }

  async interests(catalogue: readonly string[]): Promise<InterestsNow> {
    if (!Array.isArray(catalogue) || !catalogue.every((item) => typeof item === "string")) throw new InputError(`\`catalogue\` must be an array of item ids, got ${shown(catalogue)}`);
    const { history, unwanted } = new Interests(this.store, catalogue, this.weighting).look();
    return { indices: history.indices, weights: history.weights, unwanted };
  }

  /** The files of the model in use, by name, for another host to `adopt`; null if there is none yet. */
  async published(): Promise<Record<string, Uint8Array> | null> {
    const files = await this.models?.files();
    return files ? Object.fromEntries(files) : null;
  }

  /** Verifies a model that another host had in use, and uses it if this one has none. */
  async adopt(files: Readonly<Record<string, Uint8Array>>): Promise<boolean> {
    if (await this.models?.current()) return false;
    return this.require().update(given(files), new Map(Object.entries(files)));
  }

  async recommend(n: number, options: RecommendOptions): Promise<Recommendation[]> {
    const { recommender } = await this.ranker();
    if ([options.where, options.pin, options.boost, options.diversityBy].some((each) => each !== undefined)) await recommender.steerable();
    const tuned = options.tuned !== false && options.explore === undefined;
    return recommender.recommend(n, options, tuned ? (await this.tuning()).factor : 1);
  }

  async buyAgain(n: number): Promise<Recommendation[]> {
    const [{ recommender }, { boughtAgain }] = [await this.ranker(), await loaded(import("../models/apart.js"))];
    return recommender.listedAgain(n, boughtAgain(this.store.rows, this.store.clock()), "purchase");
  }

  async unfinished(n: number): Promise<Recommendation[]> {
    const [{ recommender }, { unfinished }] = [await this.ranker(), await loaded(import("../models/apart.js"))];
    return recommender.listedAgain(n, unfinished(this.store.rows, (item) => recommender.lengthOf(item)), "play");
  }

  async explain(item: string, options: ScoreOptions): Promise<Explanation> {
    return (await this.ranker()).recommender.explain(item, options);
  }

  async similarItems(item: string, n: number, options: { readonly domain?: string }): Promise<Similar[]> {
    return (await this.ranker()).recommender.similarItems(item, n, options);
  }

  async questions(n: number, options: { readonly items?: readonly string[]; readonly domain?: string }): Promise<string[]> {
    return (await this.ranker()).recommender.questions(n, options);
  }

  /** By which factor the user's lists explore more or less than usual, and why; recomputed once an hour. */
  async tuning(): Promise<Tuning> {
    const [now, { counts }] = [this.store.clock(), this.store];
    if (!this.visits || !(now - this.visits.at >= 0 && now - this.visits.at < HOUR)) {
      const active = pastOf(this.store.rows, "").active.filter((time) => time >= now - YEAR).map((time) => Math.min(time, now));
      this.visits = { at: now, starts: visitsOf(active).map(([start]) => start) };
    }
    return tuning(this.visits.starts, totals(counts, [EXPLORATION, "lately"]), counts.lately ?? [0, 0], now);
  }

  /** Stores what was shown and what the user did with it, and learns from it how to list. */
  async feedback(shownItems: readonly Recommendation[], outcomes: Readonly<Record<string, EventKind | EventInput>>, nonces: readonly string[]): Promise<{ outcomes: Tracked[]; problem: string }> {
    if (!Array.isArray(shownItems) || !shownItems.every((each) => typeof each?.item === "string" && typeof each.source === "string" && Number.isInteger(each.position)))
      throw new InputError("`shown` must be recommendations, as `recommend` gave them");
    const there = new Set(shownItems.map(({ item }) => item));
    const did = new Map(Object.entries(outcomes).map(([item, each]) => [item, checkKind(eventOf(typeof each === "string" ? { kind: each, item } : each), this.weighting.known)]));
    for (const [item, event] of did)
      if (!there.has(item) || event.item !== item || event.kind === "impression") throw new InputError(`\`outcomes\` must be what the user did with items of \`shown\`, got ${event.kind} ${shown(item)}`);
    const seen = shownItems.map(({ item, position, source }) => eventOf({ kind: "impression", item, props: { position, source } }));
    const asked = [...seen, ...did.values()].map((event, place) => ({ event, nonce: nonces[place] }));
    const before = new Set(this.store.rows.slice(-2 * asked.length).map(({ id }) => id));
    const tracked = await this.added(asked);
    const counted = shownItems.flatMap(({ item, source, position }, place): RecommendationOutcome[] => {
      // What was promoted or is the user's own says nothing of what the device's sources are worth.
      if (tracked[place] !== "stored" || before.has(asked[place].nonce) || source === PROMOTED || source === "again") return [];
      const event = did.get(item);
      return [{ source, position, liked: event !== undefined && this.weighting.counts(event.kind, event.value) }];
    });
    // As in `track`, a failure of the machine raises no error.
    if (counted.length) await this.store.count((counts) => blended(counts, counted)).catch(() => undefined);
    return { outcomes: tracked, problem: this.problem };
  }

  // Messages and loyalty.

  async decideOn(message: MessageInput, terms: MessengerTerms): Promise<{ delivery: Delivery; hand: boolean }> {
    return (await this.messages()).decide(message, terms);
  }

  async offer(signed: Uint8Array, terms: MessengerTerms): Promise<{ delivery: Delivery; hand: boolean }> {
    const { service } = this;
    if (!service) throw new InputError("`service` must be given to `open`: campaigns come from one");
    const { openCampaign } = await loaded(import("../delivery/messages.js"));
    const campaign = await openCampaign(signed, service.publicKey, service.population, this.store.clock());
    const { id, title, body, item, link, expires, reach } = campaign;
    const message = { id: `campaign:${id}`, title, body, item, link, expires, campaign: id };
    const fits = await this.ranker().then(({ recommender }) => recommender.fits(item, reach), () => false);
    return (await this.messages()).decide(message, terms, fits);
  }

  async nextDue(terms: MessengerTerms): Promise<{ hand: Delivery[]; others: Delivery[] }> {
    return (await this.messages()).next(terms);
  }

  async setReason(ids: readonly string[], reason: Reason): Promise<void> {
    await (await this.messages()).setReason(ids, reason);
  }

  async reacted(id: string, reaction: Reaction): Promise<boolean> {
    return (await this.messages()).reacted(id, reaction);
  }

  async allow(channel: string, granted: boolean, version: string): Promise<Allowance> {
    checkText("version", version, 1, 200);
    return (await this.messages()).allow(channel, granted, version);
  }

  async allowed(): Promise<string[]> {
    return (await this.messages()).record((record) => record.channels());
  }

  async deliveries(): Promise<Delivery[]> {
    return (await this.messages()).record((record) => record.all());
  }

  async inControl(share: number): Promise<boolean> {
    return (await this.messages()).record((record) => record.control(share));
  }

  async arm(experiment: string): Promise<"a" | "b"> {
    return (await this.messages()).arm(experiment);
  }

  async loyalty(amount: string): Promise<Loyalty> {
    const { loyalty } = await loaded(import("./own.js"));
    return loyalty(pastOf(this.store.rows, amount), this.store.clock(), this.calendar, this.store.first);
  }

  // Taking part.

  async enroll(invitation: string): Promise<Enrolled> {
    return (await this.taking()).enroll(invitation);
  }

  async enrolment(): Promise<Enrolled | null> {
    return this.takes ? (await this.taking()).enrolment() : null;
  }

  /** Asks the server to delete what it has of this device. It needs no consent. */
  async leave(seconds: number): Promise<void> {
    checkSeconds(seconds);
    await (await this.taking()).leave(seconds, this.ending.signal);
  }

  /** `forbids`: the first condition of the app that doesn't hold now; empty: all hold. */
  async sync(options: SyncOptions, asked: AbortSignal, forbids?: Forbids): Promise<SyncResult> {
    const signal = AbortSignal.any([asked, this.ending.signal]);
    const address = options.models ?? this.options.service?.models;
    const began = performance.now();
    const ended = (why: string, reason = "", model = false): SyncResult => ({ ...NOTHING, ended: why, reason, model, seconds: (performance.now() - began) / 1000 });
    const lost = this.takes && (await this.taking().then(() => null, (error: PalateError) => error));
    if (lost) return ended("unreachable", lost.message);
    if (this.takes && !(options.modelsOnly && address && !(await this.enrolment()))) return (await this.taking()).sync(options, signal, forbids);
    if (!options.modelsOnly || !address) return ended("not enrolled", "a device that takes part in no round can be asked for `modelsOnly`, and told where the models are");
    const { seconds = SECONDS } = options;
    checkSeconds(seconds);
    const late = AbortSignal.timeout(Math.min(1000 * seconds, 2 ** 31 - 1));
    const source = fetched(address, AbortSignal.any([signal, late]));
    let against = "";
    const allowed = async (): Promise<void> => {
      against ||= signal.aborted ? "" : ((await forbids?.()) ?? "");
      if (against || signal.aborted) throw new UnreachableError("the app must allow the download, and doesn't");
    };
    try {
      await allowed();
      const model = await this.require().update(async (name, most) => {
        await allowed();
        return source(name, most);
      });
      return ended("model", "", model);
    } catch (error) {
      if (signal.aborted) return ended("stopped");
      if (against) return ended("policy", against);
      if (late.aborted) return ended("time");
      if (!(error instanceof PalateError)) throw error;
      return ended(error.code === "unreachable" ? "unreachable" : "failed", error.message);
    }
  }

  // What the user is told, and gets.

  async privacyReport(storage: Partial<StorageReport>): Promise<PrivacyReport> {
    const { reported } = await loaded(import("./own.js"));
    let [spending, problem] = [null as Spending | null, ""];
    try {
      if (this.takes) spending = await (await this.taking()).spending();
    } catch (error) {
      if (!(error instanceof PalateError)) throw error;
      problem = error.message;
    }
    const { journal } = this;
    return reported({
      app: this.options.app,
      time: this.store.clock(),
      spending,
      problem,
      sent: await journal.sent(),
      refusals: await journal.refusals(),
      consents: await this.consents(),
      decisions: await this.history(),
      models: await journal.editions(),
      contacts: await journal.contacts(),
      opened: await journal.openedLogs(),
      storage: { persisted: null, usage: null, quota: null, ...storage, kind: this.storage.kind },
    });
  }

  /** What the user shares openly, for the app to deliver by its own means; Palate never sends it. */
  async openLog(): Promise<OpenLog> {
    const version = this.agreedVersion();
    const current = await this.models?.current();
    if (!current) throw new RefusedError("this device has no model yet, so that it doesn't know which items are public");
    const now = this.store.clock();
    const log = openLogOf(new Interests(this.store, current.items, this.weighting).look(), current.items, version, now);
    await this.journal.open({ time: now, items: log.items.length, version });
    if (this.agreedVersion() !== version) throw new RefusedError("the user has decided anew meanwhile: ask again");
    return log;
  }

  /** All of the user's data as lines of JSON. */
  async exportLines(): Promise<string[]> {
    const report = await this.privacyReport({});
    const [{ exportLines }, messages] = await Promise.all([loaded(import("./own.js")), this.messages()]);
    return messages.record((record) => exportLines(this.store, report, record));
  }

  async importLines(text: string): Promise<ImportReport> {
    return (await loaded(import("./own.js"))).importLines(this.store, text, this.weighting.known);
  }

  async ownHistory(...asked: HistoryAsked): Promise<unknown> {
    return (await loaded(import("./own.js"))).history(this.store, ...asked);
  }

  /** What would remain if the user left now. To make it writes nothing to the store, and nothing is erased. */
  async statement(final = false): Promise<Statement> {
    const [{ statementOf }, report, files] = [await loaded(import("./own.js")), await this.privacyReport({}), await this.journal.files()];
    const { server, evidence } = this.takes ? await (await this.taking()).standing() : { server: null, evidence: null };
    return statementOf({ report, service: this.service, evidence, manifest: files.get("manifest.json") ?? null, server, final });
  }

  /** Destroys the store's key, then its records. Whatever left is in the statement: nothing is noted, and so nothing leaves, in between. */
  async erase({ statement = false }: EraseOptions = {}): Promise<Statement | undefined> {
    let made: Statement | undefined;
    if (statement) {
      for (let tries = 0; ; tries += 1) {
        if (tries >= TRIES) throw new LockedError("the store must be free, got one from which messages of a round go on leaving: stop the sync");
        const before = await this.whatHasLeft();
        made = await this.statement(true);
        if (await this.storage.erase(async () => (await this.whatHasLeft()) === before)) break;
      }
    }
    this.abandon();
    this.used = null;
    if (!made) await this.storage.erase();
    return made;
  }

  /** What has left, in a form that says whether there is more. */
  private async whatHasLeft(): Promise<string> {
    return JSON.stringify([(await this.journal.sent()).length, await this.journal.openedLogs()]);
  }

  async close(): Promise<void> {
    this.abandon();
    await this.storage.close();
  }

  /** Ends what is under way, and agrees to nothing any more: the store is erased, closed, or another's. */
  abandon(): void {
    this.store.leave();
    this.end();
  }

  /** Ends a sync that is under way. */
  end(): void {
    this.ending.abort();
  }

  private async added(asked: readonly Asked[]): Promise<Tracked[]> {
    try {
      const outcomes = await this.store.add(asked);
      this.problem = "";
      return outcomes;
    } catch (error) {
      if (error instanceof ErasedError) {
        this.abandon();
        return asked.map(() => "no consent");
      }
      if (!(error instanceof PalateError) || error.code === "locked" || error.code === "closed") throw error;
      this.problem = error.message;
      return asked.map(() => "failed");
    }
  }

  private agreedVersion(): string {
    if (!this.store.granted("panel")) throw new RefusedError("the user has not agreed, or no longer agrees, to share their log openly");
    return this.store.decisions.filter(({ purpose }) => purpose === "panel").at(-1)?.version ?? "";
  }

  private require(): Models {
    if (!this.models) throw new InputError("`service` must be given to `open`: models and rounds come from one");
    return this.models;
  }

  /** Whether this device may take part at all: with a service, and a store that outlives the page. */
  private get takes(): boolean {
    return this.service !== null && this.storage.kind !== "memory";
  }

  private taking(): Promise<Part> {
    const { storage, store, journal, weighting, calendar } = this;
    const [models, service] = [this.require(), this.service as Service];
    if (!this.takes) throw new RefusedError("a device whose ledger would be forgotten with the page takes part in no round");
    const terms = this.options.service as ServiceOptions;
    this.part ??= loaded(import("./taking.js")).then(({ makePart }) =>
      makePart({ storage, store, journal, models, service, terms, weighting, calendar, messages: () => this.messages(), granted: (purpose) => store.granted(purpose) }),
    );
    this.part.catch(() => (this.part = null));
    return this.part;
  }

  /** Messages, whose code is loaded when the first one is decided on. */
  private messages(): Promise<Messages> {
    const { storage, store, calendar } = this;
    this.made ??= loaded(import("../delivery/messages.js")).then((part) => new part.Messages(storage, () => store.granted("messaging"), store.clock, calendar));
    this.made.catch(() => (this.made = null));
    return this.made;
  }

  /** The recommender of the model in use, made once. */
  private async ranker(): Promise<{ recommender: Recommender }> {
    const published = await this.models?.current();
    const of = published?.id ?? "";
    if (this.own?.over === of) return { recommender: this.own.recommender };
    if (this.own) this.replaced.add(this.own.name); // a later published one was taken into use
    this.own = null;
    if (!published) throw new InputError("a device must have a model to recommend by, got none: `updateModel` or `useModel` first");
    if (this.used?.of !== of) {
      const { items, domains, model, manifest } = published;
      const interests = new Interests(this.store, items, this.weighting, manifest.recentHalfLifeDays);
      const recommender = Promise.all([published.table(), published.rules()]).then(([table, rules]) =>
        Recommender.of(model, items, interests, () => this.store.counts, domains, undefined, { table, rules, clock: this.store.clock, learned: manifest.learned }),
      );
      const made = { of, recommender };
      made.recommender.catch(() => this.used === made && (this.used = null));
      this.used = made;
    }
    return { recommender: await this.used.recommender };
  }
}

/** The methods that a device, in this tab or another, asks a host for. */
const METHODS = [
  "track", "decide", "consents", "history", "resetTaste", "updateModel", "useModel", "ownModel", "forgetModel", "model", "catalogue", "items",
  "interests", "adopt", "recommend", "buyAgain", "unfinished", "explain", "similarItems", "questions", "tuning", "feedback", "decideOn", "offer", "nextDue", "setReason",
  "reacted", "allow", "allowed", "deliveries", "inControl", "arm", "loyalty", "enroll", "enrolment", "leave", "sync", "privacyReport",
  "openLog", "exportLines", "importLines", "ownHistory", "statement", "erase",
] as const;
export type Method = (typeof METHODS)[number];
