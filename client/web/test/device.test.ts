import { erase, open } from "../src/index.js";
import { environment, equal, ok, refused, test } from "./harness.js";
import { place, reader, sampleFiles } from "./sample.js";

test("device: without consent nothing is stored; what is granted, revoked and tracked outlives the page", async () => {
  const given = await place();
  let device = await open(given);
  equal(await device.track("view", "book-7"), "no consent");
  ok((await device.consent.grant("store", { version: "2026-01" })).granted);
  equal(await device.track("view", "book-7", { value: 40 }), "stored");
  equal(await device.track("view", "book-7", { value: 41 }), "duplicate", "within the window");
  equal(await device.track("rate", "book-7", { value: 5, id: "own" }), "stored");
  equal(await device.track("rate", "book-8", { value: 5, id: "own" }), "duplicate", "an id is stored once");
  equal((await device.consent.revoke("store")).remains, "what was stored before is kept until the user erases it");
  equal(await device.track("like", "book-9"), "no consent");
  await device.close();
  await refused(() => device.track("like", "book-9"), /closed/);
  device = await open(given);
  equal(await device.consent.get("store"), false);
  equal((await device.consent.history()).map(({ granted, version }) => [granted, version]), [[true, "2026-01"], [false, "1"]]);
  const lines = (await (await device.export()).text()).trim().split("\n").map((line) => JSON.parse(line) as Record<string, unknown>);
  equal(lines.filter(({ type }) => type === "event").map(({ kind, item, value }) => [kind, item, value]), [["view", "book-7", 40], ["rate", "book-7", 5]]);
  await device.erase();
});

test("device: a mistake of the app is an error, in one line", async () => {
  const device = await reader();
  await refused(() => device.track("looked" as never, "book-7"), /`kind` must be one of/);
  await refused(() => device.track("like", "book-7", { value: 4 }), /`value` must be left out for like/);
  await refused(() => device.track("rate", "book-7"), /from 1 to 5/);
  await refused(() => device.recommend(0), /`n` must be/);
  await refused(() => device.explain("nothing"), /one of the model's/);
  await refused(() => device.consent.grant("everything" as never), /`purpose` must be one of/);
  await device.erase();
});

test("device: lists, reasons, likenesses and feedback by the sample model", async () => {
  const device = await reader();
  equal((await device.model())?.items, 160);
  for (const book of ["book-7", "book-15", "book-23"]) equal(await device.track("like", book), "stored");
  const shown = await device.recommend(5);
  ok(shown.filter(({ item }) => Number(item.slice(5)) % 8 === 7).length >= 4, "of the shelf that was liked");
  ok(shown.every(({ reason, position }, place) => reason && position === place));
  const why = await device.explain(shown[0].item);
  ok(Math.abs(why.contributions.reduce((sum, { score }) => sum + score, why.rest) - why.score) < 1e-9, "parts sum to the score");
  equal((await device.similarItems("book-7", 3)).length, 3);
  equal((await device.questions(2)).length, 2);
  equal(await device.feedback(shown, { [shown[0].item]: "like" }), [...shown.map(() => "stored" as const), "stored"]);
  const next = await device.recommend(5);
  ok(!next.some(({ item }) => item === shown[0].item), "what is liked already is left out");
  await device.hide(next[0].item);
  ok(!(await device.recommend(160)).some(({ item }) => item === next[0].item), "what is hidden is left out");
  await device.resetTaste();
  equal((await device.explain("book-7")).contributions, []);
  await device.erase();
});

test("device: what a newcomer picks, wants more or less of; interests, domains and what a reason names, as values", async () => {
  const device = await reader();
  equal(await device.interests(["book-7"]), { indices: new Int32Array(0), weights: new Float32Array(0), unwanted: new Int32Array(0) });
  equal(await device.likeToStart(["book-7", "book-15"]), ["stored", "stored"]);
  equal([await device.moreOf("book-23"), await device.lessOf("book-2"), await device.hide("book-3")], ["stored", "stored", "stored"]);
  const { indices, weights, unwanted } = await device.interests(["book-2", "book-15", "nothing", "book-7", "book-3"]);
  equal([[...indices], [...weights], [...unwanted]], [[1, 3], [1, 1], [0, 4]]);
  await refused(() => device.interests(["book-7", "book-7"]), /each item once/);
  await refused(() => device.likeToStart("book-7" as never), /`items` must be/);
  const catalogue = await device.catalogue();
  equal([catalogue.length, (await device.model())?.algorithm], [160, "als"]);
  const shown = await device.recommend(4, { explore: 0 });
  ok(shown.every(({ because, reason }) => because.length && because.every(({ item, kind }) => kind === "like" && reason.includes(`liked ${item}`))), "what a reason names");
  const why = await device.explain(shown[0].item);
  equal([why.elsewhere, why.linked], [0, why.contributions.reduce((sum, { linked }) => sum + linked, 0)]);
  await device.erase();
});

test("device: a model of another key, population or content is refused, and the former one stays", async () => {
  const files = await sampleFiles();
  const other = await open(await place({ service: { publicKey: "ab".repeat(32), population: "readers" } }));
  await refused(() => other.updateModel(files), /signature|key/i);
  equal((await other.privacyReport()).refusals.length, 1);
  await other.erase();
  const device = await reader();
  equal(await device.updateModel(files), false, "in use already");
  await refused(() => device.updateModel({ ...files, signature: files.signature.slice(2) }), /must/);
  const fresh = await open(await place());
  await refused(() => fresh.updateModel({ ...files, items: files.items.slice(1) }), /the ones the manifest names/);
  await fresh.erase();
  equal((await device.model())?.version, 2);
  await device.erase();
});

test("device: the report says what was spent, with unit, adjacency and accountant", async () => {
  const device = await reader();
  const report = await device.privacyReport();
  equal([report.spending?.epsilon, report.spending?.limit, report.spending?.delta], [0, 8, 1e-6]);
  ok(/ε = 0 of at most 8, 8 left, at δ = 0.000001 \(unit: user \(this installation\); adjacency: zero-out; accountant: palate closed form\)/.test(report.text), report.text);
  equal(report.sent, []);
  equal(report.models.length, 1);
  await device.erase();
});

test("device: an export is read by another device, once", async () => {
  const device = await reader();
  await device.trackMany([{ kind: "like", item: "book-1" }, { kind: "rate", item: "book-2", value: 4, props: { shelf: "blue" } }]);
  const lines = await (await device.export()).text();
  const other = await reader();
  equal((await other.import(lines)).stored, 2);
  const again = await other.import(lines);
  equal([again.stored, again.duplicates, again.problems.length], [0, 2, 0]);
  equal((await other.import('{"kind": "like"}\nnothing\n')).problems.map(({ line }) => line), [1, 2]);
  await Promise.all([device.erase(), other.erase()]);
});

test("device: what is shared openly needs its own consent", async () => {
  const device = await reader();
  await device.track("like", "book-7");
  await device.track("dismiss", "book-9");
  await refused(() => device.openLog(), /has not agreed/);
  await device.consent.grant("panel", { version: "2026-01" });
  const log = await device.openLog();
  equal([log.items, log.version], [["book-7"], "2026-01"]);
  ok(/^item_id,timestamp\nbook-7,20\d\d-\d\d-\d\d\n$/.test(log.csv), log.csv);
  equal((await device.privacyReport()).opened.length, 1);
  await device.consent.revoke("panel");
  await refused(() => device.openLog(), /no longer agrees/);
  await device.erase();
});

test("device: after erasing, the store is gone for who had it open, and a new one is empty", async () => {
  const given = await place();
  const device = await open(given);
  await device.consent.grant("store");
  await device.track("like", "book-7");
  await device.erase();
  equal(await device.track("like", "book-8"), "no consent");
  await refused(() => device.consent.history(), /erased/);
  const next = await open(given);
  equal(await next.consent.history(), []);
  await next.close();
  await erase(given.app, { path: given.path });
});

test("device: a store opens with its own key alone", async () => {
  const given = await place({ key: new Uint8Array(32).fill(1) });
  const device = await open(given);
  await device.consent.grant("store");
  await device.close();
  await refused(() => open({ ...given, key: new Uint8Array(32).fill(2) }), /another key/);
  await refused(() => open({ ...given, key: new Uint8Array(8) }), /at least 32/);
  await (await open(given)).erase();
  ok(environment().place);
});
