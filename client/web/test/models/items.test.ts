import { ItemMatcher, normalId, normalTitle, splitTitle } from "../../src/models/item_matching.js";
import { ItemTable, mostOfTable } from "../../src/models/item_table.js";
import { utf8 } from "../../src/records/bytes.js";
import type { Json } from "../../src/records/canonical.js";
import { SigningKey } from "../../src/records/signing.js";
import { open } from "../../src/index.js";
import { page } from "../../src/page/page.js";
import { equal, ok, refused, test, vectors } from "../harness.js";
import { place } from "../sample.js";
import { plainModel, POPULATION, publish } from "../published.js";

const deflated = async (data: Uint8Array): Promise<Uint8Array> => new Uint8Array(await new Response(new Blob([data]).stream().pipeThrough(new CompressionStream("deflate"))).arrayBuffer());

test("items.json: a table is read as Python reads it", async () => {
  const { table, items, facts } = await vectors("items.json");
  const read = await ItemTable.fromBytes(await deflated(utf8(table)), items);
  for (const [row, found] of [...read].entries()) {
    const { label, ...rest } = found;
    equal(rest, JSON.parse(facts[row]));
    equal([read.get(items[row])?.label, read.title(items[row])], [label, label === items[row] ? "" : label]);
  }
  equal([read.get("toString"), read.title("another")], [undefined, ""]);
});

test("items.json: what is no table is refused in the same words", async () => {
  const { refused: cases, items } = await vectors("items.json");
  for (const { data, error } of cases) await refused(() => ItemTable.read(utf8(data), items), new RegExp(`^${error.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")}$`));
  const bomb = await deflated(new Uint8Array(mostOfTable(1) + 1));
  await refused(() => ItemTable.fromBytes(bomb, ["a"]), /an item table must be whole and at most 69632 bytes unpacked/);
});

test("items.json: titles, ids and rows of others are matched alike", async () => {
  const { table, items, matches, titles, ids, split } = await vectors("items.json");
  const matcher = new ItemMatcher(ItemTable.read(utf8(table), items));
  for (const { row, item, how, items } of matches) equal(matcher.match(row), { item, how, items, sure: how === "id" || how === "title and year" });
  for (const [text, normal] of titles) equal(normalTitle(text), normal);
  for (const [scheme, text, normal] of ids) equal(normalId(scheme, text), normal);
  for (const [text, parts] of split) equal(splitTitle(text), parts);
});

test("items: a device shows titles that came with its model, by a table that is renewed alone, or refused", async () => {
  const [key, items] = [await SigningKey.fromSecret(new Uint8Array(32).fill(5)), ["a", "b", "c"]];
  const table = async (...title: (string | null)[]): Promise<Record<string, Uint8Array>> =>
    ({ "item-table.z": await deflated(utf8(JSON.stringify({ columns: { title, kinds: [["Drama"], null, null] }, format: 1, ids: {}, items: 3 }))) });
  const plain = plainModel(items);
  const published = async (size: number, beside: Record<string, Uint8Array>) => publish(key, size, items, plain, "", beside);
  const device = await open(await place({ service: { publicKey: key.publicKey, population: POPULATION } }));
  await device.consent.grant("store");
  await device.updateModel(await published(1, await table("Alpha", "<b>Beta", null)));
  await device.track("like", "a");
  equal((await device.items()).map(({ label }) => label), ["Alpha", "<b>Beta", "c"]);
  const shown = await device.recommend(3, { explore: 0 });
  equal(shown.map(({ item, title }) => [item, title]), [["b", "<b>Beta"], ["c", ""]]);
  const told = await page(device, { language: "en" });
  ok(told.includes("Alpha") && told.includes("&lt;b&gt;Beta") && told.includes("Drama"), "titles and kinds of the table");
  ok((await page(device, { language: "en", titles: { a: "My own" } })).includes("My own"), "an app's own titles first");
  await refused(async () => device.updateModel(await published(2, { "item-table.z": await deflated(utf8("{}")) })), /an item table must be of format 1 and 3 items/);
  const { "manifest.json": manifest, signature, "item-table.z": other } = await published(3, await table("Uno", null, null));
  await device.updateModel({ "manifest.json": manifest, signature, "item-table.z": other });
  equal((await device.items(["a", "x"])).map(({ item, title }) => [item, title]), [["a", "Uno"]]);
  equal((await device.recommend(1, { explore: 0 }))[0].title, "");
  await device.updateModel(await published(4, {}));
  equal(await device.items(), []);
  await device.erase();
});

test("models: where too few people have taken part, device and page say of how many others the model knows", async () => {
  const [key, items] = [await SigningKey.fromSecret(new Uint8Array(32).fill(5)), ["a", "b", "c"]];
  const plain = plainModel(items);
  const device = await open(await place({ service: { publicKey: key.publicKey, population: POPULATION } }));
  await device.consent.grant("store");
  const cases: [Record<string, Json>, number | null, string][] = [
    [{ releases: 1, starts_from: { users: 15629, population: "elsewhere" } }, 15629, "was learned elsewhere, from 15,629 others"],
    [{ releases: 1, starts_from: { users: 0 } }, null, ""],
    [{ releases: 1, starts_from: "somewhere" }, null, ""],
    [{ releases: 1 }, null, ""],
  ];
  for (const [at, [said, known, words]] of cases.entries()) {
    await device.updateModel(await publish(key, at + 1, items, plain, "", {}, said));
    equal((await device.model())?.elsewhere, known);
    const told = await page(device, { language: "en" });
    equal(told.includes("Too few people have taken part here yet"), known !== null);
    ok(told.includes(words));
  }
  await device.erase();
});
