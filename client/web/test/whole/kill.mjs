// Kills the tab, or the whole browser, at random moments of tracking, taking a model and erasing, and looks at what is there.
//
//     node test/whole/kill.mjs --times 10 --seed 1
//
// Nothing that was acknowledged may be lost or there twice; the model is one whole model, the last that was acknowledged or the
// one that was being taken; an erasure that had begun is finished or never happened.
import { browser, bundled, forget, profile, served } from "./browser.mjs";

const given = (name, usual) => Number(process.argv[process.argv.indexOf(name) + 1] || usual) || usual;
const times = process.argv.includes("--times") ? given("--times", 10) : 10;
let seed = process.argv.includes("--seed") ? given("--seed", 1) : 1;
const random = () => (seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0) / 2 ** 32;

const server = await served(await bundled("kill_page.ts"));
const folder = profile();
let [stored, took, taking, erasing] = [new Set(), 0, 0, false];
const seen = { tab: 0, browser: 0, events: 0, models: 0, erasures: 0, halfway: 0 };

function told(what, detail) {
  if (what === "stored") stored.add(detail);
  if (what === "taking") taking = Number(detail);
  if (what === "took") took = taking = Number(detail);
  if (what === "erasing") erasing = true;
  if (what === "erased") [stored, took, taking, erasing] = [new Set(), 0, 0, false];
  if (what === "erased") seen.erasures += 1;
}

function check({ events, version, listed }) {
  const there = new Set(events);
  if (there.size !== events.length) throw new Error("an event is there twice");
  const missing = [...stored].filter((item) => !there.has(item));
  const empty = erasing && !events.length && !version;
  if (erasing) seen.halfway += 1;
  if (missing.length && !empty) throw new Error(`acknowledged and lost: ${missing.slice(0, 5)}`);
  if (!empty && version !== took && version !== taking) throw new Error(`the model is of version ${version}, must be ${took} or ${taking}`);
  if (listed.some((each) => each !== version)) throw new Error(`a list of version ${version} has items of ${listed}`);
  [stored, took, taking, erasing] = [there, version, version, false];
}

let running = null;
try {
  for (let turn = 0; turn <= times; turn += 1) {
    running ??= await browser(folder);
    const page = await running.context.newPage();
    await page.exposeFunction("told", told);
    await page.goto(`${server.address}/kill_page.html`);
    await page.waitForFunction(() => document.title === "ready");
    check(await page.evaluate(() => globalThis.state()));
    if (turn === times) break;
    void page.evaluate(([at, version, erases]) => globalThis.work(at, version, erases), [turn, took, random() < 0.7]).catch(() => undefined);
    await new Promise((resolve) => setTimeout(resolve, 20 + 500 * random()));
    [seen.events, seen.models] = [Math.max(seen.events, stored.size), Math.max(seen.models, took)];
    if (random() < 0.2) {
      await running.kill();
      running = null;
      seen.browser += 1;
    } else {
      // The page's process ends in the middle of whatever it does.
      const session = await running.context.newCDPSession(page);
      await Promise.race([session.send("Page.crash").catch(() => undefined), new Promise((resolve) => setTimeout(resolve, 1000))]);
      await page.close().catch(() => undefined);
      seen.tab += 1;
    }
  }
  console.log(`killed ${times} times: ${JSON.stringify(seen)}; nothing acknowledged was lost, no model mixed`);
} finally {
  await running?.kill().catch(() => undefined);
  server.close();
  forget(folder);
}
