import { Host } from "../../src/hosting/host.js";
import { DeviceLedger } from "../../src/ledger/device_ledger.js";
import { MemoryStorage } from "../../src/ledger/storage.js";
import { expandUnpacked } from "../../src/models/compact.js";
import { given, Models } from "../../src/models/models.js";
import { Recommender } from "../../src/recommend/recommender.js";
import { utf8 } from "../../src/records/bytes.js";
import { SigningKey } from "../../src/records/signing.js";
import { Service } from "../../src/service.js";
import { Journal } from "../../src/store/journal.js";
import { openMemory } from "../../src/store/memory.js";
import type { Sealed } from "../../src/store/sealed.js";
import { equal, ok, refused, test } from "../harness.js";
import { plainModel, POPULATION, publish } from "../published.js";

const ITEMS = Array.from({ length: 30 }, (_, row) => `own-${row}`);
const key = SigningKey.fromSecret(new Uint8Array(32).fill(5));
const files = async (size: number, fork = "") => publish(await key, size, ITEMS, plainModel(ITEMS, 0, size), fork);

/** A store, its journal, and the models in it. */
async function made(ledger = new MemoryStorage()): Promise<{ storage: Sealed; journal: Journal; models: Models }> {
  const [storage, service] = [await openMemory(), new Service({ publicKey: (await key).publicKey, population: POPULATION })];
  const journal = new Journal(storage);
  const limits = { limitMu2: 0, participations: 0 };
  return { storage, journal, models: new Models(journal, service, new DeviceLedger(ledger, limits, () => 0), () => 0) };
}

test("models: of two that are taken at once, by ledgers that don't extend each other, one is refused, and noted", async () => {
  /** Of a ledger's state the first two who ask are told at the same time. */
  class Together extends MemoryStorage {
    private readonly waiting: (() => void)[] = [];
    override async get(name: string): Promise<Uint8Array | undefined> {
      const found = await super.get(name);
      if (this.waiting.length < 2) {
        await new Promise<void>((go) => {
          this.waiting.push(go);
          if (this.waiting.length === 2) this.waiting.forEach((each) => each());
        });
      }
      return found;
    }
  }
  const { models, journal } = await made(new Together());
  const ends = await Promise.allSettled([await files(10, "one"), await files(11, "other")].map((each) => models.update(given(each))));
  equal(ends.map(({ status }) => status).sort(), ["fulfilled", "rejected"]);
  const [editions, refusals] = [await journal.editions(), await journal.refusals()];
  equal([editions.length, (await models.current())?.manifest.version], [1, editions[0].version]);
  equal(refusals.length, 1);
  ok(/must extend the one of size/.test(refusals[0].reason), refusals[0].reason);
});

test("models: who asks at once reads the model once; one that is taken meanwhile is what they get", async () => {
  const { models, journal, storage } = await made();
  await models.update(given(await files(1)));
  const fresh = new Models(journal, new Service({ publicKey: (await key).publicKey, population: POPULATION }), new DeviceLedger(new MemoryStorage(), { limitMu2: 0, participations: 0 }, () => 0), () => 0);
  const [read, next] = [storage.many.bind(storage), await files(2)];
  let [asked, go] = [0, () => undefined as void];
  const held = new Promise<void>((resolve) => (go = resolve));
  storage.many = async (names) => {
    const found = await read(names);
    if (!names.some((name) => name.endsWith("/items"))) return found;
    asked += 1;
    if (asked === 1) await held;
    return found;
  };
  const first = [fresh.current(), fresh.current(), fresh.current()];
  equal(await fresh.update(given(next), new Map()), true);
  go();
  const found = await Promise.all([...first, fresh.current()]);
  equal([asked, found.map((each) => each?.manifest.version)], [1, [2, 2, 2, 2]]);
  ok(found.every((each) => each === found[0]), "it is there once");
});

test("models: a model that can't be read is read again by whoever asks again", async () => {
  const { models, storage, journal } = await made();
  await models.update(given(await files(1)));
  const fresh = new Models(journal, new Service({ publicKey: (await key).publicKey, population: POPULATION }), new DeviceLedger(new MemoryStorage(), { limitMu2: 0, participations: 0 }, () => 0), () => 0);
  const read = storage.many.bind(storage);
  storage.many = async () => Promise.reject(new Error("the disk"));
  await Promise.all([1, 2].map(() => refused(() => fresh.current(), /the disk/)));
  storage.many = read;
  equal((await fresh.current())?.manifest.version, 1);
});

test("models: a model's files are of one model, also its domains", async () => {
  const { journal, storage, models } = await made();
  const edition = (version: number) => ({ population: POPULATION, version, root: "", manifest: String(version), time: 0 });
  await Promise.all([journal.adopt(edition(1), new Map([["items", utf8("a")], ["domains", utf8("b")]])), journal.adopt(edition(2), new Map([["items", utf8("c")]]))]);
  equal([...(await journal.files()).keys()], ["items"]);
  await models.update(given(await files(3)));
  const fresh = new Models(journal, new Service({ publicKey: (await key).publicKey, population: POPULATION }), new DeviceLedger(new MemoryStorage(), { limitMu2: 0, participations: 0 }, () => 0), () => 0);
  await storage.put("journal/files/domains", utf8("books\n".repeat(30)));
  await refused(() => fresh.current(), /the ones the manifest names/);
});

test("models: lists that are asked for at once are made by one recommender", async () => {
  const service = { publicKey: (await key).publicKey, population: POPULATION };
  const [host, of] = [await Host.open({ app: "books", service }, await openMemory()), Recommender.of];
  let times = 0;
  Recommender.of = async (...given) => {
    times += 1;
    return of.apply(Recommender, given);
  };
  try {
    await host.updateModel(await files(1));
    equal((await Promise.all(Array.from({ length: 8 }, () => host.recommend(3, {})))).map((list) => list.length), Array(8).fill(3));
    equal(times, 1);
  } finally {
    Recommender.of = of;
    await host.close();
  }
});

test("models: a signed model takes no more memory than its items can need, and leads to none but them", async () => {
  const of = (name: string, shape: number[]) => plainModel(ITEMS, 0, 1, { [name]: { dtype: "U8", shape, data: new Uint8Array(shape.reduce((one, other) => one * other)) } });
  for (const [name, shape] of [["x", [17 * 2 ** 20]], ["x gaps", [1, 17 * 2 ** 16, 16]]] as const) {
    await refused(async () => expandUnpacked(of(name, [...shape])), /a model of 30 items must take at most 67603984 bytes, got 7\d{7}/);
  }
  equal(expandUnpacked(of("x gaps", [1, 2, 30])).state.get("x")?.shape, [2, 30]);
  await refused(async () => expandUnpacked(of("x gaps", [1, 1, 31])), /rows below 30/);
});

test("journal: a message that is sent again is noted once, so that a server that asks again doesn't fill the disk", async () => {
  const { journal } = await made();
  const sent = { what: "input", dp: "distributed", run: "run-1", round: 0, attempt: 0, bytes: 9, time: 1 };
  for (const each of [sent, { ...sent, time: 2 }, { ...sent, attempt: 1 }, { ...sent, what: "open" }]) await journal.record(each);
  equal((await journal.sent()).map(({ what, attempt, time }) => [what, attempt, time]), [["input", 0, 1], ["input", 1, 1], ["open", 0, 1]]);
});
