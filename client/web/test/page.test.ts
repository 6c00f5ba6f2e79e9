import { page } from "../src/page/page.js";
import { languageOf, type Catalogue } from "../src/page/language.js";
import { equal, ok, refused, test } from "./harness.js";
import { reader } from "./sample.js";

const HOSTILE = '"><script>alert(1)</script><img src=http://x.example/ onerror=alert(1)>\x00\ud800</bdi>';

test("page: a user's own page, in three languages, with titles and reasons", async () => {
  const device = await reader();
  await device.consent.grant("train");
  for (const book of ["book-7", "book-15"]) await device.track("like", book);
  const titles = { "book-7": "The Magic Mountain", "book-15": "Buddenbrooks" };
  const before = await (await device.export()).text();
  const english = await page(device, { language: "en", titles, tags: { "book-7": ["Novel", "Alps"] } });
  ok(english.includes("2 events are stored on this device, encrypted."));
  ok(english.includes("You were active on 1 day; the first is "));
  ok(english.includes("because you liked <bdi>The Magic Mountain</bdi> and you liked <bdi>Buddenbrooks</bdi>") || english.includes("because you liked <bdi>Buddenbrooks</bdi> and you liked <bdi>The Magic Mountain</bdi>"));
  ok(english.includes('<span class="name"><bdi>Alps</bdi></span>'));
  ok(/Take part in training, with noise<\/span><span class="yes">yes, since \d+ \w+ \d{4}/.test(english));
  ok(english.includes("Nothing made from what you did has left this device through Palate."));
  ok(english.includes("With the whole budget spent, somebody who sees all"));
  const german = await page(device, { language: "de-AT", titles });
  ok(german.startsWith('<!DOCTYPE html>\n<html lang="de" dir="ltr">'));
  ok(german.includes("weil du <bdi>"));
  ok((await page(device, { language: "zh-CN" })).includes('<html lang="zh-Hans" dir="ltr">'));
  equal((await (await device.export()).text()).split("\n").slice(1), before.split("\n").slice(1), "making it changes nothing");
  await device.erase();
});

test("page: it loads nothing and runs nothing, whatever a title holds", async () => {
  const device = await reader({ app: "<i>app</i>" });
  for (const item of ["book-7", "<script>alert(3)</script>"]) await device.track("like", item);
  const titles = Object.fromEntries(Array.from({ length: 160 }, (_, n) => [`book-${n}`, HOSTILE]));
  const made = await page(device, { language: "en", titles, tags: { "book-7": HOSTILE } });
  ok((await page(device, { language: "en", tags: { "book-7": "x".repeat(1_000_000) } })).length < 50_000);
  const tags = new Set([...made.matchAll(/<([a-z0-9]+)/g)].map(([, tag]) => tag));
  equal(["script", "img", "link", "iframe", "form", "i"].filter((tag) => tags.has(tag)), []);
  ok(/content="default-src 'none'; style-src 'sha256-[^']+'; form-action 'none'; base-uri 'none'"/.test(made));
  ok(!/[\x00-\x08\x0b\x0c\x0e-\x1f]/.test(made));
  equal([...made.matchAll(/<[a-z][^<>]*\s(on\w+|src|style|srcset)=/g)].map(([found]) => found), []);
  await device.erase();
});

test("page: languages are found by their tag, and an app brings its own", async () => {
  const found = await Promise.all(["de", "DE_at", "zh-Hans-CN", "fr", "en-GB"].map(async (tag) => (await languageOf(tag)).tag));
  equal(found, ["de", "de", "zh-Hans", "en", "en"]);
  await refused(() => languageOf("../de"), /must be a BCP 47 tag/);
  const own: Catalogue = {
    language: { tag: "pl", dir: "ltr", forms: ["one", "few", "many", "other"] },
    writing: { decimal: ",", group: " ", percent: "{n}%", day: "{day}.{month}.{year}", moment: "{day}, {time}", months: Array.from({ length: 12 }, (_, n) => String(n + 1)), comma: ", ", and: " i ", space: " " },
    messages: { "left.rounds": { one: "{n} runda", few: "{n} rundy", many: "{n} rund", other: "{n} rundy" } },
  };
  const polish = await languageOf(own);
  equal([1, 3, 5, 22].map((n) => polish.text("left.rounds", { n })), ["1 runda", "3 rundy", "5 rund", "22 rundy"]);
  equal(polish.text("left.refused", { n: 2 }), "This device refused 2 requests.", "what it lacks is said in English");
  equal([polish.number(1234567.891, 2), polish.percent(0.034), polish.percent(1e-6)], ["1 234 567,89", "3,4%", "< 0,1%"]);
});
