/**
 * Leader: of all tabs of an app, one has the store; the others ask it.
 *
 *     Web Lock palate/APP -> the tab that has it opens the store, and answers
 *     BroadcastChannel palate/APP -> the others ask; whoever is next in the lock's queue follows a closed leader
 *
 * A question that was not answered is asked again of the next leader. Asking twice is harmless: each call has an id, of which
 * the host's writes keep track (`EventStore.add`, `decide`), and a leader gives an id that it knows the same answer. A leader
 * that doesn't answer any more, such as one of a frozen tab, is relieved: the lock is stolen, and the store refuses its writes.
 *
 * Each note says which version of this package it is of. A tab that hears of a newer one than its own ends: the newest code leads, so
 * that a check that was mended reaches all, and no tab has to know what another version's notes mean.
 */

import { ClosedError, ErasedError, LockedError, PalateError } from "./errors.js";
import type { Host, Method } from "./hosting/host.js";
import type { Forbids } from "./policy.js";
import { errorOf, run, toldOf, type Link, type Told } from "./hosting/link.js";

/** Of this package, as `package.json` has it. */
export const VERSION = "0.1.0";
/** Milliseconds without a sign of life after which a leader is asked for one, and then relieved. */
const PATIENCE = 5000;
/** Answers that are kept, for questions that are asked again. */
const KEPT = 256;
/** What forbids a sync whose tab doesn't answer: it doesn't even sign off. */
const GONE = "unmetered: the tab that has asked for this sync must say whether its conditions hold, and doesn't answer";

type Note =
  | { readonly type: "who" }
  | { readonly type: "leads"; readonly by: string; readonly terms: string; readonly born: number }
  | { readonly type: "ask"; readonly id: string; readonly method: Method; readonly args: readonly unknown[]; readonly conditions: boolean }
  | { readonly type: "may"; readonly id: string; readonly place: number }
  | { readonly type: "forbids"; readonly place: number; readonly id: string; readonly forbids: string }
  | { readonly type: "abort"; readonly id: string }
  | { readonly type: "ack"; readonly id: string; readonly by: string }
  | { readonly type: "answer"; readonly id: string; readonly value?: unknown; readonly error?: Told }
  | { readonly type: "resign"; readonly terms: string; readonly born: number }
  | { readonly type: "erased" };

interface Asked {
  readonly method: Method;
  readonly args: readonly unknown[];
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
  readonly abort: AbortController;
  readonly forbids: Forbids | undefined;
  timer: ReturnType<typeof setTimeout> | undefined;
  /** The leader that works on it, by the name of its turn. */
  by: string;
}

export class Leader implements Link {
  private readonly channel: BroadcastChannel;
  private readonly name: string;
  private readonly asked = new Map<string, Asked>();
  private readonly answers = new Map<string, { readonly answer: Promise<Note>; readonly abort: AbortController }>();
  private readonly conditions = new Map<number, { readonly id: string; readonly resolve: (forbids: string) => void }>();
  private questions = 0;
  private host: Host | null = null;
  private turn = "";
  private stealing = false;
  private erasing = false;
  private resign: () => void = () => undefined;
  private stopped: Error | null = null;
  private usurped = false;
  private known = false;
  /** Resolves when this tab no longer waits for the lock, nor has it. */
  private readonly over: Promise<void>;
  private waiting = new AbortController();
  /** Settles when this tab leads or knows who does, or can't. */
  private readonly ready: Promise<void>;
  private begun!: () => void;
  private failed!: (error: Error) => void;

  /**
   * @param app - its name.
   * @param terms - what the app says of the device, as text: the newest tab's hold for all.
   * @param open - opens the store's host, and makes the store if it may; otherwise it fails with `ErasedError` if there is none.
   */
  constructor(
    app: string,
    private readonly terms: string,
    private readonly open: (mayMake: boolean) => Promise<Host>,
    private readonly patience = PATIENCE,
    /** When this tab was opened: it may have agreed to nothing until now. */
    private readonly born = Date.now(),
    private readonly version = VERSION,
  ) {
    this.name = `palate/${app}`;
    this.channel = new BroadcastChannel(this.name);
    this.channel.onmessage = ({ data }: MessageEvent<unknown>) => this.heard(data);
    this.ready = new Promise((resolve, reject) => ([this.begun, this.failed] = [resolve, reject]));
    this.ready.catch(() => undefined);
    this.over = this.queue();
    this.say({ type: "who" });
  }

  /** Resolves when this tab leads or knows who does; fails if the store can't be opened. */
  async start(): Promise<void> {
    const relieve = setTimeout(() => !this.known && this.steal(), 2 * this.patience);
    try {
      await this.ready;
    } finally {
      clearTimeout(relieve);
    }
  }

  async call(method: Method, args: readonly unknown[], signal?: AbortSignal, forbids?: Forbids): Promise<unknown> {
    if (this.stopped) throw this.stopped;
    const id = crypto.randomUUID();
    return new Promise<unknown>((resolve, reject) => {
      const asked: Asked = { method, args, resolve, reject, abort: new AbortController(), forbids, timer: undefined, by: "" };
      this.asked.set(id, asked);
      if (signal?.aborted) asked.abort.abort(); // it says so only once
      signal?.addEventListener("abort", () => {
        asked.abort.abort();
        this.answers.get(id)?.abort.abort();
        this.say({ type: "abort", id });
      });
      this.ask(id, asked);
    });
  }

  async close(why: Error = new ClosedError("the device is closed")): Promise<void> {
    this.stop(why);
    await this.over;
    this.channel.close();
  }

  private say(note: Note): void {
    this.channel.postMessage({ ...note, version: this.version });
  }

  private stop(why: unknown): void {
    this.stopped ??= why instanceof Error ? why : new PalateError(String(why));
    this.waiting.abort();
    this.resign();
    for (const [id, { reject }] of this.asked) {
      this.settle(id);
      reject(this.stopped);
    }
    this.failed(this.stopped);
  }

  /** Waits for the lock, or takes it from who doesn't answer; leads, and waits again when it was relieved. */
  private async queue(): Promise<void> {
    while (!this.stopped) {
      const steal = this.stealing;
      [this.stealing, this.waiting] = [false, new AbortController()];
      try {
        await navigator.locks.request(this.name, steal ? { steal } : { signal: this.waiting.signal }, () => this.lead());
      } catch (error) {
        if (this.stopped) return;
        if (this.stealing) continue; // it waits no longer
        if (!(error instanceof DOMException && error.name === "AbortError")) {
          this.stop(error);
          return;
        }
        this.usurped = true;
      }
      // Another has the lock now: what this one still works on ends, and the store refuses what it writes.
      this.host?.abandon();
      this.host = null;
      this.resign();
    }
  }

  private steal(): void {
    if (this.usurped || this.turn) return;
    this.stealing = true;
    this.waiting.abort();
  }

  private async lead(): Promise<void> {
    if (this.stopped) return;
    const turn = (this.turn = crypto.randomUUID());
    this.stealing = false;
    await this.served();
    if (this.turn === turn) this.turn = "";
  }

  private async served(): Promise<void> {
    const over = new Promise<void>((resolve) => (this.resign = resolve));
    let host: Host;
    try {
      host = await this.open(!this.known); // a store that was there and is gone was erased
    } catch (error) {
      this.stop(error);
      return;
    }
    this.host = host;
    this.known = true;
    this.begun();
    this.leads();
    for (const [id, asked] of this.asked) this.ask(id, asked);
    await over;
    host.end();
    await Promise.allSettled([...this.answers.values()].map(({ answer }) => answer));
    if (this.host === host) this.host = null;
    await host.close().catch(() => undefined);
  }

  private leads(): void {
    this.say({ type: "leads", by: this.turn, terms: this.terms, born: this.born });
  }

  /** Asks this tab's own host, or the leader of another. */
  private ask(id: string, asked: Asked): void {
    clearTimeout(asked.timer);
    if (this.host) {
      void this.answer(id, asked.method, asked.args, asked.forbids).then((note) => this.take(note));
      return;
    }
    this.say({ type: "ask", id, method: asked.method, args: asked.args, conditions: asked.forbids !== undefined });
    if (asked.abort.signal.aborted) this.say({ type: "abort", id });
    this.wait(id, asked);
  }

  /** Asks for a sign of life after a while, and relieves a leader who gives none. */
  private wait(id: string, asked: Asked): void {
    clearTimeout(asked.timer);
    asked.timer = setTimeout(() => {
      this.say({ type: "who" });
      asked.timer = setTimeout(() => {
        if (this.usurped) this.settle(id)?.reject(new LockedError("another tab has taken the store over: reload this one"));
        else this.steal();
      }, this.patience);
    }, this.patience);
  }

  /** The answer to a question, which is worked out once. */
  private answer(id: string, method: Method, args: readonly unknown[], forbids?: Forbids): Promise<Note> {
    const known = this.answers.get(id);
    if (known) return known.answer;
    const [host, abort] = [this.host as Host, new AbortController()];
    if (this.asked.get(id)?.abort.signal.aborted) abort.abort();
    const answer = run(host, method, args, abort.signal, forbids).then(
      (value): Note => ({ type: "answer", id, value }),
      (error): Note => ({ type: "answer", id, error: toldOf(error) }),
    );
    this.answers.set(id, { answer, abort });
    if (this.answers.size > KEPT) this.answers.delete(this.answers.keys().next().value as string);
    this.erasing ||= method === "erase";
    void answer.then((note) => {
      const failed = "error" in note && note.error;
      if (method === "erase" && failed) this.erasing = false;
      if (method === "erase" ? failed : !failed || failed.code !== "erased" || this.erasing) return;
      // It is erased for all tabs, or was evicted: who wants a new, empty store opens one.
      this.say(note);
      this.say({ type: "erased" });
      if (this.asked.has(id)) this.take(note);
      this.stop(new ErasedError("the device's store was erased"));
    });
    return answer;
  }

  /** Asks the tab that has asked for a sync whether the app's conditions hold. One that is gone doesn't say so. */
  private forbidden(id: string): Promise<string> {
    return new Promise((resolve) => {
      const place = (this.questions += 1);
      const timer = setTimeout(() => this.told(place, GONE), this.patience);
      this.conditions.set(place, { id, resolve: (forbids) => (clearTimeout(timer), resolve(forbids)) });
      this.say({ type: "may", id, place });
    });
  }

  private told(place: number, forbids: string, id?: string): void {
    const asked = this.conditions.get(place);
    if (!asked || (id !== undefined && asked.id !== id)) return;
    this.conditions.delete(place);
    asked.resolve(forbids);
  }

  private settle(id: string): Asked | undefined {
    const asked = this.asked.get(id);
    clearTimeout(asked?.timer);
    this.asked.delete(id);
    return asked;
  }

  /** What another tab says, whatever it is. */
  private heard(data: unknown): void {
    const note = data as (Note & { readonly version?: unknown }) | null;
    if (typeof note?.version !== "string" || this.stopped) return;
    const later = note.version.localeCompare(this.version, "en", { numeric: true });
    if (later > 0) this.stop(new LockedError(`this tab has version ${this.version} of @palate/web, and another has ${note.version}: reload this one`));
    else if (later < 0) this.say({ type: "who" }); // so that it hears of this one
    else this.take(note);
  }

  private take(note: Note): void {
    switch (note.type) {
      case "who":
        if (this.host) this.leads();
        return;
      case "leads":
        this.known = true;
        this.begun();
        if (note.terms !== this.terms && note.born < this.born) this.say({ type: "resign", terms: this.terms, born: this.born });
        for (const [id, asked] of this.asked) {
          if (asked.by === note.by) this.wait(id, asked);
          else this.ask(id, asked);
        }
        return;
      case "resign":
        if (this.host && note.terms !== this.terms && note.born > this.born) this.resign();
        return;
      case "ask": {
        const host = this.host;
        if (!host) return;
        this.say({ type: "ack", id: note.id, by: this.turn });
        void this.answer(note.id, note.method, note.args, note.conditions ? () => this.forbidden(note.id) : undefined).then((answer) => {
          // One who was relieved meanwhile leaves the answer to its successor.
          if (this.host === host || !("error" in answer)) this.say(answer);
        });
        return;
      }
      case "may": {
        const asked = this.asked.get(note.id);
        if (!asked?.forbids) return;
        void asked.forbids().then((forbids) => this.say({ type: "forbids", id: note.id, place: note.place, forbids }));
        return;
      }
      case "forbids":
        this.told(note.place, note.forbids, note.id);
        return;
      case "erased":
        this.stop(new ErasedError("the device's store was erased"));
        return;
      case "abort":
        this.answers.get(note.id)?.abort.abort();
        return;
      case "ack": {
        const asked = this.asked.get(note.id);
        if (!asked) return;
        asked.by = note.by;
        this.wait(note.id, asked); // it may freeze in the middle of its work
        return;
      }
      case "answer": {
        const asked = this.asked.get(note.id);
        if (!asked) return;
        const lost = note.error && !this.host && (note.error.code === "locked" || note.error.code === "closed");
        if (lost && !this.stopped) {
          this.answers.delete(note.id);
          this.ask(note.id, asked); // of whoever leads now
          return;
        }
        this.settle(note.id);
        if (note.error) asked.reject(errorOf(note.error));
        else asked.resolve(note.value);
      }
    }
  }
}
