// How long a list takes in Chromium, from the page's call to its answer: by the clock, and by the processor time of the page's process,
// which other work on the machine doesn't lengthen. And how long the page is held up meanwhile.
import { browser, bundled, forget, profile, served, used } from "./browser.mjs";

const quantile = (values, share) => Number([...values].sort((one, other) => one - other)[Math.floor(share * (values.length - 1))].toFixed(1));

const server = await served(await bundled("speed_page.ts"));
const folder = profile();
const running = await browser(folder);
try {
  for (const [count, width, events] of [[10_000, 64, 100], [100_000, 64, 100]]) {
    const page = await running.context.newPage();
    await page.goto(`${server.address}/speed_page.html`);
    await page.waitForFunction(() => document.title === "ready");
    const held = await page.evaluate((given) => globalThis.prepare(...given), [count, width, events]);
    const measured = async (name, times, each) => {
      const [clock, processor] = [[], []];
      for (let at = 0; at < times; at += 1) {
        const before = used(folder).pages;
        clock.push(await page.evaluate(each, at));
        processor.push(used(folder).pages - before);
      }
      console.log(`${count} x ${width}, ${events} events: ${name}: ${Object.entries({ clock, processor }).map(([of, all]) => `${of} least ${quantile(all, 0)}, p50 ${quantile(all, 0.5)}, p95 ${quantile(all, 0.95)} ms`).join("; ")}`);
    };
    await measured("a list", 300, () => globalThis.list());
    await measured("an event", 40, (at) => globalThis.track(at));
    await measured("an event, then a list", 40, async (at) => (await globalThis.track(1000 + at)) + (await globalThis.list()));
    const lists = await page.evaluate(() => globalThis.held(30));
    console.log(`${count} x ${width}: longest task of the page: ${held || "below 50"} ms during the sync that takes the model, ${lists || "below 50"} ms while lists are made`);
    await page.evaluate(() => globalThis.equip());
    await measured("a list by three rules", 100, () => globalThis.ruled());
    await measured("a filtered list", 100, () => globalThis.filtered());
    await page.close();
  }
} finally {
  await running.kill();
  server.close();
  forget(folder);
}
