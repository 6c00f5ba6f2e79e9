// The playground as `palate playground` writes it, from a plain file server: titles picked by keyboard change the list; a history of one's own; nothing asked of
// anybody else, and nothing of anybody once the network is off; nothing stored unless asked for; text that can be read, on a phone, in light and dark.
import { spawnSync } from "node:child_process";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { browser, forget, HERE, profile, REPOSITORY, served, unreadable, used } from "./browser.mjs";

const [PLACE, DIARY] = ["build/whole/playground", "Date,Name,Year,Letterboxd URI,Rating,Rewatch,Tags,Watched Date\n2024-01-03,The Matrix,1999,https://boxd.it/a,,,,2024-01-02\n2024-01-04,Pulp Fiction,1994,https://boxd.it/c,,,,2024-01-03\n2024-01-03,No Such Film,1931,https://boxd.it/b,,,,2024-01-02\n"];
const ok = (condition, why) => {
  if (!condition) throw new Error(why);
};

rmSync(join(HERE, PLACE), { recursive: true, force: true });
const made = spawnSync(process.env.PALATE ?? join(REPOSITORY, ".venv/bin/palate"), ["playground", "--out", join(HERE, PLACE)], { encoding: "utf8" });
ok(made.status === 0, `palate playground: ${made.stderr || made.error}`);
const asked = [];
const server = await served(HERE, (request) => asked.push(request.url));
const folder = profile();
const running = await browser(folder);
try {
  const page = await running.context.newPage();
  const [wrong, elsewhere] = [[], []];
  page.on("console", (message) => message.type() === "error" && wrong.push(`${message.text()} ${message.location().url}`));
  page.on("pageerror", (error) => wrong.push(String(error)));
  page.on("request", (request) => /^(blob:|http:\/\/localhost)/.test(request.url()) || elsewhere.push(request.url()));
  const listed = () => page.waitForFunction(() => document.querySelectorAll("#own li").length === 10 && document.querySelectorAll("#crowd li").length === 10);
  const titles = (list) => page.locator(`#${list} .title`).allTextContents();
  const stored = () => page.evaluate(async () => [(await indexedDB.databases()).length, localStorage.length, document.cookie, (await caches.keys()).length]);
  const picks = (count) => page.waitForFunction((wanted) => document.querySelectorAll("#picked li").length === wanted, count);
  const before = used(folder).pages;
  await page.goto(`${server.address}/repository/client/web/${PLACE}/index.html`);
  await listed();
  const [loaded, spent] = [await page.evaluate(() => performance.now()), used(folder).pages - before];
  const popular = async () => (await titles("own")).filter((title) => asOthers.includes(title)).length >= 5; // others are explored
  const asOthers = await titles("crowd");
  ok(await popular(), "who picked nothing gets what is popular");
  await page.waitForFunction(() => "ready" in document.body.dataset);

  // From here on without a network, by keyboard alone.
  const most = asked.length;
  await running.context.setOffline(true);
  for (const [count, title] of [[1, "toy story"], [2, "the godfather 1972"], [3, "alien"]]) {
    await page.focus("#title");
    ok((await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle)) !== "none", "what has the focus is seen to have it");
    await page.keyboard.type(title.replace(/ \d+$/, ""));
    await page.keyboard.press("Enter");
    await picks(count);
  }
  const own = await titles("own");
  ok(own.filter((title) => /^(Toy Story|Aliens|The Godfather)/.test(title)).length >= 3, `the list follows what was picked, got ${own}`);
  ok((await page.locator("#own .reason", { hasText: "Because you liked" }).count()) >= 6, "reasons name what was picked");
  ok((await page.textContent("#left")) === "Nothing", "nothing has left");
  await page.fill("#title", "zzzz");
  ok(/No film of 2,727/.test(await page.textContent("#count")), "a title that isn't there is said not to be");
  await page.fill("#title", "");
  for (let press = 0; press < 60 && !(await page.evaluate(() => document.activeElement.matches("#own li button"))); press += 1) await page.keyboard.press("Tab");
  const first = (await titles("own"))[0];
  await page.keyboard.press("Tab"); // from "Like" to "Not for me"
  await page.keyboard.press("Enter");
  await page.waitForFunction((title) => !document.querySelector("#own").textContent.includes(title), first);
  ok(await page.evaluate(() => document.activeElement.matches("#own li:first-child button:last-child")), "the focus stays where it was");

  await page.setInputFiles("#file", { name: "diary.csv", mimeType: "text/csv", buffer: Buffer.from(DIARY) });
  await page.waitForFunction(() => /^2 films, 1 not in the catalogue/.test(document.querySelector("#preview-words").textContent));
  ok(!(await page.textContent("#imports")), "nothing is added before it was seen");
  await page.click("#add");
  await page.waitForFunction(() => /2 from letterboxd/.test(document.querySelector("#imports").textContent));
  ok(/Because you [^:]*(The Matrix|Pulp Fiction)/.test(await page.textContent("#own")), "reasons name what was imported");
  await page.click("#imports button");
  await page.waitForFunction(() => !document.querySelector("#imports").textContent);
  await page.setInputFiles("#file", { name: "notes.txt", mimeType: "text/plain", buffer: Buffer.from("nothing") });
  await page.waitForFunction(() => document.querySelector("#status").textContent);
  const lines = await page.evaluate(() => new Promise((resolve, reject) => {
    addEventListener("unhandledrejection", ({ reason }) => reject(reason));
    const make = URL.createObjectURL;
    URL.createObjectURL = (blob) => {
      blob.text().then(resolve);
      return make(blob);
    };
    document.querySelector("#export").click();
  }));
  ok(lines.split("\n").filter((line) => line.includes('"like"')).length === 3, "the export has all of it");
  ok(String(await stored()) === "0,0,,0", `nothing is stored, got ${await stored()}`);
  ok(asked.length === most, `without a network nothing is asked for, got ${asked.slice(most)}`);
  await running.context.setOffline(false);

  for (const scheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme: scheme, reducedMotion: "reduce" });
    const dim = await page.evaluate(unreadable);
    ok(!dim.length, `${scheme}: ${dim.join("; ")}`);
  }
  for (const width of [320, 390, 1200]) {
    await page.setViewportSize({ width, height: 800 });
    const wide = await page.evaluate(() => [...document.querySelectorAll("body *")].filter((each) => each.checkVisibility() && each.getBoundingClientRect().right > innerWidth).map((each) => each.outerHTML.slice(0, 60)));
    ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `no scrolling to the side at ${width} pixels, got ${wide}`);
    const small = await page.evaluate(() => [...document.querySelectorAll("button, input:not([type=checkbox])")].filter((each) => each.checkVisibility() && each.getBoundingClientRect().height < 24).length);
    ok(!small, `buttons that a finger hits at ${width} pixels`);
  }

  await page.check("#remember");
  await page.waitForFunction(() => /Kept in this browser, encrypted/.test(document.querySelector("#kept").textContent));
  await page.reload();
  await listed();
  await picks(3);
  await page.uncheck("#remember");
  await page.waitForFunction(() => /forgotten with this page/.test(document.querySelector("#kept").textContent));
  await picks(3);
  ok((await stored())[0] === 0, "who takes that back has no store");
  await page.click("#erase");
  await page.click("#sure button[value=yes]");
  await picks(0);
  ok(await popular(), "after erasing it is as if nobody had been there");

  const breach = wrong.filter((text) => !/ERR_INTERNET_DISCONNECTED/.test(text));
  ok(!breach.length && !elsewhere.length, `no errors, no breach of the policy, nobody else asked, got ${[...breach, ...elsewhere].join("; ")}`);
  console.log(`the playground: ${Math.round(loaded)} ms to the first list, ${Math.round(spent)} ms of them of the processor; then titles, reasons, a history, export and erasing without a network; keyboard, contrast, 320 to 1200 pixels`);
} finally {
  await running.kill();
  server.close();
  forget(folder);
}
