// The sample shop as a newcomer sees it, a picture after each click, into the folder that is given: docs/moving.py makes docs/img/shop.gif of them.
import { join } from "node:path";
import { browser, forget, HERE, profile, served } from "./browser.mjs";

const SIZE = { width: 1080, height: 1900 }; // so high that nothing is scrolled, under a head that stays
const SHELF = 2; // of the eight in the example

const server = await served(HERE);
const folder = profile();
const running = await browser(folder);
try {
  const page = await running.context.newPage();
  await page.setViewportSize(SIZE);
  await page.emulateMedia({ colorScheme: "light", reducedMotion: "reduce" });
  let frames = 0;
  const frame = async () => page.screenshot({ path: join(process.argv[2], `${frames++}.png`), clip: await shown(page) });
  const agreed = () => page.waitForFunction(() => document.querySelector("#ask").hidden);
  await page.goto(`${server.address}/repository/client/web/examples/shop/index.html`);
  await page.waitForFunction(() => document.querySelectorAll("#recommended li").length === 6);
  await page.click("#ask button[value=none]");
  await agreed();
  await page.click("#consents input >> nth=0"); // "remember here"
  await page.waitForFunction(() => /Kept in this browser/.test(document.querySelector("#kept").textContent));
  await page.click(`#tabs button >> nth=${SHELF}`);
  await frame();
  for (const place of [1, 2, 3]) {
    await page.click(`#shelf li:nth-child(${place}) button`);
    await page.waitForSelector(`#shelf li:nth-child(${place}) button[aria-pressed=true]`);
    await frame();
  }
} finally {
  await running.kill();
  server.close();
  forget(folder);
}

/** What a frame shows: the list, and of the shelf below it the first row. */
function shown(page) {
  return page.evaluate((width) => {
    scrollTo(0, 0);
    const bottom = document.querySelector("#shelf li").getBoundingClientRect().bottom;
    return { x: 0, y: 0, width, height: Math.ceil(bottom) + 8 };
  }, SIZE.width);
}
