// How long a list takes in Chromium, from the page's call to its answer, and how long the page is held up.
import { browser, bundled, forget, profile, served } from "./browser.mjs";

const server = await served(await bundled("speed_page.ts"));
const folder = profile();
const running = await browser(folder);
try {
  for (const given of [[10_000, 64, 100], [100_000, 64, 100]]) {
    const page = await running.context.newPage();
    await page.goto(`${server.address}/speed_page.html`);
    await page.waitForFunction(() => document.title === "ready");
    const found = await page.evaluate((sizes) => globalThis.speed(...sizes), given);
    console.log(JSON.stringify(Object.fromEntries(Object.entries(found).map(([name, value]) => [name, Number(value.toFixed(2))]))));
    await page.close();
  }
} finally {
  await running.kill();
  server.close();
  forget(folder);
}
