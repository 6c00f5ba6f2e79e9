import { erase, hasStore, open } from "../src/index.js";
import { Host } from "../src/hosting/host.js";
import { Leader, VERSION } from "../src/leader.js";
import { openIndexedDb } from "../src/store/indexed_db.js";
import { equal, ok, refused, test } from "./harness.js";
import { place, reader, sampleFiles } from "./sample.js";

/** Workers that were made while `work` ran: terminating one is what closing its tab does. */
async function withWorkers<T>(work: (workers: Worker[]) => Promise<T>): Promise<T> {
  const [workers, Own] = [[] as Worker[], globalThis.Worker];
  globalThis.Worker = class extends Own {
    constructor(url: string | URL, options?: WorkerOptions) {
      super(url, options);
      workers.push(this);
    }
  };
  try {
    return await work(workers);
  } finally {
    globalThis.Worker = Own;
  }
}

const items = async (device: Awaited<ReturnType<typeof open>>) =>
  (await (await device.export()).text()).trim().split("\n").map((line) => JSON.parse(line)).filter(({ type }) => type === "event").map(({ item }) => item as string);

test("leader: tabs share one store, one consent and one model", async () => {
  const given = await place();
  const [one, two, three] = [await open(given), await open(given), await open(given)];
  await two.consent.grant("store");
  equal([await one.track("like", "a"), await two.track("like", "b"), await three.track("like", "c")], ["stored", "stored", "stored"]);
  equal(await items(three), ["a", "b", "c"]);
  await one.close(); // it led
  equal(await three.track("like", "d"), "stored");
  await two.consent.revoke("store");
  equal(await three.track("like", "e"), "no consent");
  await two.erase();
  equal(await three.track("like", "f"), "no consent");
  await refused(() => three.consent.history(), /erased/);
  equal(await hasStore(given.app), false, "no tab makes a new store by itself");
  const next = await open(given);
  equal(await next.consent.history(), []);
  await next.erase();
});

test("leader: a tab that is closed in the middle of its work is followed, and nothing is lost or stored twice", async () =>
  withWorkers(async (workers) => {
    const given = await place();
    const [one, two] = [await open(given), await open(given)];
    await one.consent.grant("store");
    const wanted = Array.from({ length: 40 }, (_, place) => `item-${place}`);
    const asked = wanted.map((item) => two.track("like", item));
    await asked[3];
    workers[0].terminate();
    equal(await Promise.all(asked), wanted.map(() => "stored"));
    equal((await items(two)).sort(), [...wanted].sort());
    ok(one);
    await two.erase();
  }));

test("leader: who has been relieved writes nothing", async () => {
  const { app } = await place();
  const [former, later] = [await openIndexedDb(app), await openIndexedDb(app)];
  await later.put("a", Uint8Array.of(1));
  await refused(() => former.put("a", Uint8Array.of(2)), /taken the store over/);
  equal([...((await later.get("a")) ?? [])], [1]);
  await former.close();
  await later.erase();
});

test("leader: one that doesn't answer any more is relieved", async () => {
  const { app } = await place();
  let relieved = false;
  // A frozen tab has the lock, and hears nothing.
  void navigator.locks.request(`palate/${app}`, () => new Promise(() => undefined)).catch(() => (relieved = true));
  const leader = new Leader(app, "{}", async (mayMake) => Host.open({ app }, await openIndexedDb(app, undefined, mayMake)), 50);
  await leader.start();
  ok(relieved);
  await leader.call("decide", ["store", true, "1", "nonce"]);
  equal(((await leader.call("consents", [])) as { store: boolean }).store, true);
  await leader.call("erase", []);
});

test("leader: what the newest tab says of the device holds for all", async () => {
  const given = await place({ preset: "plain" });
  const old = await open(given);
  await old.consent.grant("store");
  await new Promise((resolve) => setTimeout(resolve, 5));
  const later = await open({ ...given, limits: { maxPerDay: 1 } });
  for (let tried = 0; tried < 50 && (await later.track("like", `book-${tried}`)) !== "limited"; tried += 1) await new Promise((resolve) => setTimeout(resolve, 20));
  equal(await old.track("like", "another"), "limited");
  await later.erase();
});

test("leader: the tab that asks for a sync says whether its conditions hold, whichever tab does it; one that is gone doesn't say so", async () => {
  const given = await place();
  const [one, two] = [await open(given), await open(given)];
  const sync = (device: typeof one, holds: boolean) => device.sync({ modelsOnly: true, models: "http://localhost:1/models", policy: { charging: () => holds } });
  equal([(await sync(one, false)).reason, (await sync(two, false)).reason], ["charging", "charging"]);
  equal([(await sync(one, true)).ended, (await sync(two, true)).ended], ["unreachable", "unreachable"]);
  await two.erase();
  const { app } = await place();
  const leader = new Leader(app, "{}", async (mayMake) => Host.open({ app }, await openIndexedDb(app, undefined, mayMake)), 50);
  await leader.start();
  const answered = new Promise<{ value?: { ended: string; reason: string } }>((resolve) => {
    const channel = new BroadcastChannel(`palate/${app}`);
    channel.onmessage = ({ data }) => data.type === "answer" && (channel.close(), resolve(data));
    channel.postMessage({ version: VERSION, type: "ask", id: "gone", method: "sync", args: [{ modelsOnly: true, models: "http://localhost:1/models" }], conditions: true });
  });
  const { value } = await answered;
  equal([value?.ended, value?.reason.slice(0, 22)], ["policy", "unmetered: the tab tha"]);
  await leader.call("erase", []);
});

const leading = (app: string, version = VERSION, patience = 50) =>
  new Leader(app, "{}", async (mayMake) => Host.open({ app }, await openIndexedDb(app, undefined, mayMake)), patience, undefined, version);

test("leader: notes that are none, and methods that are none, do no harm", async () => {
  const { app } = await place();
  const leader = leading(app);
  await leader.start();
  const channel = new BroadcastChannel(`palate/${app}`);
  const heard: { type: string; id: string; error?: { code: string } }[] = [];
  channel.onmessage = ({ data }) => heard.push(data);
  for (const note of [null, 5, "who", [], {}, { type: "who" }, { type: null, version: VERSION }, { type: "ask", version: 5 }, { type: "answer", version: VERSION, id: {}, error: 5 }]) channel.postMessage(note);
  for (const method of ["abandon", "close", "constructor", "toString", null, {}]) channel.postMessage({ type: "ask", version: VERSION, id: `to ${String(method)}`, method, args: null });
  await leader.call("decide", ["store", true, "1", "nonce"]);
  for (let time = 0; heard.filter(({ type }) => type === "answer").length < 6; time += 1) {
    ok(time < 500, JSON.stringify(heard));
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  ok(heard.filter(({ type }) => type === "answer").every(({ error }) => error?.code === "input"), JSON.stringify(heard));
  equal(((await leader.call("consents", [])) as { store: boolean }).store, true, "it still leads");
  channel.close();
  await leader.call("erase", []);
});

test("leader: of tabs of several versions the newest leads, and the others say that they must be loaded anew", async () => {
  const { app } = await place();
  const old = leading(app, "0.9.0");
  await old.start();
  await old.call("decide", ["store", true, "1", "nonce"]);
  const waits = leading(app, "0.9.0");
  await waits.start();
  const later = leading(app, "0.10.0", 5000); // it relieves nobody: they go
  await later.start();
  equal(((await later.call("consents", [])) as { store: boolean }).store, true);
  for (const each of [old, waits]) await refused(() => each.call("consents", []), /this tab has version 0.9.0 of @palate\/web, and another has 0.10.0: reload/);
  const again = leading(app, "0.9.0", 5000);
  await refused(() => again.start(), /reload/);
  for (const each of [old, waits, again]) await each.close();
  await later.call("erase", []);
});

test("leader: one that freezes in the middle of its work is relieved, though it had begun; who relieves it leaves no second turn behind", async () => {
  const { app } = await place();
  await (await openIndexedDb(app)).close();
  // It has the lock, says that it leads and has begun, lives for a while, and is then heard of no more.
  const channel = new BroadcastChannel(`palate/${app}`);
  let [asks, lives] = [0, 0];
  channel.onmessage = ({ data }) => {
    if (data.type === "who" && (lives += 1) < 4) channel.postMessage({ version: VERSION, type: "leads", by: "frozen", terms: "{}", born: 0 });
    if (data.type !== "ask") return;
    asks += 1;
    channel.postMessage({ version: VERSION, type: "ack", id: data.id, by: "frozen" });
  };
  void navigator.locks.request(`palate/${app}`, () => new Promise(() => undefined)).catch(() => undefined);
  const leader = leading(app, VERSION, 200);
  await leader.start();
  equal(((await leader.call("decide", ["store", true, "1", "nonce"])) as { granted: boolean }).granted, true);
  ok(asks <= 1 && lives > 1, `asked ${asks} times, and for ${lives} signs of life: one that says that it works on it isn't asked again`);
  channel.close();
  await leader.close();
  const { held, pending } = await navigator.locks.query();
  equal([...(held ?? []), ...(pending ?? [])].filter(({ name }) => name === `palate/${app}`), [], "what is closed waits for nothing");
  await erase(app);
});

test("leader: a worker that fails is ended, and another answers what was asked; one that fails each time is given up", async () =>
  withWorkers(async (workers) => {
    const given = await place();
    const device = await open(given);
    await device.consent.grant("store");
    const fail = () => workers.at(-1)?.dispatchEvent(new ErrorEvent("error", { message: "a timer has failed" }));
    const asked = Array.from({ length: 10 }, (_, at) => device.track("like", `item-${at}`));
    fail();
    equal(await Promise.all(asked), asked.map(() => "stored"));
    equal([workers.length, (await items(device)).length], [2, 10]);
    equal(await device.track("like", "next"), "stored");
    for (let times = 0; times < 3; times += 1) {
      fail();
      await device.consent.all().catch(() => undefined);
    }
    await refused(() => device.track("like", "last"), /the worker failed: a timer has failed/);
    const later = await open(given);
    equal((await items(later)).length, 11, "none of them holds the store any more");
    await later.erase();
  }));

test("store: nothing of what is stored is readable in IndexedDB, and its key can't be read out", async () => {
  const device = await reader();
  await device.track("like", "a-mark-that-is-easy-to-find");
  await device.close();
  const found: unknown[] = [];
  const database = await new Promise<IDBDatabase>((resolve) => (indexedDB.open(`palate/${device.app}`).onsuccess = ({ target }) => resolve((target as IDBOpenDBRequest).result)));
  for (const name of database.objectStoreNames)
    found.push(...(await new Promise<unknown[]>((resolve) => (database.transaction(name).objectStore(name).getAll().onsuccess = ({ target }) => resolve((target as IDBRequest<unknown[]>).result)))));
  database.close();
  const text = found.map((value) => (value instanceof Uint8Array ? new TextDecoder("latin1").decode(value) : "")).join("\n");
  ok(text.length > 1000 && !text.includes("a-mark") && !text.includes("like"));
  const key = found.find((value) => value instanceof CryptoKey) as CryptoKey;
  equal(key.extractable, false);
  await refused(() => crypto.subtle.exportKey("raw", key));
});

test("store: a key that is gone is told, and never silently replaced", async () => {
  const given = await place();
  const device = await open(given);
  await device.consent.grant("store");
  await device.close();
  const database = await new Promise<IDBDatabase>((resolve) => (indexedDB.open(`palate/${given.app}`).onsuccess = ({ target }) => resolve((target as IDBOpenDBRequest).result)));
  await new Promise((resolve) => (database.transaction("head", "readwrite").objectStore("head").delete("key").onsuccess = resolve));
  database.close();
  await refused(() => open(given), /key is gone/);
});

test("store: before the user has agreed to something, nothing is written to the browser, whatever is done", async () => {
  const given = await place();
  const [device, other] = [await open(given), await open(given)];
  const names = async () => (await indexedDB.databases()).map(({ name }) => name).filter((name) => name === `palate/${given.app}`).length;
  for (const each of [device, other]) await each.updateModel(await sampleFiles());
  const shown = await device.recommend(3);
  await device.explain(shown[0].item);
  equal([await device.track("like", "book-7"), ...(await device.feedback(shown))], Array(4).fill("no consent"));
  await device.consent.revoke("store"); // to say no is no agreement
  await device.resetTaste();
  await device.import('{"kind": "like", "item": "book-7"}');
  await device.messenger({ feed: () => undefined }).allow("feed").catch(() => undefined);
  await device.export();
  equal([(await device.privacyReport()).storage.kind, await names(), await hasStore(given.app)], ["memory", 0, false]);

  // The first grant makes the store, with the model; the other tab goes along.
  await device.consent.grant("store", { version: "2026-01" });
  equal([(await device.privacyReport()).storage.kind, await names(), await hasStore(given.app)], ["browser", 1, true]);
  equal(await other.track("like", "book-7"), "stored");
  equal([(await other.recommend(3)).length, (await device.model())?.version], [3, 2]);
  equal((await other.consent.history()).map(({ granted, version }) => [granted, version]), [[true, "2026-01"]]);
  await device.close();
  equal((await other.privacyReport()).models.length, 1);
  await other.close();
  const later = await open(given);
  equal([(await later.privacyReport()).storage.kind, await later.consent.get("store"), await items(later)], ["browser", true, ["book-7"]]);
  await later.erase();
  const again = await open(given);
  equal([(await again.privacyReport()).storage.kind, await names()], ["memory", 0]);
  await again.close();
});

test("store: two tabs whose user agrees at once make one store, with both decisions", async () => {
  const given = await place();
  const tabs = [await open(given), await open(given)];
  await Promise.all([tabs[0].consent.grant("store"), tabs[1].consent.grant("train")]);
  for (const each of tabs) equal(Object.entries(await each.consent.all()).filter(([, granted]) => granted).map(([purpose]) => purpose), ["store", "train"]);
  equal(await Promise.all(tabs.map((each, at) => each.track("like", `book-${at}`))), ["stored", "stored"]);
  equal((await items(tabs[0])).sort(), ["book-0", "book-1"]);
  await tabs[1].erase();
});

test("store: in the page's memory nothing is written to the browser, also once the user has agreed", async () => {
  const given = await place({ keeping: "memory" });
  const device = await reader(given);
  equal((await device.recommend(3)).length, 3);
  equal(await hasStore(given.app), false);
  await device.close();
});

test("store: an erasure that was cut short is finished, and makes no new store", async () => {
  const given = await place();
  const device = await open(given);
  await device.consent.grant("store");
  await device.close();
  const database = await new Promise<IDBDatabase>((resolve) => (indexedDB.open(`palate/${given.app}`).onsuccess = ({ target }) => resolve((target as IDBOpenDBRequest).result)));
  const head = database.transaction("head", "readwrite").objectStore("head");
  head.delete("key");
  await new Promise((resolve) => (head.put(true, "erasing").onsuccess = resolve));
  database.close();
  const next = await open(given);
  equal([await next.consent.history(), await hasStore(given.app)], [[], false]);
  await next.close();
});

test("store: without storage the device says so, or forgets with the page where the app says that it may", async () => {
  const own = Object.getOwnPropertyDescriptor(globalThis, "indexedDB") as PropertyDescriptor;
  Object.defineProperty(globalThis, "indexedDB", { value: undefined, configurable: true });
  try {
    await refused(async () => open(await place({ worker: false })), /gives the site no storage/);
    const device = await open(await place({ worker: false, keeping: "any" }));
    await device.consent.grant("store");
    equal(await device.track("like", "book-7"), "stored");
    equal((await device.privacyReport()).storage.kind, "memory");
    await device.consent.grant("train");
    await refused(() => device.enroll("{}"), /takes part in no round|`service` must be given/);
    await device.close();
  } finally {
    Object.defineProperty(globalThis, "indexedDB", own);
  }
});

test("store: a grant that is a mistake of the app's makes no store, and asks the browser for nothing", async () => {
  const asked: string[] = [];
  const own = navigator.storage.persist.bind(navigator.storage);
  navigator.storage.persist = async () => asked.push("persist") > 0;
  try {
    const given = await place();
    const device = await open(given);
    await refused(() => device.consent.grant("stor" as "store"), /`purpose` must be/);
    await refused(() => device.consent.grant("store", { version: "" }), /`version` must/);
    equal([await hasStore(given.app), asked], [false, []]);
    await device.close();
    const passing = await open(await place({ keeping: "memory" }));
    await passing.consent.grant("store");
    equal(asked, [], "what is kept in the page alone needs no promise of the browser's");
    await passing.close();
    const lasting = await open(given);
    await lasting.consent.grant("store");
    equal(asked, ["persist"]);
    await lasting.erase();
  } finally {
    navigator.storage.persist = own;
  }
});

test("store: who agrees in a tab whose model the store's tab refuses has agreed all the same", async () => {
  const given = await place();
  const old = await open(given);
  await old.updateModel(await sampleFiles());
  await new Promise((resolve) => setTimeout(resolve, 5));
  const newest = await open({ ...given, service: { publicKey: "ab".repeat(32), population: "other" } });
  await newest.consent.grant("store");
  equal((await old.consent.grant("messaging")).granted, true);
  equal([await old.consent.get("store"), await newest.consent.get("messaging"), await old.model()], [true, true, null]);
  await old.close();
  await newest.erase();
});

test("store: another tab's erasure is finished by nobody while one leads: it may be a new store already", async () => {
  const given = await place();
  const device = await open(given);
  await device.consent.grant("store");
  await device.close();
  const database = await new Promise<IDBDatabase>((resolve) => (indexedDB.open(`palate/${given.app}`).onsuccess = ({ target }) => resolve((target as IDBOpenDBRequest).result)));
  const head = database.transaction("head", "readwrite").objectStore("head");
  head.delete("key");
  await new Promise((resolve) => (head.put(true, "erasing").onsuccess = resolve));
  database.close();
  const there = async () => (await indexedDB.databases()).some(({ name }) => name === `palate/${given.app}`);
  await navigator.locks.request(`palate/${given.app}`, async () => equal([await hasStore(given.app), await there()], [false, true]));
  equal([await hasStore(given.app), await there()], [false, false], "nobody leads");
});
