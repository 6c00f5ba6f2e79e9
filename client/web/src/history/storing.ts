/** Storing: what a store does for an imported history; it is where the store is, and a preview is where the file was picked. */

import { eventOf, LINES, type EventInput } from "../events.js";
import type { EventStore } from "../store/store.js";

/** What a preview has to know of a store. */
export interface Terms {
  /** Seconds since 1970, and the time before which a history's events are too old. */
  readonly now: number;
  readonly oldest: number;
  /** How many events an import may have. */
  readonly most: number;
}

/** What became of the events of an import. */
export interface HistoryReport {
  /** The import's number, for `forgetImport`; null: nothing was stored. */
  readonly id: number | null;
  readonly stored: number;
  readonly duplicates: number;
  /** Events that are older than `keepHistoryDays`. */
  readonly tooOld: number;
  /** The oldest events, above half of `maxEvents`. */
  readonly tooMany: number;
  /** Events without consent to `store`. */
  readonly notStored: number;
}

/** An import that is in the store. */
export interface Import {
  readonly id: number;
  readonly service: string;
  /** When it was imported, seconds since 1970. */
  readonly time: number;
  /** How many of its events are left. */
  readonly events: number;
}

/** What a preview, or the app, asks for, of which events or import, and of which service. */
export type HistoryAsked = [what: "terms" | "add" | "list" | "forget", given?: unknown, service?: string];

/** Does it. */
export async function history(store: EventStore, ...[what, given, service = ""]: HistoryAsked): Promise<unknown> {
  if (what === "forget") return forgotten(store, given as number);
  if (what === "list") return listed(store);
  if (what === "terms") return { now: store.clock(), oldest: store.oldest(LINES + 1), most: Math.floor(store.limits.maxEvents / 2) } satisfies Terms;
  const asked = (given as readonly EventInput[]).map((each) => ({ event: eventOf(each), nonce: each.id as string }));
  const { outcomes, id } = await store.adding(asked, 0, service);
  const [stored, duplicates, tooOld, notStored] = (["stored", "duplicate", "too old", "no consent"] as const).map((each) => outcomes.filter((outcome) => outcome === each).length);
  return { id, stored, duplicates, tooOld, notStored };
}

async function forgotten(store: EventStore, id: number): Promise<number> {
  const gone = new Set(store.rows.filter(({ imported }) => imported > LINES && imported === id).map(({ seq }) => seq));
  await store.forget(gone);
  return gone.size;
}

function listed(store: EventStore): Import[] {
  const found = new Map<number, Import>();
  for (const { imported: id, received } of store.rows) {
    if (id <= LINES) continue;
    const { time = Infinity, events = 0 } = found.get(id) ?? {};
    found.set(id, { id, service: store.imports[id] ?? "", time: Math.min(time, received), events: events + 1 });
  }
  return [...found.values()].sort((one, other) => one.id - other.id);
}
