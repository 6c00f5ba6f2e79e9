import { appendFile, mkdtemp, open as openHandle, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { erase, newKey, open } from "../../src/index.js";
import { eraseFile, openFile } from "../../src/store/file.js";
import { limitsOf } from "../../src/store/retention.js";
import { EventStore } from "../../src/store/store.js";
import { equal, ok, refused, test } from "../harness.js";

const folder = () => mkdtemp(`${tmpdir()}/palate-`);
const KEY = new Uint8Array(32).fill(3);
const bytes = (text: string) => new TextEncoder().encode(text);

test("file: what was acknowledged is there or its lack is told, and so is other damage", async () => {
  const path = await folder();
  let store = await openFile(path, "app", KEY);
  for (let at = 0; at < 20; at += 1) await store.put(`record/${at}`, bytes(`value ${at}`));
  await store.close();
  const whole = await readFile(`${path}/palate.log`);
  ok(!whole.includes("value"), "sealed");
  for (const cut of [1, 7, 40, 60]) {
    await writeFile(`${path}/palate.log`, whole.subarray(0, whole.length - cut));
    await refused(() => openFile(path, "app", KEY), /some of it is missing, or older/);
  }
  const broken = Buffer.from(whole);
  broken[Math.floor(whole.length / 2)] ^= 1;
  await writeFile(`${path}/palate.log`, broken);
  await refused(() => openFile(path, "app", KEY), /damaged/);
  await writeFile(`${path}/palate.log`, whole);
  await appendFile(`${path}/palate.log`, Buffer.alloc(20));
  store = await openFile(path, "app", KEY);
  equal((await store.keys("record/")).length, 20);
  await store.close();
  await rm(path, { recursive: true });
});

test("file: one process at a time; a lock of one that has ended is taken over", async () => {
  const path = await folder();
  const store = await openFile(path, "app", KEY);
  await refused(() => openFile(path, "app", KEY), /open already/);
  await store.close();
  await writeFile(`${path}/palate.lock`, "999999999");
  await (await openFile(path, "app", KEY)).close();
  await refused(() => openFile(path, "other", KEY), /another key, or by another app/);
  await rm(path, { recursive: true });
});

test("file: outdated writes are cleared away, and nothing is lost by it", async () => {
  const path = await folder();
  const store = await openFile(path, "app", KEY);
  const large = new Uint8Array(200_000).fill(5);
  for (let at = 0; at < 20; at += 1) await store.write(new Map([["large", large], [`small/${at}`, bytes(String(at))]]));
  ok((await readFile(`${path}/palate.log`)).length < 3_000_000, "not twenty times the large record");
  await store.close();
  const again = await openFile(path, "app", KEY);
  equal([(await again.get("large"))?.length, (await again.keys("small/")).length], [200_000, 20]);
  await again.close();
  await rm(path, { recursive: true });
});

test("file: erasing overwrites the key and removes the files; cut short, it is finished; a lost key is told", async () => {
  const path = await folder();
  const device = await open({ app: "app", path, key: KEY });
  await device.consent.grant("store");
  await device.track("like", "book-7");
  const [kept, log] = [await readFile(`${path}/palate.key`), await readFile(`${path}/palate.log`)];
  await device.erase();
  equal(await readdir(path), []);
  // Cut short after the key was overwritten: the next opening removes the rest.
  await writeFile(`${path}/palate.key`, Buffer.alloc(kept.length));
  await writeFile(`${path}/palate.log`, log);
  const next = await open({ app: "app", path, key: KEY });
  equal(await next.consent.history(), []);
  await next.close();
  await rm(`${path}/palate.key`);
  await refused(() => open({ app: "app", path, key: KEY }), /key file is gone/);
  await erase("app", { path });
  await (await open({ app: "app", path, key: newKey() })).close();
  await eraseFile(path);
  equal(await readdir(path), []);
  await rm(path, { recursive: true });
});

test("file: on a full disk a revocation is written all the same, in the room that was kept for it", async () => {
  const path = await folder();
  const device = await open({ app: "app", path, key: KEY });
  for (const purpose of ["store", "train"] as const) await device.consent.grant(purpose);
  ok((await stat(`${path}/palate.reserve`)).size >= 2 ** 16, "room is kept");
  const some = await openHandle(`${path}/palate.lock`);
  const files = Object.getPrototypeOf(some) as { appendFile: (data: Uint8Array) => Promise<void> };
  await some.close();
  const own = files.appendFile;
  const full = async function (this: unknown, data: Uint8Array): Promise<void> {
    // The disk is full for as long as the room is taken.
    if ((await readdir(path)).includes("palate.reserve")) throw Object.assign(new Error("ENOSPC: no space left on device"), { code: "ENOSPC" });
    return own.call(this, data) as Promise<void>;
  };
  files.appendFile = full;
  try {
    equal([await device.track("like", "book-7"), device.problem], ["failed", "there is no room left for this site's data"]);
    await device.consent.revoke("train");
  } finally {
    files.appendFile = own;
  }
  await device.close();
  const again = await open({ app: "app", path, key: KEY });
  equal([await again.consent.get("train"), await again.consent.get("store"), (await again.consent.history("train")).length], [false, true, 2]);
  await again.erase();
  equal(await readdir(path), []);
  await rm(path, { recursive: true });
});

test("file: what is acknowledged after the log was written anew is in the file that has its name", async () => {
  const path = await folder();
  const store = await openFile(path, "app", KEY);
  const large = new Uint8Array(400_000).fill(5);
  type Files = { open: (...given: unknown[]) => Promise<unknown>; rename: (...given: unknown[]) => Promise<void> };
  const files = (store as unknown as { backend: { fs: Files } }).backend;
  const own = files.fs;
  // No more files can be opened once the new log has taken its place.
  let exhausted = false;
  files.fs = {
    ...own,
    open: async (...given) => (exhausted ? Promise.reject(new Error("EMFILE: too many open files")) : own.open(...given)),
    rename: async (...given) => own.rename(...given).then(() => void (exhausted = true)),
  };
  let acknowledged = 0;
  for (let at = 0; at < 12; at += 1) acknowledged += await store.write(new Map([["large", large], [`small/${at}`, bytes(String(at))]])).then(() => 1, () => 0);
  files.fs = own;
  ok(exhausted && acknowledged > 3, "it was written anew");
  await store.close();
  const again = await openFile(path, "app", KEY);
  ok((await again.keys("small/")).length >= acknowledged);
  await again.close();
  await rm(path, { recursive: true });
});

test("file: a revocation that the log can't be told of holds after the next opening, until its user agrees again", async () => {
  const path = await folder();
  const opened = async () => EventStore.open(await openFile(path, "app", KEY), limitsOf(), () => 1_790_000_000);
  const decided = (store: EventStore, purpose: string, granted: boolean) => store.decide({ purpose, granted, version: "1", time: 1_790_000_000 });
  const agreed = (store: EventStore) => ["store", "train"].map((purpose) => store.granted(purpose));
  let store = await opened();
  for (const purpose of ["store", "train"]) await decided(store, purpose, true);
  const { backend } = store.storage as unknown as { backend: { write: () => Promise<void> } };
  backend.write = () => Promise.reject(Object.assign(new Error("no space left on device"), { code: "ENOSPC" }));
  await refused(() => decided(store, "store", false), /no room left/);
  await store.storage.close();
  store = await opened();
  equal(agreed(store), [false, true]);
  await decided(store, "train", false);
  await decided(store, "train", true);
  await store.storage.close();
  store = await opened();
  equal(agreed(store), [false, true], "another purpose's decisions say nothing of it");
  await decided(store, "store", true);
  await store.storage.close();
  store = await opened();
  equal(agreed(store), [true, true]);
  await store.storage.close();
  // Where it can't be read, all that it may deny is denied; one decision doesn't let the others go.
  await rm(`${path}/palate.denied`);
  store = await opened();
  equal(agreed(store), [false, false]);
  await decided(store, "store", true);
  await store.storage.close();
  store = await opened();
  equal(agreed(store), [true, false]);
  await store.storage.close();
  await eraseFile(path);
  equal(await readdir(path), []);
  await rm(path, { recursive: true });
});
