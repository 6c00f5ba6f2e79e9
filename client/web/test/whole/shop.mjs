// The examples, as a visitor has them: nothing is stored before a choice. And the sample shop: refusing as easy as accepting, lists, report, export, erasing; by
// keyboard; text that can be read (WCAG AA) in light and dark; no scrolling to the side on a phone.
import { join } from "node:path";
import { browser, bundled, forget, HERE, profile, served, unreadable } from "./browser.mjs";

const PAGE = "/repository/client/web/examples/shop/index.html";
const ok = (condition, why) => {
  if (!condition) throw new Error(why);
};

await bundled("react_page.jsx");
const server = await served(HERE);
const folder = profile();
const running = await browser(folder);
try {
  const page = await running.context.newPage();
  const wrong = [];
  page.on("console", (message) => message.type() === "error" && wrong.push(`${message.text()} ${message.location().url}`));
  page.on("pageerror", (error) => wrong.push(String(error)));
  const stored = () => page.evaluate(async () => [(await indexedDB.databases()).length, localStorage.length, document.cookie]);
  const tools = await running.context.newCDPSession(page);
  /** What the browser itself says that this site stores: databases, and bytes of all kinds. */
  const kept = async () => {
    const securityOrigin = server.address;
    const { databaseNames } = await tools.send("IndexedDB.requestDatabaseNames", { securityOrigin });
    const { usage } = await tools.send("Storage.getUsageAndQuota", { origin: securityOrigin });
    return `${databaseNames.join(" ")}, ${usage} bytes`;
  };
  const listed = () => page.waitForFunction(() => document.querySelectorAll("#recommended li").length === 6);
  await page.goto(server.address + PAGE);
  await listed();

  ok(String(await stored()) === "0,0,", "before a choice nothing is stored");
  ok((await kept()) === ", 0 bytes", `before a choice nothing is stored, got ${await kept()}`);
  ok((await page.locator("#ask input:checked").count()) === 0, "no box is ticked");
  const looks = await page.evaluate(() =>
    [...document.querySelectorAll("#ask button")].map((button) => {
      const { backgroundColor, color, borderColor, fontSize, fontWeight } = getComputedStyle(button);
      const { width, height, top } = button.getBoundingClientRect();
      return JSON.stringify([backgroundColor, color, borderColor, fontSize, fontWeight, ...[width, height, top].map(Math.round)]);
    }),
  );
  ok(new Set(looks).size === 1, `to refuse is as easy as to accept, got ${looks.join(" and ")}`);

  const readable = async () => {
    for (const scheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme: scheme });
      const dim = await page.evaluate(unreadable);
      ok(!dim.length, `${scheme}: ${dim.join("; ")}`);
    }
    for (const width of [320, 390, 1200]) {
      await page.setViewportSize({ width, height: 800 });
      ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `no scrolling to the side at ${width} pixels`);
    }
  };
  await readable();

  await page.click("#ask button[value=none]");
  await page.waitForFunction(() => document.querySelector("#ask").hidden);
  ok((await stored())[0] === 0, "after a refusal there is no store");
  await page.reload();
  await listed();
  ok(!(await page.isVisible("#ask")), "who has refused isn't asked again");

  // A cart, by keyboard, without consent: what goes with it is of the cart's shelves, and follows it.
  const own = (list) => page.$$eval(`${list} .kind`, (all) => all.map(({ textContent }) => textContent));
  for (const [place, shelf] of ["The Sea", "Poems"].entries()) {
    await page.locator("#tabs button", { hasText: shelf }).click();
    await page.waitForFunction((name) => [...document.querySelectorAll("#shelf .kind")].every(({ textContent }) => textContent === name), shelf);
    await page.focus("#shelf li:first-child button:last-child");
    await page.keyboard.press("Enter");
    await page.waitForFunction((count) => document.querySelectorAll("#in-cart li").length === count && document.querySelectorAll("#goes-with li").length === 4, place + 1);
    if (!place) ok(new Set(await own("#goes-with")).size === 1 && (await own("#goes-with"))[0] === shelf, `what goes with a book is of its shelf, got ${await own("#goes-with")}`);
  }
  ok((await own("#goes-with")).includes("Poems"), `what goes with a cart follows it, got ${await own("#goes-with")}`);
  await readable();
  for (const left of [1, 0]) {
    await page.focus("#in-cart button");
    await page.keyboard.press("Enter");
    await page.waitForFunction((count) => document.querySelectorAll("#in-cart li").length === count, left);
    const focused = await page.evaluate(() => document.activeElement.id);
    ok(focused === (left ? "cart-title" : "shelves-title"), `the focus is not lost, got ${focused}`);
  }
  ok((await stored())[0] === 0, "a cart is stored nowhere");
  await page.locator("#tabs button").first().click();

  // By keyboard alone: agree under `Your privacy`, then like a book.
  await page.evaluate(() => document.querySelector("#consents input").focus());
  await page.keyboard.press("Space");
  await page.waitForFunction(() => /Kept in this browser/.test(document.querySelector("#kept").textContent));
  ok((await stored())[0] === 1, "who agrees has a store");
  for (const place of [1, 2, 3]) {
    await page.focus(`#shelf li:nth-child(${place}) button`);
    const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
    await page.keyboard.press("Enter");
    await page.waitForSelector(`#shelf li:nth-child(${place}) button[aria-pressed=true]`);
    ok(outline !== "none", "what has the focus is seen to have it");
  }
  await page.waitForFunction(() => /Because you liked/.test(document.querySelector("#recommended").textContent));
  await page.locator("#recommended button", { hasText: "Why?" }).first().focus();
  await page.keyboard.press("Enter");
  await page.waitForSelector("#why[open]");
  ok((await page.locator("#why-parts li").count()) > 0, "why: parts of the score");
  await page.keyboard.press("Escape");
  await page.waitForSelector("#why:not([open])", { state: "attached" });
  ok(/ε = 0 of at most 8 is spent, 8 is left, at δ = /.test(await page.textContent("#budget-words")), "what was spent and is left");
  ok(/Unit: .*Adjacency: zero-out.*Accountant: /.test(await page.textContent("#budget-unit")), "unit, adjacency, accountant");

  const lines = await page.evaluate(() => new Promise((resolve) => {
    const own = URL.createObjectURL;
    URL.createObjectURL = (blob) => {
      blob.text().then(resolve);
      return own(blob);
    };
    document.querySelector("#export").click();
  }));
  ok(lines.split("\n").filter((line) => line.includes('"like"')).length === 3, "the export has all of it");

  await page.click("#erase");
  await page.click("#sure button[value=yes]");
  await page.waitForFunction(() => /Nothing is stored/.test(document.querySelector("#kept").textContent));
  ok(String(await stored()) === "0,0,", "after erasing nothing is stored");

  // The user's own page, in a frame: agree again, see it, turn off by keyboard, erase.
  const agree = async (place) => {
    const box = page.locator(`#consents li:nth-child(${place}) input`);
    await box.check();
    await page.waitForFunction((at) => document.querySelector(`#consents li:nth-child(${at}) input`)?.checked, place);
  };
  await agree(1);
  await agree(2);
  await page.click("#shelf li:nth-child(1) button");
  await page.waitForSelector("#shelf li:nth-child(1) button[aria-pressed=true]");
  await page.click("#own");
  const frame = await (await page.waitForSelector("#own-page iframe")).contentFrame();
  await frame.waitForSelector("#leave form");
  ok((await frame.textContent("h1")) === "What eight-shelves knows about you", `the page's title, got ${await frame.textContent("h1")}`);
  ok(/The \w+ (Tide|Ridge|Case|Orchard|Orbit|Crown|Fire|Verse)/.test(await frame.textContent("#did .list")), "titles and no ids");
  for (const scheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme: scheme });
    const dim = await frame.evaluate(unreadable);
    ok(!dim.length, `the user's page, ${scheme}: ${dim.join("; ")}`);
  }
  for (const width of [320, 390, 1200]) {
    await page.setViewportSize({ width, height: 800 });
    const wide = await frame.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    ok(wide[0] <= wide[1], `the user's page: no scrolling to the side at ${width} pixels, got ${wide}`);
    const small = await frame.evaluate(() => [...document.querySelectorAll("button, summary")].filter((each) => each.checkVisibility() && each.getBoundingClientRect().height < 24).length);
    ok(!small, `the user's page: buttons that a finger hits at ${width} pixels`);
  }
  await frame.focus(".skip");
  const reached = new Set();
  for (let press = 0; press < 40 && !(await frame.evaluate(() => document.activeElement.matches("input[value=train] ~ button"))); press += 1) {
    await page.keyboard.press("Tab");
    const [name, outline] = await frame.evaluate(() => [document.activeElement.outerHTML.slice(0, 90), getComputedStyle(document.activeElement).outlineStyle]);
    ok(outline !== "none", `what has the focus is seen to have it, got ${name}`);
    reached.add(name);
  }
  await page.keyboard.press("Enter");
  await frame.waitForSelector("[role=status]");
  ok((await frame.textContent("[role=status]")) === "Turned off." && reached.size > 8, "a purpose is turned off by keyboard");
  await page.waitForFunction(() => !document.querySelector("#consents li:nth-child(2) input").checked);
  await frame.click("#leave summary");
  await frame.check("#leave input[type=checkbox]");
  await frame.click("#leave details button");
  await frame.waitForFunction(() => document.title === "Everything on this device is erased");
  await page.click("#own-page form button");
  await page.waitForFunction(() => /Nothing is stored/.test(document.querySelector("#kept").textContent));
  ok(String(await stored()) === "0,0,", "after erasing by the page nothing is stored");

  // The other examples: a list and an event before the box is ticked, and what is there after.
  const examples = {
    "script-tag": { address: "/repository/client/web/examples/script-tag.html", acts: () => page.click("#open") },
    react: { address: "/build/whole/react_page.html", acts: () => page.click("#list li") },
  };
  for (const [app, { address, acts }] of Object.entries(examples)) {
    await tools.send("Storage.clearDataForOrigin", { origin: server.address, storageTypes: "all" });
    await page.goto(server.address + address);
    const five = () => page.waitForFunction(() => document.querySelectorAll("#list li").length === 5);
    await five();
    await acts();
    await page.reload();
    await five();
    ok((await kept()) === ", 0 bytes", `${app}: before a choice nothing is stored, got ${await kept()}`);
    await page.click("#agree");
    await page.waitForSelector("#agree:checked:enabled"); // the store is there before the consent in it is
    await page.waitForFunction(async (name) => (await indexedDB.databases()).some((each) => each.name === name), `palate/${app}`);
    await acts();
    await page.reload();
    await page.waitForFunction(() => document.querySelector("#agree").checked, null, { timeout: 10_000 });
    ok((await kept()).startsWith(`palate/${app}, `), `${app}: who agrees has a store, got ${await kept()}`);
  }
  const visited = wrong.filter((text) => !/favicon/.test(text));
  ok(!visited.length, `no errors and no breach of the policy, got ${visited.join("; ")}`);
  console.log("the examples store nothing before a choice; the shop: consent, lists, a cart, why, report, export, erasing, the user's own page, keyboard, contrast in light and dark, 320 to 1200 pixels");
} finally {
  await running.kill();
  server.close();
  forget(folder);
}
