// A real Chromium for tests of pages: commands on standard input, a line of JSON each; answers on standard output.
//
//     {"do": "open", "url": ..., "width": ..., "scheme": "dark", "zone": "Asia/Tokyo"}    a fresh context, and what its page loads
//     {"do": "eval", "js": ...}      the value of an expression in the page
//     {"do": "wait", "js": ...}      waits until it is true
//     {"do": "press", "key": ...}, {"do": "fill", "at": ..., "text": ...}, {"do": "click", "at": ...}, {"do": "reload"}
//     {"do": "shot", "path": ...}    a picture of the whole page
//     {"do": "contrast"}             how many texts there are, and those with less contrast than 4.5 to 1
//     {"do": "cookies"}, {"do": "put", "cookies": [...]}
//     {"do": "told"}                 what was asked of the network, and what the console and the page complained of
import { spawnSync } from "node:child_process";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const require = createRequire(new URL("../client/web/package.json", import.meta.url));
const { chromium } = require("playwright-core");
const name = process.env.CHROMIUM || "chromium";
const executablePath = name.includes("/") ? name : spawnSync("which", [name], { encoding: "utf8" }).stdout.trim();
if (!executablePath) throw new Error(`${name} was not found; as root: apt-get install chromium, or set CHROMIUM`);
const browser = await chromium.launch({
  executablePath,
  args: ["--no-sandbox", "--ignore-certificate-errors", "--host-resolver-rules=MAP palate.example.org 127.0.0.1"],
});

// WCAG 2.2, 1.4.3: 4.5 to 1 for every size, which is more than large text needs. Transparent grounds are those behind them.
function contrast() {
  const numbers = (text) => text.match(/[0-9.]+/g).map(Number);
  const linear = (each) => (each / 255 <= 0.04045 ? each / 255 / 12.92 : ((each / 255 + 0.055) / 1.055) ** 2.4);
  const light = ([red, green, blue]) => 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue);
  const ground = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const colour = numbers(getComputedStyle(each).backgroundColor);
      if ((colour[3] ?? 1) === 1) return colour;
    }
    return [255, 255, 255];
  };
  for (const each of document.querySelectorAll("details")) each.open = true;
  const [bad, seen] = [[], []];
  for (const each of document.body.querySelectorAll("*")) {
    const own = [...each.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim());
    if (!own || !each.getClientRects().length) continue;
    const drawn = each instanceof SVGElement;
    const colour = light(numbers(getComputedStyle(each)[drawn ? "fill" : "color"]));
    const behind = light(ground(drawn ? each.ownerSVGElement.parentElement : each));
    const ratio = (Math.max(colour, behind) + 0.05) / (Math.min(colour, behind) + 0.05);
    seen.push(ratio);
    if (ratio < 4.5) bad.push([each.tagName, each.textContent.slice(0, 40), ratio]);
  }
  return { seen: seen.length, bad };
}

let [context, page, told] = [null, null, []];
const COMMANDS = {
  async open({ url, width = 1280, height = 900, scheme = "light", zone = "Europe/Berlin", cookies = true }) {
    const kept = cookies && context ? await context.cookies() : [];
    await context?.close();
    context = await browser.newContext({ timezoneId: zone, locale: "en-GB", colorScheme: scheme, viewport: { width, height } });
    await context.addCookies(kept);
    page = await context.newPage();
    told = [];
    page.on("request", (request) => told.push({ asked: request.url() }));
    page.on("console", (message) => told.push({ said: message.text() }));
    page.on("pageerror", (error) => told.push({ said: String(error) }));
    const answer = await page.goto(url);
    return { status: answer.status(), headers: answer.url().startsWith("file:") ? {} : await answer.allHeaders(), url: page.url() };
  },
  contrast: () => page.evaluate(contrast),
  eval: ({ js }) => page.evaluate(js),
  // Asked from here: the page's policy forbids Playwright's own way, which evaluates a text in the page.
  async wait({ js }) {
    for (const end = Date.now() + 60_000; Date.now() < end; await new Promise((done) => setTimeout(done, 40))) {
      if (await page.evaluate(js).catch(() => false)) return;  // it fails while another page is loaded
    }
    throw new Error(`never true: ${js}`);
  },
  press: ({ key }) => page.keyboard.press(key),
  fill: ({ at, text }) => page.fill(at, text),
  click: ({ at }) => page.click(at),
  shot: ({ path }) => page.screenshot({ path, fullPage: true }).then(() => path),
  reload: () => page.reload().then((answer) => answer.status()),
  cookies: () => context.cookies(),
  put: ({ cookies }) => context.addCookies(cookies),
  told: () => told,
};
for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  let answer;
  try {
    answer = { value: (await COMMANDS[command.do](command)) ?? null };
  } catch (error) {
    answer = { error: String(error) };
  }
  console.log(JSON.stringify(answer));
}
await browser.close();
