/**
 * Device: the class that an app embeds. It keeps the user's events in an encrypted store in this browser.
 *
 *     import { open } from "@palate/web";
 *
 *     const device = await open({ app: "bookshop" });
 *     await device.consent.grant("store", { version: "2026-01" });
 *     await device.track("view", "book-7");
 *
 * What it does is done in a worker (`worker.ts`), of which one, in one of the app's tabs, has the store (`leader.ts`). In Node
 * the work is done in the same thread, over a file. `track` rejects for a mistake of the app (a kind that doesn't exist), and not
 * for a failure of the browser (no room): its answer says that it failed, and `problem` why.
 */

import { decisionOf, type ConsentDecision, type Purpose } from "./consent.js";
import { Messenger, type MessengerOptions, type Sender } from "./delivery/messenger.js";
import { ClosedError, ErasedError, InputError } from "./errors.js";
import type { EventInput, Tracked } from "./events.js";
import type { EventKind } from "./kinds.js";
import type { EraseOptions, HostOptions, InterestsNow, Method, ModelInfo } from "./hosting/host.js";
import type { PrivacyReport, StorageReport } from "./hosting/report.js";
import type { Enrolled, SyncOptions, SyncResult } from "./hosting/syncing.js";
import { direct, errorOf, type Link, type Told } from "./hosting/link.js";
import type { Keeping } from "./hosting/opening.js";
import type { HistoryOptions, HistoryPreview } from "./history/preview.js";
import type { Import } from "./history/storing.js";
import type { Statement } from "./leaving/remains.js";
import type { Loyalty } from "./loyalty/loyalty.js";
import type { ItemFacts } from "./models/item_table.js";
import type { OpenLog } from "./panel.js";
import type { OwnModel, OwnModelOptions } from "./recommend/own_model.js";
import { checkPolicy, forbidden, type Forbids, type Policy } from "./policy.js";
import type { ImportReport } from "./portability.js";
import type { Tuning } from "./recommend/adaptation/tuning.js";
import type { Explanation } from "./recommend/explanation.js";
import type { Recommendation, RecommendOptions, ScoreOptions, Similar } from "./recommend/recommender.js";
import type { Request } from "./worker.js";

/** What `open` takes. */
export interface OpenOptions extends HostOptions {
  /** At least 32 random bytes that the app keeps, see `newKey`. In a browser it may be left out: a key that no script can read out is kept beside the store. */
  readonly key?: Uint8Array;
  /** In Node: a folder for this store alone. */
  readonly path?: string;
  /**
   * Where `worker.js` of this package is served, on the page's own origin: a string, a URL or a `TrustedScriptURL`; left out: beside this
   * file. False: work in the page's thread.
   */
  readonly worker?: string | Pick<URL, "toJSON"> | false;
  /**
   * Where the store is kept in a browser. "lasting": in this page until the user agrees to something, then in the browser, or not at
   * all, which is the default. "memory": in this page, and nothing is ever written. "any": in the page where the browser gives no
   * storage.
   */
  readonly keeping?: Keeping;
}

/** What `recommend` takes. */
export type ListOptions = Omit<RecommendOptions, "where"> & { readonly where?: string | ((facts: ItemFacts) => boolean) };

/** What the user agreed to, for each purpose. A purpose that wasn't granted is denied. */
export class Consent {
  constructor(
    private readonly link: Link,
    /** Whether what is agreed to may be kept in the browser. */
    private readonly lasts = true,
  ) {}

  /** Records that the user agrees to a purpose, under this version of the text. */
  async grant(purpose: Purpose, { version = "1" } = {}): Promise<ConsentDecision> {
    decisionOf(purpose, true, version, 0, ""); // a mistake of the app's is no agreement, and makes no store
    // Asked for in the page, where browsers that ask the user can.
    if (purpose === "store" && this.lasts && typeof navigator !== "undefined") void navigator.storage?.persist?.().catch(() => false);
    return this.link.call("decide", [purpose, true, version, nonce()]) as Promise<ConsentDecision>;
  }

  /** Records that the user no longer agrees; it holds at once, for other tabs too. `remains` says what it can't undo. */
  async revoke(purpose: Purpose, { version = "1" } = {}): Promise<ConsentDecision> {
    return this.link.call("decide", [purpose, false, version, nonce()]) as Promise<ConsentDecision>;
  }

  /** Whether the user agrees to a purpose; false if they never decided. */
  async get(purpose: Purpose): Promise<boolean> {
    return (await this.all())[purpose] ?? false;
  }

  /** The same of all purposes. */
  async all(): Promise<Record<Purpose, boolean>> {
    return this.link.call("consents", []) as Promise<Record<Purpose, boolean>>;
  }

  /** All decisions, or those on one purpose, oldest first. */
  async history(purpose?: Purpose): Promise<ConsentDecision[]> {
    const all = (await this.link.call("history", [])) as ConsentDecision[];
    return all.filter((each) => purpose === undefined || each.purpose === purpose);
  }
}

/** The recommender of one user in this browser. `open` makes it. */
export class Device {
  readonly consent: Consent;
  /** Why the latest event could not be stored; empty if it was. */
  problem = "";
  /** The model that the app gave, for a tab that comes to lead. */
  private own: OwnModel | null = null;

  constructor(
    /** The app's name. */
    readonly app: string,
    private readonly link: Link,
    lasts = true,
  ) {
    this.consent = new Consent(link, lasts);
  }

  /** Stores one event. Once this resolves, the event is kept even if the tab is closed. */
  async track(kind: EventKind, item: string, options: Omit<EventInput, "kind" | "item"> = {}): Promise<Tracked> {
    return (await this.trackMany([{ ...options, kind, item }]))[0];
  }

  /** Stores events in one transaction: all valid ones, or, if the browser fails, none. */
  async trackMany(events: readonly EventInput[]): Promise<Tracked[]> {
    return this.tracked("track", [events.map((event) => [event, nonce()])], events.length);
  }

  /** Stores a `like` of each item that a new user has picked from a selection. */
  async likeToStart(items: readonly string[]): Promise<Tracked[]> {
    if (!Array.isArray(items)) throw new InputError("`items` must be an array of item ids");
    return this.trackMany(items.map((item) => ({ kind: "like", item })));
  }

  /** Stores a `like`: the user wants more items like this one. */
  async moreOf(item: string): Promise<Tracked> {
    return this.track("like", item);
  }

  /** Stores a `dismiss`: the item isn't recommended again, and similar items get lower scores. */
  async lessOf(item: string): Promise<Tracked> {
    return this.track("dismiss", item);
  }

  /** Stores a `hide`: the item isn't recommended again; scores of other items don't change. */
  async hide(item: string): Promise<Tracked> {
    return this.track("hide", item);
  }

  /** From now on ignores older events and older feedback. All stays in the store, and what was hidden stays hidden. */
  async resetTaste(): Promise<void> {
    await this.link.call("resetTaste", []);
  }

  /**
   * Verifies a published model and uses it from now on; false if it is in use already.
   *
   * @param source - the address of a server, or of the folder of published files, or the files by their names. The former model stays in use if
   * they are not signed by the service's key, damaged, of another population, or older.
   */
  async updateModel(source: string | URL | Readonly<Record<string, Uint8Array>>): Promise<boolean> {
    const base = typeof location === "undefined" ? undefined : location.href;
    const given = typeof source === "string" || source instanceof URL ? new URL(source, base).href : source;
    return this.link.call("updateModel", [given]) as Promise<boolean>;
  }

  /**
   * Uses this model for lists from now on: one of the app's own, which nobody has signed. A later published model takes its place.
   *
   * It is in memory alone: say it again when the page is loaded again. Lists of other tabs have it, too, while one tab leads; say the same
   * in each. Rounds know nothing of it.
   *
   * @param model - the bytes of a model file, as `GlobalModel.data` in Python has them.
   * @param items - item ids in the model's row order.
   */
  async useModel(model: Uint8Array, items: readonly string[], options: OwnModelOptions = {}): Promise<void> {
    const own: OwnModel = { ...options, name: nonce(), file: model, items };
    await this.link.call("useModel", [own]);
    this.own = own;
  }

  /** Drops the model from memory, with the user's vector and scores. What was published is read again when it is needed. */
  async forgetModel(): Promise<void> {
    this.own = null;
    await this.link.call("forgetModel", []);
  }

  /** The verified model in use, in short; null if there is none yet. */
  async model(): Promise<ModelInfo | null> {
    return this.link.call("model", []) as Promise<ModelInfo | null>;
  }

  /** The ids of the items of the model in use, in its order; none without a model. */
  async catalogue(): Promise<readonly string[]> {
    return this.link.call("catalogue", []) as Promise<readonly string[]>;
  }

  /** What is public about some items of the model in use, or about all: titles, years, public ids. None without an item table. */
  async items(of?: readonly string[]): Promise<readonly ItemFacts[]> {
    return this.link.call("items", [of]) as Promise<readonly ItemFacts[]>;
  }

  /** The user's interest in each item of a catalogue, of ids in an order of the app's own. */
  async interests(catalogue: readonly string[]): Promise<InterestsNow> {
    return this.link.call("interests", [catalogue]) as Promise<InterestsNow>;
  }

  /**
   * Recommended items, best first. Items that the user hid or dismissed are never among them.
   *
   * `where` may be a function, which this page calls with the facts of each item: a filter as text is quicker.
   */
  async recommend(n = 10, { where, ...options }: ListOptions = {}): Promise<Recommendation[]> {
    if (typeof where !== "function") return this.listed("recommend", [n, where === undefined ? options : { ...options, where }]) as Promise<Recommendation[]>;
    const found = (await this.items(options.items)).filter(where).map(({ item }) => item);
    return this.listed("recommend", [n, { ...options, items: found }]) as Promise<Recommendation[]>;
  }

  /** What the user has bought and may want again, first what was bought often and lately, and not a moment ago. */
  async buyAgain(n = 10): Promise<Recommendation[]> {
    return this.listed("buyAgain", [n]) as Promise<Recommendation[]>;
  }

  /** What the user has begun to play and not finished, latest first; of items with `seconds` in the item table. */
  async unfinished(n = 10): Promise<Recommendation[]> {
    return this.listed("unfinished", [n]) as Promise<Recommendation[]>;
  }

  /** How much each of the user's events adds to the item's score. */
  async explain(item: string, options: ScoreOptions = {}): Promise<Explanation> {
    return this.listed("explain", [item, options]) as Promise<Explanation>;
  }

  /** Items similar to this one by the model, most similar first, independent of the user. */
  async similarItems(item: string, n = 10, options: { readonly domain?: string } = {}): Promise<Similar[]> {
    return this.listed("similarItems", [item, n, options]) as Promise<Similar[]>;
  }

  /** Items to ask a new user about, those first whose answers tell most. */
  async questions(n = 1, options: { readonly items?: readonly string[]; readonly domain?: string } = {}): Promise<string[]> {
    return this.listed("questions", [n, options]) as Promise<string[]>;
  }

  /** By which factor the user's lists explore more or less than usual, and why. */
  async tuning(): Promise<Tuning> {
    return this.link.call("tuning", []) as Promise<Tuning>;
  }

  /**
   * Stores which recommendations were shown and what the user did with them, and learns from it how to list.
   *
   * @param shown - what `recommend` gave and the user saw.
   * @param outcomes - of items of it, what the user did. Left out: nothing.
   */
  async feedback(shown: readonly Recommendation[], outcomes: Readonly<Record<string, EventKind | EventInput>> = {}): Promise<Tracked[]> {
    const count = shown.length + Object.keys(outcomes).length;
    return this.tracked("feedback", [shown, outcomes, Array.from({ length: count }, nonce)], count);
  }

  /** A messenger, which decides on messages to the user and sends them: channel -> what brings them. */
  messenger(senders: Readonly<Record<string, Sender>>, options: MessengerOptions = {}): Messenger {
    return new Messenger(this.link, senders, options);
  }

  /** This device's arm of an A/B test, drawn at the first call and never sent. From now on the device takes part in it. */
  async arm(experiment: string): Promise<"a" | "b"> {
    return this.link.call("arm", [experiment]) as Promise<"a" | "b">;
  }

  /** How loyal the user is to the app; see `DEFINITIONS`. `amount` is the property of a purchase that holds its price. */
  async loyalty({ amount = "amount" } = {}): Promise<Loyalty> {
    return this.link.call("loyalty", [amount]) as Promise<Loyalty>;
  }

  /** Becomes a device of the service's population, with the invitation that the operator issued for it. */
  async enroll(invitation: string | object): Promise<Enrolled> {
    return this.link.call("enroll", [typeof invitation === "string" ? invitation : JSON.stringify(invitation)]) as Promise<Enrolled>;
  }

  /** The server where this device is enrolled; null: it isn't. */
  async enrolment(): Promise<Enrolled | null> {
    return this.link.call("enrolment", []) as Promise<Enrolled | null>;
  }

  /**
   * Is online for a while: downloads the newest model and uses it, and answers the server's rounds.
   *
   * It doesn't use the network without the user's consent to `train` or `analytics`, unless `modelsOnly` is set. `policy` has conditions
   * that must hold all the time that it is online; they are called in this page.
   */
  async sync({ signal, policy, ...options }: SyncOptions & { readonly signal?: AbortSignal; readonly policy?: Policy } = {}): Promise<SyncResult> {
    if (policy !== undefined) checkPolicy(policy);
    return this.link.call("sync", [options], signal, policy && (() => forbidden(policy))) as Promise<SyncResult>;
  }

  /**
   * Asks the server to delete what it has of this device, and takes part in nothing more.
   *
   * It needs no consent, and can be called again. A statement says whether the server was asked, and whether it has answered; make it, or
   * erase, afterwards. Number and identity stay in the server's register, which only grows.
   */
  async leave({ seconds = 30 } = {}): Promise<void> {
    await this.link.call("leave", [seconds]);
  }

  /** What would remain if the user left now, in words and numbers. To make it writes nothing to the store. */
  async statement(): Promise<Statement> {
    return this.link.call("statement", []) as Promise<Statement>;
  }

  /** What this device has sent, what that cost, what it refused, and what the user agreed to. */
  async privacyReport(): Promise<PrivacyReport> {
    return this.link.call("privacyReport", [await storageNow()]) as Promise<PrivacyReport>;
  }

  /** What the user shares openly, for the app to deliver by its own means; it needs consent to `panel`. Palate never sends it. */
  async openLog(): Promise<OpenLog> {
    return this.link.call("openLog", []) as Promise<OpenLog>;
  }

  /** All of the user's data, as lines of JSON in one text; it is not encrypted. */
  async export(): Promise<Blob> {
    const lines = (await this.link.call("exportLines", [])) as string[];
    return new Blob(lines.map((line) => `${line}\n`), { type: "application/jsonl" });
  }

  /** Stores the events of lines of JSON, such as another device's export. */
  async import(lines: string | Blob): Promise<ImportReport> {
    return this.link.call("importLines", [typeof lines === "string" ? lines : await lines.text()]) as Promise<ImportReport>;
  }

  /**
   * Reads the user's own history with a service, from the file that it hands out, in this page, and says what it would add.
   *
   * Nothing is stored until the preview's `store`, and nothing leaves the device. The code that reads is loaded when it is needed.
   */
  async importHistory(file: Blob & { readonly name?: string }, options: HistoryOptions = {}): Promise<HistoryPreview> {
    const [{ previewHistory }, table] = [await import("./history/preview.js"), options.table ?? (await this.items())];
    const call = (...args: unknown[]) => this.link.call("ownHistory", args) as Promise<never>;
    return previewHistory(file, table, { terms: () => call("terms"), add: (events, service) => call("add", events, service) }, options);
  }

  /** The imported histories of which events are in the store, oldest first. */
  async imports(): Promise<Import[]> {
    return this.link.call("ownHistory", ["list"]) as Promise<Import[]>;
  }

  /** Deletes what an import of a history has added, see `imports`; resolves to the number of events. What a model learnt remains. */
  async forgetImport(id: number): Promise<number> {
    return this.link.call("ownHistory", ["forget", id]) as Promise<number>;
  }

  /**
   * Destroys the store's key, then its records, for all tabs. The device is closed; `open` makes a new, empty store.
   *
   * With `statement: true` it first makes a statement of what remains, and gives it.
   */
  async erase(options: { readonly statement: true }): Promise<Statement>;
  async erase(options?: EraseOptions): Promise<Statement | undefined>;
  async erase(options: EraseOptions = {}): Promise<Statement | undefined> {
    const made = (await this.link.call("erase", [options])) as Statement | undefined;
    await this.link.close(new ErasedError("the device's store was erased")).catch(() => undefined);
    return made;
  }

  /** Gives the store up; not needed when a page is left: what was acknowledged is stored. Other tabs go on. */
  async close(): Promise<void> {
    await this.link.close();
  }

  /** Asks about lists; of a tab that has come to lead meanwhile only once it has the app's own model, too. */
  private async listed(method: Method, args: readonly unknown[]): Promise<unknown> {
    if (this.own) {
      const became = await this.link.call("ownModel", [this.own.name]);
      if (became === "replaced") this.own = null;
      else if (became === "lacking") await this.link.call("useModel", [this.own]);
    }
    return this.link.call(method, args);
  }

  private async tracked(method: Method, args: readonly unknown[], count: number): Promise<Tracked[]> {
    try {
      const { outcomes, problem } = (await this.link.call(method, args)) as { outcomes: Tracked[]; problem: string };
      this.problem = problem;
      return outcomes;
    } catch (error) {
      // Who erased agreed to nothing since; another tab may have done it.
      if (error instanceof ErasedError) return new Array<Tracked>(count).fill("no consent");
      throw error;
    }
  }
}

/** Opens the encrypted store of this app's user. In a browser it is made when the user first agrees to something, not before. */
export async function open(options: OpenOptions): Promise<Device> {
  const { key, path, worker, keeping = "lasting", ...host } = options;
  if (typeof options.app !== "string" || !/^[^\u0000-\u001f\u007f]{1,100}$/u.test(options.app)) throw new InputError("`app` must be a name of 1 to 100 printable characters");
  if (path !== undefined) {
    const { hostOf } = await import("./hosting/opening.js");
    return new Device(options.app, direct(await hostOf(host, path, key)));
  }
  if (worker === false || typeof Worker === "undefined") {
    const { linkOf } = await import("./hosting/opening.js");
    return new Device(options.app, await linkOf(host, key, keeping), keeping !== "memory");
  }
  const link = new WorkerLink(() => new Worker((worker ?? beside()) as URL, { type: "module", name: `palate/${options.app}` }), { open: host, key, keeping });
  try {
    await link.begin();
  } catch (error) {
    link.worker.terminate();
    throw error;
  }
  return new Device(options.app, link, keeping !== "memory");
}

/** Whether this browser has a store of this app: its user agreed to something before. Nothing is made by asking. */
export async function hasStore(app: string): Promise<boolean> {
  return (await import("./store/indexed_db.js")).hasIndexedDb(app);
}

/** Erases this app's store without opening it, whatever state it is in. */
export async function erase(app: string, { path }: { readonly path?: string } = {}): Promise<void> {
  if (path !== undefined) return (await import("./store/file.js")).eraseFile(path);
  return (await import("./store/indexed_db.js")).eraseIndexedDb(app);
}

/** The worker beside this file, as a page with Trusted Types takes it: by a policy that lets nothing else pass. */
let trusted: unknown;
function beside(): unknown {
  const url = new URL("./worker.js", import.meta.url);
  const { trustedTypes } = globalThis as { trustedTypes?: { createPolicy(name: string, rules: object): { createScriptURL(address: string): unknown } } };
  try {
    trusted ??= trustedTypes?.createPolicy("palate", { createScriptURL: () => url.href }).createScriptURL("");
  } catch {
    // The page allows no such policy: the browser says whether it takes the address as it is.
  }
  return trusted ?? url;
}

type Body<T> = T extends unknown ? Omit<T, "id"> : never;

interface Waiting {
  readonly request: Body<Request>;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
  readonly signal: AbortSignal | undefined;
  readonly forbids: Forbids | undefined;
  /** Whether it was asked of a worker that has failed. */
  again: boolean;
}

/** How often a page's worker is begun anew. */
const RESTARTS = 3;

/** A link to the worker of this page; one that fails is ended, and another asked for what it hasn't answered, once. */
class WorkerLink implements Link {
  worker!: Worker;
  private next = 0;
  private failures = 0;
  private readonly asked = new Map<number, Waiting>();

  constructor(
    private readonly make: () => Worker,
    private readonly opening: Body<Request>,
  ) {}

  /** Starts a worker, and opens the device there. */
  async begin(): Promise<void> {
    const worker = (this.worker = this.make());
    let ready = false;
    worker.onmessage = ({ data }: MessageEvent<{ id: number; value?: unknown; error?: Told; place?: number }>) => {
      const asked = this.asked.get(data.id);
      if (data.place !== undefined) {
        void asked?.forbids?.().then((forbids) => worker.postMessage({ id: data.id, place: data.place, forbids }));
        return;
      }
      this.asked.delete(data.id);
      if (data.error) asked?.reject(errorOf(data.error));
      else asked?.resolve(data.value);
    };
    worker.onerror = (event) => {
      worker.terminate(); // and with it goes what it has of the store
      const why = new ClosedError(`the worker failed: ${event.message || "it could not be loaded"}`);
      if (ready && (this.failures += 1) <= RESTARTS) this.restart(why);
      else this.end(why);
    };
    await this.ask(this.opening);
    ready = true;
  }

  private restart(why: Error): void {
    const before = [...this.asked];
    this.asked.clear();
    this.begin().catch((error: Error) => this.end(error));
    for (const [id, asked] of before) {
      if (asked.again) asked.reject(why);
      else this.post(id, { ...asked, again: true });
    }
  }

  private post(id: number, asked: Waiting): void {
    this.asked.set(id, asked);
    this.worker.postMessage({ ...asked.request, id });
    if (asked.signal?.aborted) this.worker.postMessage({ id, abort: true }); // it says so only once
  }

  async ask(request: Body<Request>, signal?: AbortSignal, forbids?: Forbids): Promise<unknown> {
    const id = (this.next += 1);
    return new Promise((resolve, reject) => {
      this.post(id, { request, resolve, reject, signal, forbids, again: false });
      signal?.addEventListener("abort", () => this.worker.postMessage({ id, abort: true }));
    });
  }

  async call(method: Method, args: readonly unknown[], signal?: AbortSignal, forbids?: Forbids): Promise<unknown> {
    return this.ask({ method, args, conditions: forbids !== undefined }, signal, forbids);
  }

  async close(why: Error = new ClosedError("the device is closed")): Promise<void> {
    await this.ask({ close: true });
    this.worker.terminate();
    this.end(why);
  }

  private end(why: Error): void {
    for (const { reject } of this.asked.values()) reject(why);
    this.asked.clear();
    this.call = this.ask = () => Promise.reject(why);
  }
}

/** How long the browser promises to keep the store, as far as it says. */
async function storageNow(): Promise<Partial<StorageReport>> {
  if (typeof navigator === "undefined" || !navigator.storage) return {};
  const { usage = null, quota = null } = await navigator.storage.estimate().catch(() => ({}) as StorageEstimate);
  return { persisted: await navigator.storage.persisted().catch(() => null), usage, quota };
}

/** A random id, by which asking again is told from asking anew: the time first, so that ids of a store rise. */
function nonce(): string {
  const random = crypto.getRandomValues(new Uint8Array(10));
  return Date.now().toString(16).padStart(12, "0") + Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
