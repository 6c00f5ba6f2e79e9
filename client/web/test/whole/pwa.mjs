// The app to install, as `templates/pwa/build.mjs` makes it, on a phone as Chromium emulates one: touch, a small screen, a processor four times
// slower, a slow network, none at all; a version that comes while it is in use, and a disk that is full.
import { spawnSync } from "node:child_process";
import { createServer } from "node:http";
import { cpSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { extname, join } from "node:path";
import { browser, forget, HERE, profile, unreadable } from "./browser.mjs";

const PLACE = join(HERE, "build/whole/pwa");
const TYPES = { ".js": "text/javascript", ".html": "text/html", ".css": "text/css", ".svg": "image/svg+xml", ".json": "application/json", ".webmanifest": "application/manifest+json" };
const PHONE = { width: 390, height: 844, deviceScaleFactor: 3, mobile: true };
const [SLOWER, MOST] = [4, 2000];
const SLOW_NETWORK = { offline: false, latency: 300, downloadThroughput: 200_000, uploadThroughput: 96_000 };
const ok = (condition, why) => {
  if (!condition) throw new Error(why);
};
const built = (...given) => spawnSync("node", [join(HERE, "templates/pwa/build.mjs"), ...given], { encoding: "utf8" });

const made = built(PLACE);
ok(made.status === 0, `the build: ${made.stderr}`);
for (const [given, said] of [[[], /`OUT` must be a folder/], [[join(PLACE, "no"), "--model", "/nowhere"], /`--model` must be the folder/]]) {
  const refused = built(...given);
  ok(refused.status === 2 && said.test(refused.stderr) && refused.stderr.trim().split("\n").length === 1, `a mistake is one line, got ${refused.stderr}`);
}

const asked = [];
const server = createServer((request, response) => {
  const path = new URL(request.url, "http://localhost").pathname;
  asked.push(path);
  try {
    const file = path.replace(/\/$/, "/index.html");
    const data = readFileSync(join(PLACE, file));
    response.writeHead(200, { "Content-Type": TYPES[extname(file)] ?? "application/octet-stream", "Cache-Control": "no-cache" });
    response.end(data);
  } catch {
    response.writeHead(404).end();
  }
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const address = `http://localhost:${server.address().port}/`;
const folder = profile();
const running = await browser(folder);

/** Touches the middle of what a selector finds, as a finger does. */
async function tap(page, locator) {
  await locator.scrollIntoViewIfNeeded();
  const { x, y, width, height } = await locator.boundingBox();
  const point = { x: x + width / 2, y: y + height / 2 };
  await page.session.send("Input.dispatchTouchEvent", { type: "touchStart", touchPoints: [point] });
  await page.session.send("Input.dispatchTouchEvent", { type: "touchEnd", touchPoints: [] });
}

/** A page on the phone; `network` is what its requests get. */
async function phone(network) {
  const page = await running.context.newPage();
  const session = await page.context().newCDPSession(page);
  await session.send("Emulation.setDeviceMetricsOverride", PHONE);
  await session.send("Emulation.setTouchEmulationEnabled", { enabled: true });
  await session.send("Emulation.setCPUThrottlingRate", { rate: SLOWER });
  await session.send("Network.enable");
  if (network) await session.send("Network.emulateNetworkConditions", network);
  page.wrong = [];
  page.on("pageerror", (error) => page.wrong.push(String(error)));
  return Object.assign(page, { session });
}
const listed = (page) => page.waitForFunction(() => document.body.dataset.listed && document.querySelectorAll("#list li").length === 10, undefined, { timeout: 60_000 });
const titles = (page) => page.locator("#list .title").allTextContents();
const when = async (page) => Number(await page.evaluate(() => document.body.dataset.listed));
const has = (page) => page.waitForFunction(async () => Boolean((await navigator.serviceWorker?.getRegistration())?.active), undefined, { timeout: 60_000 });

try {
  // The first start, on a slow network; nothing is kept before the user is asked.
  let page = await phone(SLOW_NETWORK);
  await page.goto(address);
  await listed(page);
  const first = await when(page);
  await has(page);
  ok(!(await page.evaluate(() => indexedDB.databases())).length, "nothing is kept before the user agrees");
  await tap(page, page.locator("#list li").first().locator("button").first());
  await page.waitForSelector("#ask:not([hidden])"); // before anything is remembered
  await tap(page, page.locator("#ask button[value=yes]"));
  await page.waitForSelector("#ask", { state: "hidden" });
  await page.waitForFunction(() => /because you liked/i.test(document.querySelector("#list").textContent)); // what was picked before the question
  const before = await titles(page);
  await tap(page, page.locator("#list li").nth(1).locator("button").first());
  await page.waitForFunction((had) => ![...document.querySelectorAll("#list .title")].some((each) => each.textContent === had), before[1]);
  for (const scheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme: scheme });
    const dim = await page.evaluate(unreadable);
    ok(!dim.length, `${scheme}: ${dim.join("; ")}`);
  }
  const small = await page.evaluate(() => [...document.querySelectorAll("button")].filter((each) => each.checkVisibility() && each.getBoundingClientRect().height < 44).length);
  ok(!small && (await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth)), "buttons that a finger hits, and no scrolling to the side");
  await page.close();

  // From the second start on, without a network as with it.
  const starts = [];
  for (const network of [SLOW_NETWORK, { ...SLOW_NETWORK, offline: true }, { ...SLOW_NETWORK, offline: true }]) {
    const most = asked.length;
    page = await phone(network);
    await page.goto(address);
    await listed(page);
    starts.push(await when(page));
    ok((await page.locator("#list .reason", { hasText: "Because you liked" }).count()) >= 1, "what was liked is still known");
    if (network.offline) ok(asked.slice(most).every((path) => path === "/offline.js"), `without a network nothing is asked for, got ${asked.slice(most)}`);
    await page.close();
  }
  ok(Math.max(...starts) <= MOST, `the first list within ${MOST} ms from the second start on, got ${starts}`);

  // A version that comes while the app is in use: it goes on with the old one until it is told to take the new one.
  page = await phone();
  await page.goto(address);
  await listed(page);
  const [was] = /VERSION = "(\w+)"/.exec(readFileSync(join(PLACE, "offline.js"), "utf8")).slice(1);
  const gone = readdirSync(join(PLACE, "palate")).filter((name) => name.startsWith("report-") || name.startsWith("own-"));
  const [from, to] = [join(HERE, "templates/pwa"), `${PLACE}-next`];
  rmSync(to, { recursive: true, force: true });
  ok(built(to).status === 0, "a second build");
  writeFileSync(join(to, "index.html"), readFileSync(join(from, "index.html"), "utf8").replace("<h1>Films for you</h1>", "<h1>Films for you, anew</h1>"));
  writeFileSync(join(to, "offline.js"), readFileSync(join(to, "offline.js"), "utf8").replace(was, "anew"));
  rmSync(PLACE, { recursive: true, force: true });
  cpSync(to, PLACE, { recursive: true });
  for (const name of gone) rmSync(join(PLACE, "palate", name)); // a part that the old version loads late
  await page.evaluate(async () => (await navigator.serviceWorker.getRegistration()).update().catch(() => undefined));
  await tap(page, page.locator("#list li").first().locator("button").last());
  await page.waitForFunction(() => document.querySelector("#status").textContent === "Left out from now on");
  ok((await page.evaluate(async () => (await (await caches.keys()).length))) >= 1, "the old version's files are there while it is in use");
  ok((await page.textContent("h1")) === "Films for you", "nothing changes under the user's hands");
  for (const name of gone) cpSync(join(to, "palate", name), join(PLACE, "palate", name));
  await page.evaluate(async () => (await navigator.serviceWorker.getRegistration()).update());
  await page.waitForSelector("#newer:not([hidden])");
  await tap(page, page.locator("#take-over"));
  await page.waitForFunction(() => document.querySelector("h1")?.textContent === "Films for you, anew", undefined, { timeout: 60_000 });
  await listed(page);
  ok((await page.locator("#list .reason", { hasText: "Because you liked" }).count()) >= 1, "and what was liked is known to the new version");
  ok((await page.evaluate(() => caches.keys())).filter((name) => name.startsWith("app ")).length === 1, "the old version is gone");

  // No room: the browser takes back what it gave; the app says so, or goes on in memory.
  await page.close();
  page = await phone();
  await page.session.send("Storage.clearDataForOrigin", { origin: address.slice(0, -1), storageTypes: "all" });
  await page.session.send("Storage.overrideQuotaForOrigin", { origin: address.slice(0, -1), quotaSize: 1000 });
  await page.goto(address);
  await listed(page);
  ok(!page.wrong.length, `no error reaches the user, got ${page.wrong.join("; ")}`);
  console.log(`the app to install: first list ${Math.round(first)} ms at the first start on a slow network, then ${starts.map(Math.round).join(", ")} ms, of which the last two without one, at a processor ${SLOWER} times slower; touch, contrast, a new version in use, no room`);
} finally {
  await running.kill();
  server.close();
  forget(folder);
}
