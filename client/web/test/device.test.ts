import { erase, isCharging, isIdle, isUnmetered, open, type Policy } from "../src/index.js";
import { forbidden } from "../src/policy.js";
import { fromHex } from "../src/records/bytes.js";
import { environment, equal, ok, refused, test, vectors } from "./harness.js";
import { plainModel } from "./published.js";
import { place, reader, sampleFiles, SERVICE } from "./sample.js";

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
  await refused(() => device.track("purchase", "book-7", { value: 19.99 }), /whole number.*`props.amount`/);
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
  await refused(() => device.similarItems(["book-7", "book-8"] as unknown as string), /`item` must be one of the model's/);
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

test("device: a statement says what remains, and an erasure with one gives it", async () => {
  const device = await reader();
  await device.track("like", "book-7");
  await device.consent.grant("train");
  const made = await device.statement();
  equal([made.final, made.population, made.rounds, made.mu2, made.epsilon, made.server], [false, SERVICE.population, [], 0, 0, null]);
  equal(made.left.map(({ purpose, agreed }) => [purpose, agreed]), [["train", true], ["analytics", false], ["panel", false]]);
  equal([made.state?.size, JSON.parse(made.state?.evidence ?? "{}").manifest.population], [2, SERVICE.population]);
  ok(!made.file.includes("book-7") && !made.text.includes("book-7"), "no item is in it");
  ok(made.text.startsWith(`What remains of ${device.app} on this device`), made.text);
  equal(JSON.parse(made.file).palate, "statement");
  equal(await device.track("like", "book-8"), "stored", "to make it erases nothing");
  await refused(() => device.leave(), /must be enrolled to leave/);
  await refused(() => device.leave({ seconds: 0 }), /`seconds` must be/);
  const last = await device.erase({ statement: true });
  equal([last.final, last.left[0].agreed], [true, true]);
  ok(last.text.includes("(made to erase it)"));
  await refused(() => device.statement(), /erased/);
});

test("device: conditions of the app are asked in its page before the network is used, and an error in one counts as no", async () => {
  const device = await reader();
  const asked: string[] = [];
  const hook = (name: string, holds: boolean | Error) => () => {
    asked.push(name);
    if (holds instanceof Error) throw holds;
    return holds;
  };
  const sync = (policy: Policy) => device.sync({ modelsOnly: true, models: "http://localhost:1/models", policy });
  const metered = await sync({ charging: hook("charging", true), unmetered: async () => false, window: hook("window", true) });
  equal([metered.ended, metered.reason, metered.requests], ["policy", "unmetered", 0]);
  equal(asked, ["charging"]);
  const failed = await sync({ idle: hook("idle", new Error("nobody knows")) });
  equal([failed.ended, failed.reason], ["policy", "idle: nobody knows"]);
  equal((await sync({ idle: hook("idle", true) })).ended, "unreachable", "all hold: it goes on");
  await device.erase();
});

test("policy: what a browser doesn't say is no condition that holds", async () => {
  equal(await forbidden({}), "");
  for (const [name, hook] of Object.entries({ charging: isCharging, unmetered: isUnmetered, idle: isIdle })) {
    const said = await forbidden({ [name]: hook });
    ok(said === "" || said === name || said.startsWith(`${name}: `), said);
  }
  const own = Object.getOwnPropertyDescriptor(globalThis, "navigator");
  const having = (value: object) => Object.defineProperty(globalThis, "navigator", { value, configurable: true });
  try {
    having({});
    for (const [name, hook] of Object.entries({ charging: isCharging, unmetered: isUnmetered })) ok((await forbidden({ [name]: hook })).startsWith(`${name}: this browser doesn't say`));
    having({ getBattery: async () => ({ charging: true }), connection: { type: "wifi" } });
    equal(await forbidden({ charging: isCharging, unmetered: isUnmetered }), "");
    having({ getBattery: async () => ({ charging: false }), connection: { type: "cellular" } });
    equal([await forbidden({ charging: isCharging }), await forbidden({ unmetered: isUnmetered })], ["charging", "unmetered"]);
    having({ connection: { type: "wifi", saveData: true } });
    equal(await forbidden({ unmetered: isUnmetered }), "unmetered", "who saves data pays for it");
  } finally {
    if (own) Object.defineProperty(globalThis, "navigator", own);
    else Reflect.deleteProperty(globalThis, "navigator");
  }
});

test("device: a model of the app's own makes lists until a later published one is taken, and is refused where it is none", async () => {
  const device = await reader();
  const [items, { cases }] = [Array.from({ length: 30 }, (_, row) => `own-${row}`), await vectors("contributed.json")];
  await device.track("like", "own-3");
  await device.useModel(plainModel(items), items, { domains: items.map((_, row) => (row % 2 ? "odd" : "even")) });
  const [first] = await device.recommend(5, { explore: 0 });
  equal(first.item, "own-0", "the most popular");
  ok((await device.recommend(5, { domain: "odd" })).every(({ item }) => Number(item.slice(4)) % 2));
  equal((await device.model())?.items, 160, "what was published stays, for rounds");
  await device.forgetModel();
  ok((await device.recommend(5)).every(({ item }) => item.startsWith("book-")));
  // A whole model, with what only training needs, as Python writes it.
  const whole = cases.find(({ what }: { what: string }) => what.startsWith("als"));
  await device.useModel(fromHex(whole.model_file_hex), Array.from({ length: 150 }, (_, row) => `item-${row}`), { recentHalfLifeDays: 30 });
  equal((await device.recommend(3)).length, 3);
  await refused(() => device.useModel(plainModel(items), items.slice(1)), /`items` must be the model's 30/);
  await refused(() => device.useModel(plainModel(items), items, { domains: ["one"] }), /`domains` must be/);
  await refused(() => device.useModel(plainModel(items), items, { recentHalfLifeDays: 0 }), /positive and finite/);
  await refused(() => device.useModel(new Uint8Array(40), items), /must be/);
  await device.erase();
});

test("device: a published model that is taken later takes the place of the app's own", async () => {
  const files = await sampleFiles();
  const device = await open(await place());
  await device.consent.grant("store");
  const items = Array.from({ length: 30 }, (_, row) => `own-${row}`);
  await device.useModel(plainModel(items), items);
  ok((await device.recommend(3)).every(({ item }) => item.startsWith("own-")));
  await device.updateModel(files);
  ok((await device.recommend(3)).every(({ item }) => item.startsWith("book-")));
  await device.erase();
});

test("policy: one that is misspelled, is no function, or never answers doesn't count as one that holds", async () => {
  const device = await reader();
  const given = { modelsOnly: true, models: "http://localhost:1/models" };
  for (const policy of [null, { unmeterd: () => false }, { charging: false }, { charging: null }, { idle: true }, "charging", []] as unknown[] as Policy[]) {
    if (Array.isArray(policy)) continue; // has no conditions, and none that could be meant
    await refused(() => device.sync({ ...given, policy }), /`policy` must have functions alone, named charging, unmetered, idle, window, got/);
  }
  equal((await device.sync({ ...given, policy: { charging: undefined } })).ended, "unreachable", "left out");
  const never = () => new Promise<boolean>(() => undefined);
  equal(await forbidden({ charging: () => true, unmetered: never, window: () => false }, 20), "unmetered: it must answer within 0.02 seconds, and hasn't");
  await device.erase();
});

test("device: a sync that is asked to stop before it begins uses no network", async () => {
  const device = await reader();
  const asked: string[] = [];
  const policy = { window: () => asked.push("window") > 0 };
  const { ended, requests } = await device.sync({ modelsOnly: true, models: "http://localhost:1/models", signal: AbortSignal.abort(), policy });
  equal([ended, requests, asked], ["stopped", 0, []]);
  await device.erase();
});

test("device: arrays of a model of the app's own that don't fit each other are refused, and never computed with", async () => {
  const device = await reader();
  const items = Array.from({ length: 30 }, (_, row) => `own-${row}`);
  await device.track("like", "own-3");
  const whole = plainModel(items, 4);
  const size = new DataView(whole.buffer).getUint32(0, true);
  const changed = (change: (entries: Record<string, { dtype: string; shape: number[]; data_offsets: number[] }>) => void, fill = (_: Uint8Array, __: (name: string) => Uint8Array) => undefined as void) => {
    const entries = JSON.parse(new TextDecoder().decode(whole.subarray(8, 8 + size)));
    change(entries);
    const body = whole.slice(8 + size);
    fill(body, (name) => body.subarray(...(entries[name].data_offsets as [number, number])));
    const head = new TextEncoder().encode(JSON.stringify(entries));
    const made = new Uint8Array(8 + head.length + body.length);
    new DataView(made.buffer).setUint32(0, head.length, true);
    made.set(head, 8);
    made.set(body, 8 + head.length);
    return made;
  };
  await device.useModel(changed(() => undefined), items);
  const before = await device.recommend(5, { explore: 0 });
  const hostile = {
    "directions without columns": changed((entries) => {
      entries.basis = { ...entries.basis, dtype: "I8", shape: [120] };
      delete entries["basis scale"];
      entries.rest = { dtype: "F32", shape: [4], data_offsets: [whole.length - 8 - size - 16, whole.length - 8 - size] };
    }),
    "too few weights": changed((entries) => (entries.weight.shape = [15, 2])),
    "rows that aren't there": changed(() => undefined, (_, at) => at("head").fill(127)),
    "rows that are no numbers of rows": changed((entries) => (entries.head.dtype = "F32")),
    "negative weights": changed(() => undefined, (_, at) => at("weight").fill(0xbf)),
  };
  for (const [why, model] of Object.entries(hostile)) await refused(() => device.useModel(model, items).then(() => Promise.reject(new Error(`taken: ${why}`))), /must/);
  for (const wrong of [null, "x".repeat(30), items.map((_, row) => row)] as unknown[]) await refused(() => device.useModel(plainModel(items), wrong as string[]), /`items` must be an array of words/);
  await refused(() => device.useModel(plainModel(items), items, { domains: "x".repeat(30) as unknown as string[] }), /`domains` must be an array of words/);
  equal(await device.recommend(5, { explore: 0 }), before, "what was in use stays");
  await device.erase();
});
