// Visitors of a pilot, each with a Chromium of their own: they follow the links of a file, agree, like titles, and wait for a round and its model.
//
//     node test/whole/pilot.mjs LINKS 'TITLE; TITLE' ...      a visitor for each argument; what each saw, a line of JSON each
//
// The browsers trust what HOME's own certificate store trusts, and nothing else.
import { readFileSync } from "node:fs";
import { browser, forget, profile } from "./browser.mjs";

const [file, ...likes] = process.argv.slice(2);
const links = readFileSync(file, "utf8").trim().split("\n");
const MOST = 170_000;

async function visit(link, titles) {
  const folder = profile();
  const running = await browser(folder);
  try {
    const [page, wrong] = [await running.context.newPage(), []];
    page.on("console", (message) => message.type() === "error" && wrong.push(message.text()));
    page.on("pageerror", (error) => wrong.push(String(error)));
    await page.goto(link);
    await page.waitForFunction(() => document.querySelectorAll("#recommended li").length === 6);
    await page.click("#ask button[value=all]");
    for (const title of titles) {
      await page.fill("#search", title);
      await page.locator("#shelf li", { hasText: title }).locator("button").first().click();
      await page.waitForFunction((said) => document.querySelector("#status").textContent === `You like ${said}`, title);
    }
    const seen = async () => ({
      listed: await page.$$eval("#recommended li", (all) => all.map((each) => [each.querySelector(".title").textContent, each.querySelector(".reason").textContent])),
      lead: await page.textContent("#lead"),
      left: await page.textContent("#left-count"),
    });
    const waits = (text) => page.waitForFunction((said) => document.querySelector("#taking").textContent.includes(said), text, { timeout: MOST, polling: 100 });
    const before = await seen();
    const since = performance.now();
    await waits("Took part in a round.");
    const round = performance.now() - since;
    await waits("The list is by a new model.");
    const model = performance.now() - since;
    const address = page.url();
    return { before, after: await seen(), round, model, address, wrong };
  } finally {
    await running.kill();
    forget(folder);
  }
}

for (const seen of await Promise.all(likes.map((titles, at) => visit(links[at], titles.split("; "))))) console.log(JSON.stringify(seen));
process.exit(0);
