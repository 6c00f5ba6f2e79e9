/**
 * Testing: for an app's own tests, a real device in memory, a made clock and a made model; in Node and in browsers, without network.
 *
 *     const device = await testing.device({ shelves: [["tea-1", "tea-2"], ["cup-1", "cup-2"]] });
 *     await device.track("like", "tea-1");
 *     (await device.recommend(1, { explore: 0 }))[0].item === "tea-2"
 *
 * The device is the one that users have: its store, consents, limits, lists and reasons. It takes part in no round, which a store in
 * memory never does: rounds are tried with Python's `palate.testing.Server`, or at `palate serve run --dev`.
 */

import { Device } from "../device.js";
import { InputError } from "../errors.js";
import type { Purpose } from "../consent.js";
import { Host, type HostOptions } from "./host.js";
import { direct } from "./link.js";
import { catalogueHash } from "../models/manifest.js";
import { concat, u32, utf8 } from "../records/bytes.js";
import { canonicalJson, type Json } from "../records/canonical.js";
import { openMemory } from "../store/memory.js";

/** Where a made clock begins, in seconds since 1970: 15 January 2027, 08:00 UTC. */
export const NOW = 1_800_000_000;
const SECONDS = { days: 86_400, hours: 3600, minutes: 60, seconds: 1 } as const;

/** A clock that stands still until it is told to move. */
export class Clock {
  constructor(
    /** Seconds since 1970. */
    public now = NOW,
  ) {}

  /** Moves it. */
  advance(by: Partial<Record<keyof typeof SECONDS, number>>): void {
    for (const [unit, count] of Object.entries(by)) this.now += SECONDS[unit as keyof typeof SECONDS] * count;
  }
}

/** What `device` takes, beside what `open` does. */
export interface TestingOptions extends Partial<HostOptions> {
  /** What the user has agreed to; left out: to `store`. */
  readonly consents?: readonly Purpose[];
  /** The catalogue: items of a shelf belong together, and the first are a little more popular. Left out: the device has no model. */
  readonly shelves?: readonly (readonly string[])[];
  /** The device's clock; left out: one that stands still. */
  readonly clock?: Clock;
}

/** A device in memory; nothing is left of it when it is closed, or the page or process ends. */
export async function device({ consents = ["store"], shelves, clock = new Clock(), ...host }: TestingOptions = {}): Promise<Device> {
  const app = host.app ?? "test";
  const made = new Device(app, direct(await Host.open({ ...host, app }, await openMemory(), () => clock.now)), false);
  for (const purpose of consents) await made.consent.grant(purpose);
  if (shelves) await made.useModel(modelOf(shelves), shelves.flat());
  return made;
}

/** A model file by which who likes an item of a shelf gets the others of it; for `useModel`, with the items of all shelves in turn. */
export function modelOf(shelves: readonly (readonly string[])[]): Uint8Array {
  const items = shelves.flat();
  const [count, width] = [items.length, shelves.length];
  if (!count || new Set(items).size !== count) throw new InputError(`\`shelves\` must have items, each once, got ${count}`);
  const shelfOf = shelves.flatMap((shelf, at) => shelf.map(() => at));
  const all = (length: number, value: (at: number) => number) => Float32Array.from({ length }, (_, at) => value(at));
  const popularity = all(count, (row) => 100 - row / count);
  const arrays: Record<string, readonly [kind: string, shape: readonly number[], data: Float32Array | Int32Array]> = {
    counts: ["F32", [count], popularity],
    floor: ["F32", [1], all(1, () => 0.01)],
    head: ["I32", [count], Int32Array.from(items.keys())],
    weight: ["F32", [count], popularity],
    basis: ["F32", [count, width], all(count * width, (at) => Number(shelfOf[Math.floor(at / width)] === at % width))],
    strength: ["F32", [width], all(width, () => 0.2)],
    accuracy: ["F32", [width], all(width, () => 0.9)],
    values: ["F32", [width], all(width, () => 1)],
    noise: ["F32", [2], all(2, () => 0.1)],
  };
  const facts = { n_users: 1000, n_items: count, mu: null, n_features: 0, seed: 0 };
  const header: Json = { format: 1, algorithm: "als", settings: {}, facts, releases: 1, catalogue: catalogueHash(items) };
  let end = 0;
  const entries: Record<string, unknown> = { __metadata__: { palate: new TextDecoder().decode(canonicalJson(header)) } };
  for (const [name, [dtype, shape, data]] of Object.entries(arrays)) entries[name] = { dtype, shape, data_offsets: [end, (end += data.byteLength)] };
  const head = utf8(JSON.stringify(entries));
  return concat(u32(head.length), u32(0), head, ...Object.values(arrays).map(([, , data]) => new Uint8Array(data.buffer)));
}
