/**
 * Portability: exports all of the user's data as lines of JSON, and imports events from such lines.
 *
 *     {"palate": "export", "format": 1, "app": "bookshop", "time": 1767225600}
 *     {"type": "consent", "purpose": "store", "granted": true, "version": "1", "time": 1767225500}
 *     {"type": "event", "kind": "rate", "item": "book-7", "time": 1767225550, "value": 4, "source": "online", "id": "1"}
 *
 * The lines are those of Python's device, and each reads the other's. An export is not encrypted.
 */

import { InputError } from "./errors.js";
import { checkKind, eventFrom, LINES, plain, type Event } from "./events.js";
import type { DeliveryRecord } from "./delivery/record.js";
import type { PrivacyReport } from "./hosting/report.js";
import type { EventStore } from "./store/store.js";

const FORMAT = 1;
const MAX_LINE = 2 ** 16;
const MOST_PROBLEMS = 1000;
const BATCH = 25;
/** How the id of an event begins that came with a history of another service, see `history/preview.ts`. */
const HISTORY = "history-";
/** Types of lines of an export that are no events and belong to its device: an import skips them. */
const OWN = [
  "consent", "outcome", "profile", "reset", "first", "sent", "refusal", "model", "contact", "participation", "channel", "delivery",
  "problem", "unread", "opened",
];

/** The result of an import. The numbers add up to the lines that aren't empty. */
export interface ImportReport {
  readonly stored: number;
  readonly duplicates: number;
  /** Events that were not stored, as they are older than `keepDays`. */
  readonly tooOld: number;
  /** Events that were not stored, as the user has not agreed to `store`. */
  readonly notStored: number;
  /** Lines of an export that are no events. */
  readonly skipped: number;
  /** All other lines, by their number from 1, and why. */
  readonly problems: readonly { readonly line: number; readonly reason: string }[];
}

/** The lines of the store, of what took part and of messages, oldest first within each type. */
export function exportLines(store: EventStore, report: PrivacyReport, messages: DeliveryRecord): string[] {
  const lines: object[] = [{ palate: "export", format: FORMAT, app: report.app, time: store.clock() }];
  const add = (type: string, entries: readonly object[]): void => entries.forEach((each) => lines.push({ type, ...each }));
  for (const { purpose, granted, version, time } of store.decisions) lines.push({ type: "consent", purpose, granted, version, time });
  for (const [source, [shown, liked]] of Object.entries(store.counts)) if (source !== "lately") lines.push({ type: "outcome", source, shown, liked });
  if (store.profile) lines.push({ type: "profile", answers: store.profile });
  if (store.reset) lines.push({ type: "reset", events: store.reset });
  if (store.first !== null) lines.push({ type: "first", time: store.first });
  add("event", store.rows.map(plain));
  add("participation", report.spending?.receipts ?? []);
  add("sent", report.sent);
  add("refusal", report.refusals);
  add("model", report.models);
  add("contact", report.contacts);
  add("opened", report.opened);
  add("channel", messages.allowances());
  add("delivery", messages.all());
  return lines.map((line) => JSON.stringify(line));
}

/** Stores the events of lines of JSON, of kinds that the device knows. The same lines may be imported again. */
export async function importLines(store: EventStore, text: string, known: readonly string[]): Promise<ImportReport> {
  let [stored, duplicates, tooOld, notStored, skipped] = [0, 0, 0, 0, 0];
  const problems: { line: number; reason: string }[] = [];
  let [batch, into] = [[] as Event[], 0];
  const deliver = async () => {
    const parts = [false, true].map((history) => batch.filter(({ id }) => id.startsWith(HISTORY) === history).map((event) => ({ event, nonce: event.id })));
    const made = parts[1].length ? await store.adding(parts[1], into, into ? "" : "export") : { outcomes: [], id: null };
    into = made.id ?? into; // it keeps its own rule of retention
    for (const outcome of [...(parts[0].length ? await store.add(parts[0], LINES) : []), ...made.outcomes]) {
      stored += Number(outcome === "stored");
      duplicates += Number(outcome === "duplicate");
      tooOld += Number(outcome === "too old");
      notStored += Number(outcome === "no consent");
    }
    batch = [];
  };
  for (const [place, line] of text.split("\n").entries()) {
    if (!line.replace(/[ \t\r\ufeff]/g, "")) continue;
    try {
      const event = await read(line);
      if (event) batch.push(checkKind(event, known));
      else skipped += 1;
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      problems.push({ line: place + 1, reason: error.message });
      if (problems.length > MOST_PROBLEMS) throw new InputError(`the lines must be events, got more than ${MOST_PROBLEMS} that are none, the first is line ${problems[0].line}: ${problems[0].reason}`);
    }
    if (batch.length === BATCH) await deliver();
  }
  if (batch.length) await deliver();
  return { stored, duplicates, tooOld, notStored, skipped, problems };
}

/** The event on a line; null for an export's other lines. */
async function read(line: string): Promise<Event | null> {
  if (line.length > MAX_LINE) throw new InputError(`a line must be at most ${MAX_LINE} characters, got more`);
  let fields: unknown;
  try {
    fields = JSON.parse(line.replace(/^\ufeff/, ""));
  } catch (error) {
    throw new InputError(`a line must be a JSON object, got ${String(error).slice(0, 80)}`);
  }
  if (typeof fields !== "object" || fields === null || Array.isArray(fields)) throw new InputError("a line must be a JSON object");
  const { type, ...rest } = fields as Record<string, unknown>;
  const kind = type ?? ("palate" in rest ? "header" : "event");
  if (kind === "header" && rest.format !== FORMAT) throw new InputError(`an export must be of format ${FORMAT}, got ${String(rest.format).slice(0, 40)}`);
  if (kind === "header" || OWN.includes(kind as string)) return null;
  if (kind !== "event") throw new InputError(`\`type\` must be event, got ${String(kind).slice(0, 80)}`);
  return eventFrom(rest);
}
