import { expand } from "../../src/models/compact.js";
import { tableFrom } from "../../src/models/item_changes.js";
import { ItemTable } from "../../src/models/item_table.js";
import { rulesFrom } from "../../src/models/rules.js";
import { fromBase64, utf8 } from "../../src/records/bytes.js";
import { SigningKey } from "../../src/records/signing.js";
import { boughtAgain, unfinished } from "../../src/recommend/facts/again.js";
import { Interests } from "../../src/recommend/interests.js";
import { Recommender } from "../../src/recommend/recommender.js";
import { check, parse, select } from "../../src/recommend/where.js";
import { eventOf, type Row } from "../../src/events.js";
import { open } from "../../src/index.js";
import { weightingOf } from "../../src/weighting.js";
import { environment, equal, ok, refused, test } from "../harness.js";
import { plainModel, POPULATION, publish } from "../published.js";
import { place } from "../sample.js";

const deflated = async (data: string): Promise<Uint8Array> => new Uint8Array(await new Response(new Blob([data]).stream().pipeThrough(new CompressionStream("deflate"))).arrayBuffer());
const exactly = (error: string) => new RegExp(`^${error.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")}$`);
const file = async () => JSON.parse(await environment().readRepository("docs/vectors/where.json")) as any;
const near = (shown: readonly { score: number }[], listed: any[]) => shown.forEach(({ score }, at) => ok(Math.abs(score - listed[at][1]) <= 1e-5 * Math.max(1, Math.abs(score)), "scores"));
const NAMES: Record<string, string> = { diversity_by: "diversityBy" };

test("where.json: filters let through what they say, and are refused with the place", async () => {
  const { table: data, items, selected, refused: cases } = await file();
  const table = ItemTable.read(utf8(data), items);
  for (const [text, rows] of selected) equal([...select(parse(text), table).entries()].filter(([, each]) => each).map(([row]) => row), rows, text);
  for (const [text, error] of cases) await refused(() => check(parse(text), table), exactly(error));
});

test("where.json: rules and changes of a table are read, or refused in the same words", async () => {
  const { table, items, no_rules: cases, changes } = await file();
  for (const [data, error] of cases) await refused(() => rulesFrom(utf8(data)), exactly(error));
  const base = await deflated(table);
  const found = await tableFrom(base, await deflated(changes.changes), changes.items);
  equal([...found], [...ItemTable.read(utf8(changes.table), changes.items)]);
  equal([...(await tableFrom(base, undefined, items))].length, items.length);
  for (const [data, error] of changes.refused) await refused(async () => tableFrom(base, await deflated(data), changes.items), exactly(error));
});

test("where.json: lists that facts, rules and an app steer are Python's", async () => {
  const { table: data, items, rules, now, steered } = await file();
  const table = ItemTable.read(utf8(data), items);
  const rows: Row[] = steered.events.map((each: any, at: number) => ({ ...eventOf({ kind: each.kind, item: each.item }), id: String(at), seq: at + 1, time: each.at, received: each.at, imported: 0 }));
  const store = { rows, generation: 0, reset: 0, clock: () => now as number };
  const model = await expand(fromBase64(steered.model), 2 ** 20);
  for (const { rules: ruled, options, items: listed } of steered.lists) {
    const facts = { table, rules: ruled ? rulesFrom(utf8(rules)) : [], clock: store.clock, learned: Infinity };
    const made = await Recommender.of(model, items, new Interests(store, items, weightingOf("plain")), () => ({}), null, undefined, facts);
    const { n, ...others } = options;
    const shown = made.recommend(n, Object.fromEntries(Object.entries(others).map(([name, value]) => [NAMES[name] ?? name, value])));
    equal(shown.map(({ item, source, reason }) => [item, source, reason]), listed.map(([item, , source, reason]: any) => [item, source, reason]), JSON.stringify({ ruled, options }));
    near(shown, listed);
  }
  const fresh = await expand(fromBase64(steered.new_model), 2 ** 20);
  const facts = { table, rules: [], clock: store.clock, learned: steered.learned };
  const made = await Recommender.of(fresh, items, new Interests(store, items, weightingOf("plain")), () => ({}), null, undefined, facts);
  const shown = made.recommend(30, { discovery: 0 });
  equal(shown.map(({ item, source, reason }) => [item, source, reason]), steered.new.map(([item, , source, reason]: any) => [item, source, reason]), "new items");
  near(shown, steered.new);
});

test("where.json: what is bought again, and what is unfinished, is Python's", async () => {
  const { again, now } = await file();
  const rows: Row[] = again.events.map((each: any, at: number) => ({ ...eventOf({ kind: each.kind, item: each.item, value: each.value }), id: String(at), seq: at + 1, time: each.at, received: each.at, imported: 0 }));
  const due = [...boughtAgain(rows, now)];
  equal(due.map(([item]) => item), again.due.map(([item]: any) => item));
  due.forEach(([, value], at) => ok(Math.abs(value - again.due[at][1]) <= 1e-6, "due"));
  equal([...unfinished(rows, (item) => again.lengths[item] ?? 0)], again.unfinished);
});

test("steering: a device filters by facts that came with its model, whose changes come alone, and says what is promoted", async () => {
  const [key, items] = [await SigningKey.fromSecret(new Uint8Array(32).fill(5)), ["a", "b", "c"]];
  const [plain, now] = [plainModel(items), Date.now() / 1000];
  const json = JSON.stringify({ columns: { price: [3, 2, 1], from: [null, null, now - 9], until: [null, now + 1e6, null] }, format: 1, ids: {}, items: 3 });
  const table = await deflated(json);
  const changes = await deflated(JSON.stringify({ columns: { price: [7], stock: [0] }, format: 1, ids: {}, items: 1, over: 3, rows: [2] }));
  const rules = utf8(JSON.stringify({ format: 1, rule: [{ pin: ["b"] }] }));
  const device = await open(await place({ service: { publicKey: key.publicKey, population: POPULATION } }));
  await device.consent.grant("store");
  await refused(() => device.recommend(), /a device must have a model/);
  await device.updateModel(await publish(key, 1, items, plain, "", {}));
  await refused(() => device.recommend(3, { where: "price < 3" }), /`where` must be left out where no item table came with the model, got one/);
  equal((await device.recommend(1, { pin: ["c"], explore: 0 })).map(({ item, source }) => [item, source]), [["c", "promoted"]]);
  await device.updateModel(await publish(key, 2, items, plain, "", { "item-table.z": table }));
  const list = async (options: object) => (await device.recommend(3, { explore: 0, ...options })).map(({ item }) => item).sort().join("");
  equal([await list({}), await list({ where: "price < 3" }), await list({ where: ({ more }: { more: any }) => more.price > 1, items: ["a", "c"] })], ["abc", "bc", "a"]);
  await refused(() => device.recommend(3, { where: "prize < 3" }), /`where` must have one of .*, price, .* at character 1, got 'prize'/);
  await refused(() => device.recommend(3, { boost: { "price < 3": 2 } }), /`boost` must have numbers from -1 to 1/);
  await refused(() => device.recommend(3, { diversityBy: "prize" }), /`diversityBy` must be one of/);
  await device.track("purchase", "b");
  const again = await device.buyAgain();
  equal(again.map(({ item, source, reason }) => [item, source, reason]), [["b", "again", "because you bought b"]]);
  equal([await device.unfinished(), await device.feedback(again)], [[], ["stored"]]);
  const { "item-table.z": _, ...others } = await publish(key, 3, items, plain, "", { "item-table.z": table, "item-changes.z": changes, "rules.json": rules });
  await device.updateModel(others);
  equal((await device.items(["c"]))[0].more, { price: 7, stock: 0 });
  const shown = await device.recommend(3, { explore: 0 });
  equal(shown.map(({ item, reason }) => [item, reason]), [["a", "popular with others"]], "what was bought isn't pinned");
  const pinned = await device.recommend(3, { explore: 0, filterAlreadyLikedItems: false });
  equal(pinned.map(({ item, reason }) => [item, reason]), [["b", "promoted"], ["a", "popular with others"]]);
  await device.feedback(pinned, { b: "like" });
  await refused(async () => device.updateModel(await publish(key, 4, items, plain, "", { "rules.json": utf8("{}") })), /rules must be of format 1, got another/);
  await device.erase();
});
