/**
 * Event: one thing the user did with an item. The first step of the path on a device.
 *
 *     Event -> EventStore -> Interests -> user vector
 *
 * How much an event counts is decided elsewhere: see `weighting.ts`.
 */

import { InputError } from "./errors.js";
import { KINDS, meaningOf, type EventKind } from "./kinds.js";

export type Source = "online" | "offline";
/** What `imported` has of an event that was tracked. */
export const TRACKED = 0;
/** The same of one on a line of JSON; a higher number is that of an import of a history. */
export const LINES = 1;

/** What was done with an event. */
export type Tracked =
  /** It is in the store, and stays there if the tab is closed now. */
  | "stored"
  /** The store has it already: the same id, or the same item, kind and rating at most the time window apart. */
  | "duplicate"
  /** The user has not agreed to `store`; nothing was kept. */
  | "no consent"
  /** The limit of events of its day is reached; it was not kept. */
  | "limited"
  /** Its own time is older than the store keeps events; it was not kept. */
  | "too old"
  /** The browser could not keep it (no room, no storage); `Device.problem` says why. */
  | "failed";

const [MAX_ITEM, MAX_ID, MAX_PROPS, MAX_DEPTH] = [512, 128, 4096, 16];
const FIELDS = ["kind", "item", "time", "value", "source", "id", "props"] as const;
const LONE = /[\ud800-\udfff]/u;

/** One thing the user did. */
export interface EventInput {
  /** One of `KINDS`, or one that the device's `preset` declares. */
  readonly kind: EventKind;
  /** The item's id in the app's catalogue; of a search what was looked for. */
  readonly item: string;
  /** When, in seconds since 1970, or a `Date`; left out: now. */
  readonly time?: number | Date | null;
  /** Seconds of a view or play, the verdict of a rate, the pieces of a purchase, how good a comment says the item to be, from -1 to 1. */
  readonly value?: number | null;
  /** "online": in the app; "offline": elsewhere, as at a shop's till. */
  readonly source?: Source;
  /** The app's own id of the event; an id is stored only once. */
  readonly id?: string;
  /** Other properties that the app wants to keep, as JSON. */
  readonly props?: Readonly<Record<string, unknown>> | null;
}

/** An event that was checked. */
export interface Event {
  readonly kind: EventKind;
  readonly item: string;
  readonly time: number | null;
  readonly value: number | null;
  readonly source: Source;
  readonly id: string;
  readonly props: Readonly<Record<string, unknown>> | null;
}

/** A stored event. */
export interface Row extends Event {
  /** Its number; later ones have higher numbers. */
  readonly seq: number;
  /** When it was tracked, seconds since 1970. */
  readonly received: number;
  /** `TRACKED`, or whether it came from a file: `LINES`, or the number of the import of a history. */
  readonly imported: number;
}

/** The event, checked. */
export function eventOf(given: EventInput): Event {
  const { kind, item, time = null, value = null, source = "online", id = "", props = null } = given;
  if (typeof kind !== "string" || !/^[a-z][a-z0-9_ ]{0,39}$/.test(kind)) throw noKind(KINDS, kind);
  if (source !== "online" && source !== "offline") throw new InputError(`\`source\` must be online or offline, got ${shown(source)}`);
  checkText("item", item, 1, MAX_ITEM);
  if (id !== "") checkText("id", id, 1, MAX_ID);
  if (value !== null || meaningOf(kind).needed) checkValue(kind, value);
  if (props !== null) checkProps(props);
  return { kind, item, time: time === null ? null : seconds(time), value, source, id, props };
}

/** An event of the members of a JSON object; a time may be ISO 8601 with a time zone. It has an id. */
export async function eventFrom(fields: Readonly<Record<string, unknown>>): Promise<Event> {
  const unknown = Object.keys(fields).find((name) => !(FIELDS as readonly string[]).includes(name));
  if (unknown !== undefined) throw new InputError(`an event must have no other members than ${FIELDS.join(", ")}, got ${shown(unknown)}`);
  for (const name of ["kind", "item"]) if (fields[name] == null) throw new InputError(`an event must have \`${name}\``);
  const given = typeof fields.time === "string" ? { ...fields, time: moment(fields.time) } : fields;
  const event = eventOf(given as unknown as EventInput);
  if (event.id) return event;
  // A file that is read twice is stored once: without an id, an event has that of its content.
  const content = new TextEncoder().encode(JSON.stringify([event.kind, event.item, event.time, event.value, event.source, sorted(event.props)]));
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", content)).subarray(0, 16);
  return { ...event, id: `content-${Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("")}` };
}

/** The event's members for a line of JSON, as `eventFrom` reads them; those without a value are left out. */
export function plain(event: Event): Record<string, unknown> {
  const members = FIELDS.map((name) => [name, event[name]] as const);
  return Object.fromEntries(members.filter(([, value]) => value !== null && value !== ""));
}

/** Seconds since 1970. */
export function seconds(time: number | Date): number {
  const found = time instanceof Date ? time.getTime() / 1000 : time;
  if (typeof found !== "number" || !(found > -1e11 && found < 1e11)) throw new InputError(`\`time\` must be seconds since 1970 or a Date, got ${shown(time)}`);
  return found;
}

/** A value in an error message. */
export function shown(value: unknown): string {
  return (typeof value === "string" ? JSON.stringify(value) : String(value)).slice(0, 80);
}

/** Refuses text of another length, and text that is no Unicode. */
export function checkText(name: string, text: unknown, least: number, most: number): asserts text is string {
  const length = typeof text === "string" ? [...text].length : -1;
  if (length < least || length > most) throw new InputError(`\`${name}\` must be text of ${least} to ${most} characters, got ${shown(text)}`);
  if (LONE.test(text as string)) throw new InputError(`\`${name}\` must be valid text, got a lone surrogate`);
}

function moment(text: string): number {
  const found = Date.parse(text);
  const zoned = /^\d{4}-\d\d-\d\d$|(Z|[+-]\d\d:?\d\d)$/.test(text);
  if (Number.isNaN(found) || !zoned) throw new InputError(`\`time\` must be seconds since 1970 or ISO 8601 with a time zone, got ${shown(text)}`);
  return found / 1000;
}

/** Refuses an event of a kind that the device doesn't record, such as one with a typing mistake. */
export function checkKind(event: Event, known: readonly string[]): Event {
  if (!known.includes(event.kind)) throw noKind(known, event.kind);
  return event;
}

function noKind(known: readonly string[], kind: unknown): InputError {
  return new InputError(`\`kind\` must be one of ${known.join(", ")}, or one that \`preset\` declares, got ${shown(kind)}`);
}

function checkValue(kind: string, value: unknown): void {
  const { value: means, bounds: [least, most] = [0, Number.MAX_VALUE], whole } = meaningOf(kind);
  if (!means) throw new InputError(`\`value\` must be left out for ${kind}, got ${shown(value)}`);
  if (typeof value !== "number" || !(value >= least && value <= most) || (whole && !Number.isInteger(value)))
    throw new InputError(`\`value\` of ${kind} must be ${means}, got ${shown(value)}${whole ? ": a price is `props.amount`" : ""}`);
}

/** Refuses properties that are no JSON object, too large, or nested too deep. */
function checkProps(props: unknown): void {
  if (typeof props !== "object" || Array.isArray(props)) throw new InputError(`\`props\` must be a JSON object, got ${shown(props)}`);
  let level: unknown[] = [props];
  for (let depth = 0; depth < MAX_DEPTH; depth += 1) {
    level = level.flatMap((each) => (typeof each === "object" && each !== null ? Object.values(each) : []));
    if (level.length > MAX_PROPS) throw new InputError(`\`props\` must be at most ${MAX_PROPS} bytes of JSON, got more`);
  }
  if (level.some((each) => typeof each === "object" && each !== null)) throw new InputError(`\`props\` must be nested at most ${MAX_DEPTH} deep, got more levels`);
  if (new TextEncoder().encode(JSON.stringify(props)).length > MAX_PROPS) throw new InputError(`\`props\` must be at most ${MAX_PROPS} bytes of JSON, got more`);
}

/** The same with members in order, so that equal contents have equal text. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).sort(([one], [other]) => (one < other ? -1 : 1)).map(([name, each]) => [name, sorted(each)]));
}
