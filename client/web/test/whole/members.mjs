// Devices in Chromium at a real server, for benchmarks: commands on standard input, a line of JSON each; answers on standard output.
//
//     node test/whole/members.mjs                 its first line is the address of the page
//
//     {"do": "open", "service": {}, "invitations": [], "items": [[]], "worker": false}     -> the devices' numbers
//     {"do": "sync", "seconds": 600}             -> of each: result, preflights, vectors, the processor's milliseconds
//
// Each device is in a browser context of its own: storage, sockets and cache of preflights are its own. Without a worker the vectors
// that go under the masks are told, too: the bundle is one that shows them to the page.
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { browser, bundledWith, forget, profile, served, used } from "./browser.mjs";

const showing = {
  name: "showing",
  setup: ({ onLoad }) =>
    onLoad({ filter: /rounds\/contribution\.ts$/ }, ({ path }) => {
      const whole = readFileSync(path, "utf8");
      const contents = whole.replace(/vector: async \(\) => (addShare\(.*\)),$/m, "vector: async () => globalThis.contributed?.(planBytes, modelBytes, await $1) ?? Promise.reject(new Error('it must be shown')),");
      if (contents === whole) throw new Error("the vector must be made where it was");
      return { loader: "ts", contents };
    }),
};
const [plain, shown] = [await bundledWith([{ name: "none", setup: () => undefined }], "member_page.ts"), await bundledWith([showing], "member_page.ts")];
const servers = { true: await served(plain, undefined, "'self' https://localhost:*"), false: await served(shown, undefined, "'self' https://localhost:*") };
const folder = profile();
const running = await browser(folder, "--ignore-certificate-errors");
console.log(JSON.stringify(Object.values(servers).map(({ address }) => address)));
const members = [];

const commands = {
  async open({ service, invitations, items, worker }) {
    const numbers = [];
    for (const [at, invitation] of invitations.entries()) {
      const page = await (await running.connected.newContext()).newPage();
      const member = { page, preflights: 0 };
      page.on("console", (message) => console.error(message.text()));
      page.on("pageerror", (error) => console.error(String(error)));
      const session = await page.context().newCDPSession(page);
      session.on("Network.requestWillBeSent", ({ initiator }) => (member.preflights += initiator.type === "preflight"));
      await session.send("Network.enable");
      await page.goto(`${servers[worker].address}/member_page.html`);
      await page.waitForFunction(() => document.title === "ready");
      await page.evaluate((given) => globalThis.begin(...given), ["member", service, worker]);
      await page.evaluate((given) => globalThis.likes(given), items[at]);
      numbers.push(await page.evaluate((given) => globalThis.enrol(given), invitation));
      members.push(member);
    }
    return numbers;
  },
  async sync({ seconds, poll = 2 }) {
    for (const member of members) member.preflights = 0;
    const before = used(folder);
    const results = await Promise.all(members.map(({ page }) => page.evaluate((given) => globalThis.sync(...given), [seconds, poll])));
    const after = used(folder);
    const cpu = { pages: after.pages - before.pages, workers: after.workers - before.workers };
    return { cpu, members: results.map((result, at) => ({ ...result, preflights: members[at].preflights })) };
  },
  agree: ({ purpose }) => Promise.all(members.map(({ page }) => page.evaluate((given) => globalThis.agree(given), purpose))),
  contributed: ({ at }) => members[at].page.evaluate(() => globalThis.kept()),
  state: ({ at }) => members[at].page.evaluate(() => globalThis.state()),
};

for await (const line of createInterface({ input: process.stdin })) {
  const { do: name, ...rest } = JSON.parse(line);
  try {
    console.log(JSON.stringify({ answer: await commands[name](rest) }));
  } catch (error) {
    console.log(JSON.stringify({ error: String(error?.stack ?? error) }));
  }
}
await running.kill();
for (const each of Object.values(servers)) each.close();
for (const each of [plain, shown, folder]) forget(each);
process.exit(0);
