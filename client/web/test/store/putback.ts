/**
 * A store as it was an hour ago and as it is now, and what is done to one piece of it at a time: flipped, cut, deleted, exchanged,
 * put back. Pieces are files in Node, and records in a browser. See `putback.node.test.ts` and `putback.browser.test.ts`.
 */

import { PalateError } from "../../src/errors.js";
import { eventOf } from "../../src/events.js";
import { DeviceLedger } from "../../src/ledger/device_ledger.js";
import { readPlan, RoundPlan } from "../../src/rounds/plan.js";
import { utf8 } from "../../src/records/bytes.js";
import { Journal } from "../../src/store/journal.js";
import { limitsOf } from "../../src/store/retention.js";
import type { Sealed } from "../../src/store/sealed.js";
import { EventStore } from "../../src/store/store.js";
import { equal, ok, vectors } from "../harness.js";
import { kept } from "../ledger/kept.js";

const NOW = 1_790_000_000;
const LIMITS = { limitMu2: Infinity, participations: 9 };
export type Pieces = ReadonlyMap<string, Uint8Array>;

async function planAt(round: number): Promise<RoundPlan> {
  const { plan } = readPlan(utf8((await vectors("plan.json")).signed_plan));
  return new RoundPlan({ ...(plan.value as object), round, attempt: 0, run: "a run by its name" });
}

/** What a device does in an hour: events, decisions, models, a round that is charged and answered. */
export async function lived(storage: Sealed, hour: number): Promise<void> {
  const store = await EventStore.open(storage, limitsOf(), () => NOW + 3600 * hour);
  for (const purpose of ["store", "train"]) await store.decide({ purpose, granted: true, version: "1", time: NOW });
  if (hour) await store.decide({ purpose: "train", granted: false, version: "1", time: NOW });
  await store.add(Array.from({ length: 70 }, (_, at) => ({ event: eventOf({ kind: "like", item: `book-${at}` }), nonce: `n${hour}-${at}` })));
  const plan = await planAt(hour);
  const ledger = new DeviceLedger(storage, LIMITS, () => NOW);
  await ledger.charge(kept(plan), "train");
  await ledger.latch(plan, "open", "ab".repeat(32));
  await ledger.see("readers", { size: 3 + hour, root: "ab".repeat(32) }, async () => utf8("signed"));
  await new Journal(storage).adopt({ population: "readers", version: 1 + hour, root: "", manifest: "", time: NOW }, new Map([["items", Uint8Array.of(hour)]]));
}

/** All that the store knows, and what it grants; a latch that was forgotten would take another answer. */
export async function known(storage: Sealed): Promise<unknown> {
  const store = await EventStore.open(storage, limitsOf(), () => NOW + 3600);
  const [ledger, journal] = [new DeviceLedger(storage, LIMITS, () => NOW), new Journal(storage)];
  const latched = [];
  for (const round of [0, 1]) latched.push(await ledger.latch(await planAt(round), "open", "cd".repeat(32)).then(() => "forgotten", (error: Error) => error.message));
  return {
    events: store.rows.map(({ id }) => id), decided: store.decisions, granted: ["store", "train"].map((purpose) => store.granted(purpose)),
    receipts: await ledger.receipts(), seen: await ledger.seen("readers"), latched, editions: await journal.editions(), files: [...(await journal.files())],
  };
}

/** Where the pieces are. */
export interface Place {
  /** All pieces, by name. */
  read(): Promise<Pieces>;
  /** These and no others. */
  write(pieces: Pieces): Promise<void>;
  open(): Promise<Sealed>;
}

/**
 * Does each harm to each piece once. Each is told by an error in one line, when the store is opened or when the piece is read, or has
 * done nothing; only a grant that is gone is a denial, and so is the place beside the records where one could be denied.
 *
 * @param every - bytes from one that is flipped to the next.
 * @returns how many harms were told.
 */
export async function harmed(place: Place, every: number): Promise<number> {
  const during = async <T>(work: (storage: Sealed) => Promise<T>): Promise<T> => {
    const storage = await place.open();
    try {
      return await work(storage);
    } finally {
      await storage.close();
    }
  };
  await during((storage) => lived(storage, 0));
  const before = await place.read();
  await during((storage) => lived(storage, 1));
  await during(known); // what the first opening of a day writes is there
  const now = await place.read();
  const whole = await during(known);
  equal((whole as { latched: string[] }).latched, Array(2).fill("the step open of this attempt was answered to another request"));
  ok(![...now.keys()].some((name) => /run|open|readers|train/.test(name)), "no name says what the user takes part in");

  let told = 0;
  const tried = async (what: string, pieces: Map<string, Uint8Array>): Promise<void> => {
    await place.write(pieces);
    try {
      const found = await during(known);
      const grant = /granted|denied/.test(what);
      const [some, all] = [found, whole].map((each) => ({ ...(each as { granted: boolean[] }) }));
      if (grant) ok(some.granted.every((granted, at) => !granted || all.granted[at]), `${what}: a grant came back`);
      if (grant) some.granted = all.granted;
      equal(some, all, what);
    } catch (error) {
      ok(error instanceof PalateError && ["integrity", "wrong-key"].includes(error.code) && !error.message.includes("\n"), `${what}: ${String(error)}`);
      told += 1;
    }
  };
  const changed = (name: string, data: Uint8Array | undefined): Map<string, Uint8Array> => {
    const pieces = new Map(now);
    if (data) pieces.set(name, data);
    else pieces.delete(name);
    return pieces;
  };
  for (const [name, data] of now) {
    for (let at = 0; at < data.length; at += every) await tried(`${name} flipped at ${at}`, changed(name, data.map((byte, place) => (place === at ? byte ^ 1 : byte))));
    for (const size of [0, data.length >> 1, data.length - 1]) await tried(`${name} cut to ${size}`, changed(name, data.subarray(0, size)));
    await tried(`${name} deleted`, changed(name, undefined));
    if (before.has(name)) await tried(`${name} put back`, changed(name, before.get(name)));
    for (const [other, its] of now) if (other > name) await tried(`${name} exchanged with ${other}`, new Map([...now, [name, its], [other, data]]));
  }
  // A record that was removed since comes back.
  for (const [name, data] of before) if (!now.has(name)) await tried(`${name} came back`, changed(name, data));
  await place.write(now);
  equal(await during(known), whole, "brought back, it opens again");
  return told;
}
