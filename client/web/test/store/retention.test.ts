import { eventOf } from "../../src/events.js";
import { importLines } from "../../src/portability.js";
import { openMemory } from "../../src/store/memory.js";
import { limitsOf } from "../../src/store/retention.js";
import type { Sealed } from "../../src/store/sealed.js";
import { EventStore } from "../../src/store/store.js";
import { equal, ok, refused, test } from "../harness.js";
import { KINDS } from "../../src/kinds.js";

const DAY = 86_400;
const START = 1_790_000_000;
let asked = 0;
const like = (item: string, kind: "like" | "impression" = "like") => ({ event: eventOf({ kind, item }), nonce: `n${(asked += 1)}` });

async function opened(storage: Sealed, clock: () => number, limits = {}): Promise<EventStore> {
  const store = await EventStore.open(storage, limitsOf(limits), clock);
  if (!store.granted("store")) await store.decide({ purpose: "store", granted: true, version: "1", time: clock() });
  return store;
}

test("retention: above the limit a tenth goes, impressions first; the first event's time stays known", async () => {
  let now = START;
  const store = await opened(await openMemory(), () => now, { maxEvents: 100 });
  for (let at = 0; at < 101; at += 1) {
    now = START + 10 * at;
    await store.add([like(`item-${at}`, at % 4 ? "like" : "impression")]);
  }
  equal(store.rows.length, 90);
  equal(store.rows.filter(({ kind }) => kind === "impression").length, 26 - 11);
  equal([store.generation, store.first], [1, START + 10]);
});

test("retention: a clock that leaps ahead deletes nothing, and one that is right does though the device is opened rarely", async () => {
  let now = START;
  const past = (item: string, days: number) => ({ event: eventOf({ kind: "purchase", item, time: now - days * DAY }), nonce: item });
  const storage = await openMemory();
  const five = Array.from({ length: 5 }, (_, at) => `item-${at}`);
  await (await opened(storage, () => now)).add(five.map((item, at) => past(item, 170 * at)));
  const history = async () => {
    const store = await opened(storage, () => now);
    await store.add([like(`at-${now}`)]);
    return store.rows.slice(0, 5).map(({ item }) => item);
  };
  for (const years of [10, 1]) {
    for (let times = 0; times < 4; times += 1) {
      now += years * 365 * DAY;
      equal(await history(), five);
      now -= (years * 365 - 1 / 24) * DAY;
    }
    equal(await history(), five, "it was set right");
  }
  now += 3650 * DAY;
  for (let days = 0; days < 29; days += 1, now += DAY) equal(await history(), five);
  for (const [every, behind] of [[13, 0], [31, 0], [60, 60], [300, 300]]) {
    const rare = await openMemory();
    for (let days = 0; days < 600; days += every) {
      now += every * DAY;
      const store = await opened(rare, () => now, { keepDays: 50 });
      await store.add([like(`every-${every}-${days}`)]);
      ok(store.rows.every(({ time }) => (now - (time as number)) / DAY <= 50 + behind), `opened each ${every} days`);
    }
  }
});

test("retention: what is too old is said at once, and an app that stays open for months deletes it", async () => {
  let now = START;
  const store = await opened(await openMemory(), () => now, { keepDays: 10 });
  const at = (days: number) => ({ event: eventOf({ kind: "view", item: "a", time: now - days * DAY }), nonce: `old-${days}` });
  equal(await store.add([at(9.9), at(10.1)]), ["stored", "too old"]);
  const lines = [9.8, 10.2].map((days) => JSON.stringify({ kind: "view", item: "b", time: now - days * DAY }));
  const { stored, tooOld, problems } = await importLines(store, lines.join("\n"), KINDS);
  equal([stored, tooOld, problems], [1, 1, []]);
  for (let days = 0; days < 60; days += 1) {
    now += DAY;
    await store.add([like(`day-${days}`)]);
    ok(store.rows.length <= 13, `got ${store.rows.length}`);
  }
  equal(store.rows.length, 11);
  now = 5; // a clock that isn't set says nothing
  equal(await store.add([like("unset")]), ["stored"]);
  equal(store.rows.length, 12);
});

test("store: duplicates in the window, a day's limit, and asking again for what is stored", async () => {
  let now = START;
  const store = await opened(await openMemory(), () => now, { maxPerDay: 3 });
  const first = like("a");
  equal(await store.add([first, like("a"), like("b")]), ["stored", "duplicate", "stored"]);
  equal(await store.add([first]), ["stored"], "the answer was lost, and it is asked again");
  equal(store.rows.length, 2);
  now += 2;
  equal(await store.add([like("a"), like("c")]), ["stored", "limited"]);
  now += DAY;
  equal(await store.add([like("c")]), ["stored"]);
});

test("store: the window and the day's limit go by the events' own times, in a batch and one by one", async () => {
  const store = await opened(await openMemory(), () => START, { maxPerDay: 3 });
  const at = (kind: "purchase" | "rate", item: string, time: number, value: number | null = null) => ({ event: eventOf({ kind, item, time, value }), nonce: `n${(asked += 1)}` });
  const days = Array.from({ length: 50 }, (_, day) => at("purchase", "tea", START - day * DAY));
  equal(await store.add(days), days.map(() => "stored"));
  equal(await store.add([at("purchase", "tea", START - 7 * DAY + 0.5), at("purchase", "tea", START - 7 * DAY - 0.5)]), ["duplicate", "duplicate"], "near a stored one, whatever came after it");
  equal(await store.add([at("purchase", "tea", START - 7 * DAY - 60), at("purchase", "tea", START - 7 * DAY - 120)]), ["stored", "stored"]);
  equal(await store.add([at("purchase", "tea", START - 7 * DAY - 180), at("purchase", "tea", START - 8 * DAY - 180)]), ["limited", "stored"], "the day that is full is the event's own");
  equal(await store.add([at("rate", "pot", START - 9 * DAY, 4), at("rate", "pot", START - 9 * DAY + 0.25, 5), at("rate", "pot", START - 9 * DAY + 0.5, 5)]), ["stored", "stored", "duplicate"]);
  equal(await store.add([at("rate", "pot", START - 9 * DAY + 0.5, 5), at("rate", "cup", START, 3), at("rate", "cup", START - 1, 5)]), ["duplicate", "stored", "stored"]);
  const again = await opened(store.storage, () => START, { maxPerDay: 3 });
  equal(await again.add([at("purchase", "tea", START - 7 * DAY + 0.5), at("purchase", "mug", START - 7 * DAY)]), ["duplicate", "limited"], "so after the next opening");
});

test("store: a revocation holds over a grant that is still being written, and that of another tab's answer is no new one", async () => {
  const storage = await openMemory();
  const store = await opened(storage, () => START);
  const decision = (granted: boolean, nonce: string) => ({ purpose: "store", granted, version: "2", time: START, nonce });
  const backend = (storage as unknown as { backend: { write: (changes: ReadonlyMap<string, Uint8Array | null>) => Promise<void> } }).backend;
  const own = backend.write;
  backend.write = async (changes) => ([...changes.values()].includes(null) ? Promise.reject(new Error("the disk is gone")) : own(changes));
  const [granting, revoking] = [store.decide(decision(true, "a")), store.decide(decision(false, "b"))];
  await granting;
  equal(store.granted("store"), false, "it holds at once");
  await refused(() => revoking, /the disk is gone/);
  equal(store.granted("store"), false);
  backend.write = own;
  await store.decide(decision(false, "c"));
  await store.decide(decision(true, "d"));
  await store.decide(decision(false, "c")); // asked again, as its answer was lost
  equal(store.granted("store"), true);
});

test("store: a full disk stores nothing of it, keeps what is there, and can't stop a revocation", async () => {
  const storage = await openMemory();
  const store = await opened(storage, () => START);
  await store.add([like("before")]);
  const backend = (storage as unknown as { backend: { write: (changes: ReadonlyMap<string, Uint8Array | null>) => Promise<void> } }).backend;
  const own = backend.write;
  let room = false;
  backend.write = async (changes) => {
    if ([...changes.values()].some((value) => value !== null) && !room) throw new DOMException("no room", "QuotaExceededError");
    if (changes.has("reserve") && changes.get("reserve") === null) room = true; // the reserve was given up
    return own(changes);
  };
  await refused(() => store.add([like("after")]), /no room left/);
  equal(store.rows.map(({ item }) => item), ["before"]);
  await store.decide({ purpose: "store", granted: false, version: "2", time: START });
  ok(room && !store.granted("store"));
  const again = await EventStore.open(storage, limitsOf(), () => START);
  equal([again.granted("store"), again.decisions.length, again.rows.length], [false, 2, 1]);
});

test("store: a revocation holds even where nothing can be written", async () => {
  const storage = await openMemory();
  const store = await opened(storage, () => START);
  const backend = (storage as unknown as { backend: { write: () => Promise<void> } }).backend;
  backend.write = () => Promise.reject(new Error("the disk is gone"));
  await refused(() => store.decide({ purpose: "store", granted: false, version: "2", time: START }), /can't be read or written: Error: the disk is gone/);
  equal(store.granted("store"), false);
  equal(await store.add([like("late")]), ["no consent"]);
});
