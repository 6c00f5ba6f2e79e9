/**
 * EventStore: one user's events on this device, sealed. Second step of the path on a device.
 *
 *     Event -> EventStore -> Interests
 *
 * There is no queue: an event is on the disk when `add` resolves. All events are in memory as well; the store is small, and one
 * device has it.
 *
 * **Guarantees:** events that `add` reports as stored survive the end of the tab, the browser and the power; an event is
 * stored once, also if it is asked for again after an answer was lost; without the user's consent nothing is stored.
 */

import { DAY, SET_CLOCK } from "../clock.js";
import { IntegrityError, PalateError } from "../errors.js";
import { LINES, TRACKED, type Event, type Row, type Source, type Tracked } from "../events.js";
import { textOf, utf8 } from "../records/bytes.js";
import { excess, retentionTime, timeOf, tooOld, type Limits } from "./retention.js";
import type { Sealed } from "./sealed.js";
import { turns } from "./turns.js";

/** Events of one record: it is written anew with each event until it is full. */
const PAGE = 64;
/** Number of events, those that were stored last, among which a duplicate is looked for. */
const KNOWN = 4096;
/** Stored events after which the size is checked. */
const CHECKED_EVERY = 256;
const [EVENTS, META, CONSENT, GRANTED] = ["events/", "meta", "consent", "granted/"];

/** An event to store, and a random id that makes asking again harmless. */
export interface Asked {
  readonly event: Event;
  readonly nonce: string;
}

/** One decision of the user. */
export interface Decision {
  readonly purpose: string;
  readonly granted: boolean;
  /** Version of the text that the user agreed to, or refused. */
  readonly version: string;
  /** When, seconds since 1970. */
  readonly time: number;
  readonly nonce?: string;
}

/** Numbers beside the events. */
interface Meta {
  /** Changes when events were dropped or the taste was reset: whatever was computed from them starts again. */
  readonly generation: number;
  /** Number of the last event before the taste's last reset. */
  readonly reset: number;
  /** Number of the last event that there ever was. */
  readonly last: number;
  /** Time of the user's first event, if it was deleted since. */
  readonly first: number | null;
  /** What `retentionTime` gave last. */
  readonly believed: number | null;
  readonly leapt: number | null;
  /** Reactions to recommendations, see `recommend/adaptation/blending.ts`. */
  readonly counts: Readonly<Record<string, readonly [number, number]>>;
  /** Number of an import of a history -> the service that it is from. */
  readonly imports: Readonly<Record<number, string>>;
  /** What the user said of themselves, see `recommend/facts/profile.ts`; null: nothing. */
  readonly profile: Readonly<Record<string, readonly string[]>> | null;
}

interface Page {
  readonly name: string;
  readonly rows: readonly Row[];
  readonly bytes: number;
}

const START: Meta = { generation: 0, reset: 0, last: 0, first: null, believed: null, leapt: null, counts: {}, imports: {}, profile: null };

export class EventStore {
  /** All events, oldest first. */
  rows: readonly Row[] = [];
  private pages: Page[] = [];
  private meta: Meta = START;
  private decided: readonly Decision[] = [];
  /** Purposes that are denied whatever was written, each with the number of the decision that says so. */
  private readonly denied = new Map<string, number>();
  private asked = 0;
  /** What is denied beside the records, as it couldn't be written to them; and whether there is a place for that. */
  private readonly apart = new Set<string>();
  private laid = false;
  private left = false;
  private readonly ids = new Set<string>();
  /** Made when it is needed. */
  private recent: Recent | null = null;
  private sinceCheck = 0;
  /** When old events were deleted last, and from before which time they are too old. */
  private tidied = -Infinity;
  private believed = -Infinity;
  private readonly exclusive = turns();

  private constructor(
    readonly storage: Sealed,
    readonly limits: Limits,
    readonly clock: () => number,
  ) {}

  static async open(storage: Sealed, limits: Limits, clock: () => number): Promise<EventStore> {
    const store = new EventStore(storage, limits, clock);
    await store.load();
    await store.clean();
    return store;
  }

  /** Deletes events that are too old, once a day: at opening, when events are stored, and before a sync. */
  async tidy(): Promise<void> {
    await this.exclusive(() => this.clean());
  }

  get generation(): number {
    return this.meta.generation;
  }

  get reset(): number {
    return this.meta.reset;
  }

  get first(): number | null {
    return this.meta.first;
  }

  get counts(): Meta["counts"] {
    return this.meta.counts;
  }

  get profile(): Meta["profile"] {
    return this.meta.profile;
  }

  get imports(): Meta["imports"] {
    return this.meta.imports;
  }

  /** From before which time events are too old, by what their `imported` is. */
  oldest(imported: number): number {
    return this.believed - (imported > LINES ? this.limits.keepHistoryDays : this.limits.keepDays) * DAY;
  }

  /** All decisions that were written, oldest first. */
  get decisions(): readonly Decision[] {
    return this.decided;
  }

  /** Whether the user agrees to a purpose; false if they never decided, or if a revocation could not be written. */
  granted(purpose: string): boolean {
    return !this.left && !this.denied.has(purpose) && !!this.decided.filter((each) => each.purpose === purpose).at(-1)?.granted;
  }

  /** Whether the user still agrees, as it is on the disk, and the store is still this tab's: another may have revoked it. */
  async agreed(purpose: string): Promise<boolean> {
    try {
      const there = (await this.storage.get(GRANTED + purpose)) !== undefined;
      await this.storage.write(new Map()); // refused if another tab has taken the store over
      return there && this.granted(purpose);
    } catch (error) {
      if (error instanceof PalateError) return false;
      throw error;
    }
  }

  /** From now on nobody agrees to anything: the store is erased, closed, or another's. */
  leave(): void {
    this.left = true;
  }

  /** Stores events, all that are valid or, if the machine fails, none. */
  async add(asked: readonly Asked[], imported = TRACKED): Promise<Tracked[]> {
    return (await this.adding(asked, imported)).outcomes;
  }

  /** Stores events, see `add`: as those of a history with a service, of which the import gets a number, if any is stored. */
  async adding(asked: readonly Asked[], imported: number, service = ""): Promise<{ readonly outcomes: Tracked[]; readonly id: number | null }> {
    return this.exclusive(async () => {
      await this.clean();
      if (!this.granted("store")) return { outcomes: asked.map(() => "no consent" as const), id: null };
      const imports = { ...this.meta.imports };
      if (service) imports[(imported = Math.max(LINES, ...Object.keys(imports).map(Number)) + 1)] = service;
      const [rows, outcomes, now] = [[] as Row[], [] as Tracked[], this.clock()];
      const taken = new Set<string>();
      for (const each of asked) outcomes.push(this.accepted(each, rows, taken, now, imported));
      if (!rows.length) return { outcomes, id: null };
      try {
        const pages = paged(this.pages, rows);
        const changes = new Map(pages.map((page) => [page.name, utf8(packed(page.rows))]));
        if (service) changes.set(META, utf8(JSON.stringify({ ...this.meta, imports })));
        await this.storage.write(changes);
        this.meta = { ...this.meta, imports };
        this.pages = [...this.pages.filter(({ name }) => !pages.some((page) => page.name === name)), ...pages];
        this.took(rows);
      } catch (error) {
        this.recent = null;
        throw error;
      }
      this.sinceCheck += rows.length;
      if (this.rows.length > this.limits.maxEvents || this.sinceCheck >= CHECKED_EVERY) {
        this.sinceCheck = 0;
        await this.drop(excess(this.rows, this.bytes, this.limits)).catch(() => undefined); // the next check will do
      }
      return { outcomes, id: imported };
    });
  }

  /** Deletes events, by their numbers. */
  async forget(gone: ReadonlySet<number>): Promise<void> {
    await this.exclusive(() => this.drop(gone));
  }

  /**
   * Records a decision; it is on the disk when this resolves. A revocation holds at once. Where it can't be written, it is denied beside
   * the records, so that it holds after the next opening, too.
   */
  async decide(decision: Decision): Promise<void> {
    const { purpose, granted, nonce } = decision;
    const known = () => nonce !== undefined && this.decided.some((each) => each.nonce === nonce); // asked again
    if (known()) return;
    const mine = (this.asked += 1);
    if (!granted) this.denied.set(purpose, mine);
    await this.exclusive(async () => {
      if (known()) return;
      const decided = [...this.decided, decision];
      const changes = new Map<string, Uint8Array | null>([[CONSENT, utf8(JSON.stringify(decided))]]);
      try {
        if (granted) {
          this.laid ||= await this.storage.deny(grantsOf(this.apart)); // while there is room
          changes.set(GRANTED + purpose, Uint8Array.of(Number(this.laid)));
        } else await this.storage.write(new Map([[GRANTED + purpose, null]]), true); // needs less room: the grant's own record goes first
        await this.storage.write(changes, true);
      } catch (error) {
        if (!granted && (error as PalateError).code === "failed") this.laid = await this.storage.deny(grantsOf(this.apart.add(purpose)));
        throw error;
      }
      this.decided = decided;
      if (!granted) return;
      if (this.apart.has(purpose)) {
        const others = grantsOf(this.apart).filter((name) => name !== GRANTED + purpose);
        if (this.laid && !(await this.storage.deny(others))) throw new PalateError("the grant can't be written beside the records, where it was denied: say it again");
        this.apart.delete(purpose);
      }
      // One that was asked for meanwhile holds.
      if ((this.denied.get(purpose) ?? 0) < mine) this.denied.delete(purpose);
    });
  }

  /** From now on ignores earlier events, and reactions, for the user's taste. */
  async resetTaste(): Promise<void> {
    await this.exclusive(() => this.note({ reset: this.meta.last, counts: {}, profile: null, generation: this.meta.generation + 1 }));
  }

  /** Changes the counts of reactions, if the user agreed to `store`. */
  async count(change: (counts: Meta["counts"]) => Meta["counts"]): Promise<void> {
    await this.exclusive(async () => {
      if (this.granted("store")) await this.note({ counts: change(this.meta.counts) });
    });
  }

  /** Keeps a profile, if the user agreed to `store`; an empty one forgets it. */
  async keepProfile(profile: NonNullable<Meta["profile"]>): Promise<void> {
    const kept = this.granted("store") && Object.keys(profile).length ? profile : null;
    await this.exclusive(() => this.note({ profile: kept }));
  }

  private get bytes(): number {
    return this.pages.reduce((total, page) => total + page.bytes, 0);
  }

  private async load(): Promise<void> {
    const pages = await this.storage.keys(EVENTS);
    const found = await this.storage.many([META, CONSENT, ...pages]);
    this.meta = { ...START, ...(parsed(META, found.get(META)) as Partial<Meta> | undefined) };
    this.decided = (parsed(CONSENT, found.get(CONSENT)) ?? []) as Decision[];
    const names = grantsOf(new Set(this.decided.map(({ purpose }) => purpose)));
    const [grants, apart] = [await this.storage.many(names), await this.storage.denied(names)];
    this.laid = apart !== null;
    for (const { purpose } of this.decided) {
      const [name, laid] = [GRANTED + purpose, grants.get(GRANTED + purpose)?.[0]];
      // A grant that is gone is a denial, and so is a place beside the records that was laid in with it and can't be read.
      if (apart ? apart.includes(name) : laid) this.apart.add(purpose);
      if (laid === undefined || this.apart.has(purpose)) this.denied.set(purpose, 0);
    }
    for (const name of pages) {
      const data = found.get(name) as Uint8Array;
      this.pages.push({ name, rows: unpacked(name, data), bytes: data.length });
    }
    this.meta = { ...this.meta, last: Math.max(this.meta.last, this.pages.at(-1)?.rows.at(-1)?.seq ?? 0) };
    this.restart();
  }

  private async clean(): Promise<void> {
    const [now, { believed: before, leapt: leap }] = [this.clock(), this.meta];
    if (now < SET_CLOCK || (now - this.tidied >= 0 && now - this.tidied < DAY)) return;
    const [believed, leapt] = retentionTime(now, before, leap);
    this.believed = believed;
    if (before !== null && believed - before >= 0 && believed - before < DAY && leapt === leap) {
      this.tidied = leapt === null ? before : now;
      return;
    }
    try {
      await this.note({ believed, leapt });
      await this.drop(tooOld(this.rows, (imported) => this.oldest(imported)));
      this.tidied = now;
      await this.storage.reserve();
    } catch {
      // A full disk must not keep the user from their data: the next time will do.
    }
  }

  private accepted({ event, nonce }: Asked, rows: Row[], taken: Set<string>, now: number, imported: number): Tracked {
    const [id, set] = [event.id || nonce, now >= SET_CLOCK];
    if (this.ids.has(id) || taken.has(id)) return event.id ? "duplicate" : "stored"; // the answer was lost
    const time = event.time === null ? (set && imported <= LINES ? now : null) : set ? Math.min(event.time, now) : event.time;
    const row = { ...event, id, time, seq: this.meta.last + rows.length + 1, received: now, imported };
    const recent = (this.recent ??= new Recent(this.rows, this.limits));
    if (!event.id && recent.repeats(row)) return "duplicate";
    if (event.time !== null && timeOf(row) < this.oldest(imported)) return "too old";
    if (!imported && recent.full(row)) return "limited";
    taken.add(id);
    rows.push(row);
    recent.add(row);
    return "stored";
  }

  private took(rows: readonly Row[]): void {
    this.rows = this.rows.length ? this.rows.concat(rows) : rows;
    for (const row of rows) this.ids.add(row.id);
    this.meta = { ...this.meta, last: rows[rows.length - 1].seq };
  }

  /** Deletes events, and starts a new generation. */
  private async drop(gone: ReadonlySet<number>): Promise<void> {
    if (!gone.size) return;
    const times = this.rows.filter((row) => row.kind !== "impression" && row.imported <= LINES && row.time !== null).map((row) => row.time as number);
    const oldest = times.reduce((least, time) => Math.min(least, time), this.meta.first ?? Infinity);
    const meta = { ...this.meta, generation: this.meta.generation + 1, first: Number.isFinite(oldest) ? oldest : null };
    const changes = new Map<string, Uint8Array | null>([[META, utf8(JSON.stringify(meta))]]);
    const pages: Page[] = [];
    for (const page of this.pages) {
      const rows = page.rows.filter((row) => !gone.has(row.seq));
      if (rows.length === page.rows.length) pages.push(page);
      else if (!rows.length) changes.set(page.name, null);
      else {
        const text = packed(rows);
        changes.set(page.name, utf8(text));
        pages.push({ name: page.name, rows, bytes: text.length });
      }
    }
    await this.storage.write(changes);
    [this.meta, this.pages] = [meta, pages];
    this.restart();
  }

  private restart(): void {
    this.rows = this.pages.flatMap((page) => page.rows);
    this.ids.clear();
    for (const row of this.rows) this.ids.add(row.id);
    this.recent = null;
  }

  private async note(changed: Partial<Meta>): Promise<void> {
    const meta = { ...this.meta, ...changed };
    await this.storage.write(new Map([[META, utf8(JSON.stringify(meta))]]));
    this.meta = meta;
  }
}

/** The latest events, by their own times, to recognise duplicates and days with too many. */
class Recent {
  private readonly days = new Map<number, number>();
  /** Of a kind, an item and a piece of time as long as the window: the latest event in it. The newest of them last. */
  private readonly latest = new Map<string, Row>();

  constructor(
    rows: readonly Row[],
    private readonly limits: Limits,
  ) {
    for (const [at, row] of rows.entries()) this.add(row, at >= rows.length - KNOWN);
  }

  add(row: Row, late = true): void {
    const [day, piece] = [dayOf(row), this.piece(row)];
    if (!row.imported) this.days.set(day, (this.days.get(day) ?? 0) + 1);
    if (!late) return;
    this.latest.delete(piece);
    this.latest.set(piece, row);
    if (this.latest.size > KNOWN) this.latest.delete(this.latest.keys().next().value as string);
  }

  /** Whether the same event on the item is within the window; another rating than the nearest one is not the same. */
  repeats(row: Row): boolean {
    const away = (each: Row) => Math.abs(timeOf(each) - timeOf(row));
    const near = [-1, 0, 1].flatMap((pieces) => this.latest.get(this.piece(row, pieces)) ?? []).sort((one, other) => away(one) - away(other))[0];
    return near !== undefined && away(near) < this.limits.windowSeconds && (row.kind !== "rate" || row.value === near.value);
  }

  full(row: Row): boolean {
    return (this.days.get(dayOf(row)) ?? 0) >= this.limits.maxPerDay;
  }

  private piece(row: Row, away = 0): string {
    return `${Math.floor(timeOf(row) / (this.limits.windowSeconds || 1)) + away} ${row.kind} ${row.item}`;
  }
}

function dayOf(row: Row): number {
  return Math.floor(timeOf(row) / DAY);
}

/** The pages that change when rows are added: the last one, while it has room, and new ones. */
function paged(pages: readonly Page[], added: readonly Row[]): Page[] {
  const made: Page[] = [];
  const open = pages.at(-1);
  let rest = [...added];
  const push = (name: string, rows: readonly Row[]) => made.push({ name, rows, bytes: packed(rows).length });
  if (open && open.rows.length < PAGE) push(open.name, [...open.rows, ...rest.splice(0, PAGE - open.rows.length)]);
  for (; rest.length; rest = rest.slice(PAGE)) push(EVENTS + String(rest[0].seq).padStart(15, "0"), rest.slice(0, PAGE));
  return made;
}

/** The names of the records of some purposes' grants. */
function grantsOf(purposes: ReadonlySet<string>): string[] {
  return [...purposes].map((purpose) => GRANTED + purpose);
}

function packed(rows: readonly Row[]): string {
  return JSON.stringify(rows.map((row) => [row.seq, row.id, row.kind, row.item, row.time, row.received, row.value, row.source, row.props, row.imported]));
}

function unpacked(name: string, data: Uint8Array): Row[] {
  const rows = parsed(name, data) as [number, string, Row["kind"], string, number | null, number, number | null, Source, Row["props"], number][];
  return rows.map(([seq, id, kind, item, time, received, value, source, props, imported]) => ({ seq, id, kind, item, time, received, value, source, props, imported }));
}

function parsed(name: string, data: Uint8Array | undefined): unknown {
  if (data === undefined) return undefined;
  try {
    return JSON.parse(textOf(data));
  } catch {
    throw new IntegrityError(`the record ${name} of the store is damaged`);
  }
}
