import { open } from "../../src/index.js";
import { membersOf } from "../../src/history/files.js";
import { previewHistory } from "../../src/history/preview.js";
import { Reading } from "../../src/history/rows.js";
import { history } from "../../src/history/storing.js";
import { importLines } from "../../src/portability.js";
import { fromHex, utf8 } from "../../src/records/bytes.js";
import { openMemory } from "../../src/store/memory.js";
import { limitsOf } from "../../src/store/retention.js";
import { EventStore } from "../../src/store/store.js";
import { environment, equal, ok, refused, test } from "../harness.js";
import { place } from "../sample.js";
import { KINDS } from "../../src/kinds.js";

interface Case {
  readonly what: string;
  readonly name: string;
  readonly text?: string;
  readonly hex?: string;
  readonly said: { readonly profile?: string; readonly dates?: string };
  readonly refused?: string;
  readonly rows?: readonly (readonly unknown[])[];
  readonly questions?: object;
  readonly left?: object;
  readonly preview?: string;
  readonly unknown?: readonly string[];
  readonly to_confirm?: readonly (readonly unknown[])[];
  readonly stored?: readonly (readonly unknown[])[];
}

const given = async () => JSON.parse(await environment().readRepository("docs/vectors/histories.json")) as { now: number; catalogue: any[]; cases: Case[] };

const fileOf = ({ name, text, hex }: Case): Blob & { name: string } => Object.assign(new Blob([(text === undefined ? fromHex(hex as string) : utf8(text)) as BlobPart]), { name });

async function opened(now: number): Promise<EventStore> {
  const store = await EventStore.open(await openMemory(), limitsOf(), () => now);
  await store.decide({ purpose: "store", granted: true, version: "1", time: now });
  return store;
}

const storing = (store: EventStore) => ({
  terms: () => history(store, "terms", null) as Promise<never>,
  add: (events: unknown, service: string) => history(store, "add", events, service) as Promise<never>,
});

test("histories.json: a browser reads of each file what Python reads, and stores the same", async () => {
  const { now, catalogue, cases } = await given();
  const table = catalogue.map((each) => ({ kinds: [], more: {}, label: "", ...each }));
  ok(cases.length > 30);
  for (const each of cases) {
    const [store, file] = [await opened(now), fileOf(each)];
    const preview = () => previewHistory(file, table, storing(store), each.said);
    if (each.refused !== undefined) {
      await refused(preview, /must (be|have)/);
      continue;
    }
    const reading = await Reading.of(await membersOf(file), now, each.said.profile, each.said.dates);
    const rows: unknown[] = [];
    for await (const { kind, titles, year, ids, time, value } of reading.rows()) rows.push([kind, titles, year, ids, time, value]);
    equal(rows, each.rows, each.what);
    const made = await preview();
    equal([`${made}`, made.questions, made.left, made.unknownTitles], [each.preview, each.questions, each.left, each.unknown], each.what);
    equal(made.toConfirm.map(({ title, year, items, events }) => [title, year, items, events]), each.to_confirm, each.what);
    if (Object.keys(made.questions).length) {
      await refused(() => made.store(), /must be said first/);
      continue;
    }
    const report = await made.store(made.toConfirm);
    equal(store.rows.map(({ kind, item, time, value, id }) => [kind, item, time, value, id]), each.stored, each.what);
    // Again it adds nothing; undone, it was never there.
    equal([report.stored, await made.store(made.toConfirm)], [store.rows.length, { ...report, id: null, stored: 0, duplicates: report.stored }], each.what);
    equal(await history(store, "list", null), report.id === null ? [] : [{ id: report.id, service: made.service, time: now, events: report.stored }]);
    equal([await history(store, "forget", report.id), store.rows.length], [report.stored, 0], each.what);
  }
});

test("a history: a record of CSV is bounded over all its lines", async () => {
  const { now } = await given();
  const file = Object.assign(new Blob([`Date,Name,Year,Letterboxd URI,Rating\n${'"a\n",'.repeat(400_000)}`]), { name: "ratings.csv" });
  await refused(async () => {
    for await (const row of (await Reading.of(await membersOf(file), now)).rows()) ok(row);
  }, /at most 1048576 characters/);
});

test("a history: of a zip file no more is read at once than a directory may have", async () => {
  const end = new DataView(new ArrayBuffer(22));
  end.setUint32(0, 0x06054b50, true);
  end.setUint32(12, 2 ** 22 + 1, true);
  const file = new Blob([fromHex("504b0304") as BlobPart, new Uint8Array(2 ** 22), end.buffer]);
  await refused(() => membersOf(file), /at most 10000 files, got 4194305 bytes/);
});

test("a history: half of the store at most, a rule of its own for age, no visit to the app, and nothing without consent", async () => {
  const now = 1_790_000_000;
  const lines = Array.from({ length: 60 }, (_, day) => `Heat,${String(1 + (day % 28)).padStart(2, "0")}.${String(1 + Math.floor(day / 28)).padStart(2, "0")}.2022\n`);
  const file = Object.assign(new Blob(["Title,Date\n", ...lines, "Heat,24.01.2005\n"]), { name: "NetflixViewingHistory.csv" });
  const table = [{ item: "7", title: "Heat", year: 1995, alternatives: [], kinds: [], ids: {}, more: {}, label: "" }];
  const store = await EventStore.open(await openMemory(), limitsOf({ maxEvents: 40, keepDays: 10 }), () => now);
  const preview = await previewHistory(file, table, storing(store));
  equal(await preview.store(preview.toConfirm), { id: null, stored: 0, duplicates: 0, tooOld: 1, notStored: 20, tooMany: 40 });
  await store.decide({ purpose: "store", granted: true, version: "1", time: now });
  equal(await preview.store(preview.toConfirm), { id: 2, stored: 20, duplicates: 0, tooOld: 1, notStored: 0, tooMany: 40 });
  await refused(() => preview.store([{ ...preview.toConfirm[0], item: "8" }]), /must be of `toConfirm`/);
  equal(store.rows.length, 20, "older than keepDays, and kept");
});

test("a history: an export brings it to another device, where it keeps its rule", async () => {
  const now = 1_790_000_000;
  const store = await opened(now);
  const line = (id: string) => JSON.stringify({ type: "event", kind: "play", item: "7", time: now - 2000 * 86_400, source: "offline", id });
  const report = await importLines(store, [line("history-1"), line("of a till"), ...Array.from({ length: 30 }, (_, at) => line(`history-${at + 2}`))].join("\n"), KINDS);
  equal([report.stored, report.tooOld], [31, 1]);
  equal(await history(store, "list", null), [{ id: 2, service: "export", time: now, events: 31 }]);
});

test("a history: it displaces nothing that was done in the app", async () => {
  const now = 1_790_000_000;
  const store = await EventStore.open(await openMemory(), limitsOf({ maxEvents: 20 }), () => now);
  await store.decide({ purpose: "store", granted: true, version: "1", time: now });
  const lines = (count: number, days: number, id: string) =>
    Array.from({ length: count }, (_, at) => JSON.stringify({ type: "event", kind: "play", item: "7", time: now - days * 86_400 + at, source: "offline", id: `${id}-${at}` })).join("\n");
  await importLines(store, lines(8, 40, "till"), KINDS);
  await importLines(store, lines(18, 1, "history"), KINDS);
  equal([store.rows.filter(({ imported }) => imported <= 1).length, store.rows.length], [8, 18]);
});

test("device: a picked file is previewed, stored, named and undone through the device, which outlives the page", async () => {
  const kept = await place();
  let device = await open(kept);
  await device.consent.grant("store");
  await device.consent.revoke("train");
  const file = Object.assign(new Blob(["Date,Name,Year,Letterboxd URI,Rating\n2025-05-05,Heat,1995,https://boxd.it/a,4.5\n"]), { name: "ratings.csv" });
  const table = [{ item: "7", title: "Heat", year: 1995, alternatives: [], kinds: [], ids: {}, more: {}, label: "" }];
  equal(`${await device.importHistory(file, { table })}`, "1 films");
  equal((await device.imports()).length, 0);
  const report = await (await device.importHistory(file, { table })).store();
  await device.close();
  device = await open(kept);
  const imports = await device.imports();
  equal(imports.map(({ id, service, events }) => [id, service, events]), [[report.id, "letterboxd", 1]]);
  equal((await device.consent.history()).length, 2);
  equal([await device.forgetImport(imports[0].id), await device.imports()], [1, []]);
  await device.erase();
});
