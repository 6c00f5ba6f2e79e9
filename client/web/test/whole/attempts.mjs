// Kills the tab, or the whole browser, at random moments of a masked attempt's answers, at a real server: commands on standard input, a
// line of JSON each; answers on standard output. Its first line are the addresses of the pages.
//
//     {"do": "kill", "port": 1234, "service": {}, "invitation": "{}", "items": [], "times": 60, "seed": 1, "spoil": ""}
//
// `spoil` takes a promise out of the device, which must be noticed: "charge", it charges nothing; "note", its journal lacks what leaves.
//
// Between browser and gateway is a proxy, which sees what leaves, whatever the browser says of it. A moment is a step, and where: as the
// request for it has arrived, as its answer leaves and doesn't arrive, as it has arrived and the browser doesn't hear of it. Then:
//
//     no acknowledged event is lost, or there twice
//     no answer left that the device was not charged for, or that its journal lacks
//     each step of an attempt has one answer, whatever was asked again
//     who was killed has dropped out: nothing more of that attempt is answered
//     charges stay, and the model is a whole one, none older than before
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync } from "node:fs";
import { Agent, createServer, request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";
import { build } from "esbuild";
import { browser, bundledWith, forget, HERE, profile, served } from "./browser.mjs";

const names = ["online/exchange", "rounds/plan", "secagg/masked_attempt"];
const own = mkdtempSync(join(tmpdir(), "palate-attempts-"));
const contents = names.map((name) => `export * from "./src/${name}.js";`).join("\n");
await build({ absWorkingDir: HERE, stdin: { contents, resolveDir: HERE, loader: "ts" }, outfile: join(own, "codec.mjs"), bundle: true, format: "esm", target: "es2022", external: ["node:*"], logLevel: "error" });
const codec = await import(pathToFileURL(join(own, "codec.mjs")).href);

const STEPS = ["", "commit", "advertise", "share", "check", "open", "input", "consistency", "unmask"];
const PLACES = ["asked", "leaving", "arrived"];
const hash = (data) => createHash("sha256").update(data).digest("hex");
const hex = (data) => Buffer.from(data).toString("hex");

/** Whether a request brings an answer. */
const answers = ({ url, headers }) => url.endsWith(codec.PATH) && /^[0-9a-f]{32}$/.test(headers["palate-answers"] ?? "");

/** What the proxy has seen, over all lives of the device. */
class Seen {
  attempts = new Map();
  answers = new Map();
  refusals = 0;
  problems = [];
  life = 0;

  asked({ plan, request }) {
    if (plan.length) {
      const { plan: read, charge } = codec.readPlan(plan);
      const context = hex(codec.attemptTerms(read, charge?.checkpoint).context);
      if (!this.attempts.has(context)) this.attempts.set(context, { run: read.run, round: read.round, attempt: read.attempt, life: null, steps: new Set() });
    }
    return request.length ? STEPS[request[1]] : null;
  }

  answered(answer) {
    if (answer.length < 40) {
      this.refusals += 1;
      return null;
    }
    const [step, toss, context] = [STEPS[answer[1] & 127], answer[2] + 256 * answer[3], hex(answer.subarray(8, 40))];
    const attempt = this.attempts.get(context);
    if (!attempt) this.problems.push(`an answer to an attempt that nobody has asked for: ${context}`);
    else {
      attempt.life ??= this.life;
      attempt.steps.add(step);
      if (attempt.life !== this.life) this.problems.push(`${step} of an attempt of an earlier life was answered`);
    }
    const place = `${context} ${toss} ${step}`;
    const before = this.answers.get(place);
    if (before && before !== hash(answer)) this.problems.push(`${step} was answered twice, differently`);
    this.answers.set(place, hash(answer));
    return step;
  }
}

/** A proxy before a gateway. `watch` is asked at each place whether to go on. */
async function proxied(port, watch) {
  const key = join(own, "key.pem");
  execFileSync("openssl", ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", join(own, "cert.pem"), "-days", "2", "-subj", "/CN=localhost"], { stdio: "ignore" });
  const agent = new Agent({ keepAlive: true, rejectUnauthorized: false });
  const server = createServer({ key: readFileSync(key), cert: readFileSync(join(own, "cert.pem")) }, async (asked, replied) => {
    const body = await bodyOf(asked);
    if (!(await watch.leaving(asked, body))) return replied.destroy();
    const passed = request({ host: "127.0.0.1", port, path: asked.url, method: asked.method, headers: { ...asked.headers, host: "localhost" }, servername: "localhost", agent }, async (answer) => {
      const data = await bodyOf(answer);
      if (!(await watch.arrived(asked, body, answer, data))) return replied.destroy();
      replied.writeHead(answer.statusCode, answer.headers);
      replied.end(data);
    });
    passed.on("error", () => replied.destroy());
    replied.on("close", () => passed.destroy()); // who doesn't wait any more is gone for the server, too
    passed.end(body);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { port: server.address().port, close: () => (server.closeAllConnections(), server.close()) };
}

async function bodyOf(stream) {
  const parts = [];
  try {
    for await (const part of stream) parts.push(part);
  } catch {
    // It was cut off.
  }
  return Buffer.concat(parts);
}

/** What is taken out of which file; what isn't there any more is told. */
const SPOILED = {
  charge: ["ledger/device_ledger", "return { write: new Map([[CHARGES, written([...before, receipt])]]), result: undefined };", "return { write: new Map(), result: undefined };"],
  note: ["hosting/taking", "note: (leaving) => journal.record(leaving),", "note: async () => undefined,"],
};
const spoiling = ([file, from, to]) => ({
  name: "spoiling",
  setup: ({ onLoad }) =>
    onLoad({ filter: new RegExp(`${file}\\.ts$`) }, ({ path }) => {
      const whole = readFileSync(path, "utf8");
      if (!whole.includes(from)) throw new Error(`${file} must have what is taken out`);
      return { loader: "ts", contents: whole.replace(from, to) };
    }),
});
const [bundles, servers] = [[], {}];
for (const [name, change] of [["", null], ...Object.entries(SPOILED)]) {
  bundles.push(await bundledWith([change ? spoiling(change) : { name: "none", setup: () => undefined }], "member_page.ts"));
  servers[name] = await served(bundles.at(-1), undefined, "'self' https://localhost:*");
}
console.log(JSON.stringify(Object.values(servers).map(({ address }) => address)));

async function kill({ port, service, invitation, items, times, seed, spoil = "" }) {
  const server = servers[spoil];
  let state = seed;
  const random = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32;
  const pick = (list) => list[Math.floor(random() * list.length)];
  const [seen, folder] = [new Seen(), profile()];
  const counts = { tab: 0, browser: 0, elsewhere: 0, moments: {}, events: 0, answers: 0, attempts: 0, refusals: 0 };
  let [stored, receipts, version, running, moment, strike] = [new Set(), [], 0, null, null, null];

  const here = async (step, place) => {
    if (!moment || moment.step !== step || moment.place !== place) return true;
    const { step: at, place: where, wait } = moment;
    moment = null;
    counts.moments[`${at} ${where}`] = (counts.moments[`${at} ${where}`] ?? 0) + 1;
    if (where === "asked") {
      setTimeout(strike, wait); // it works on the answer, or sends it
      return true;
    }
    strike();
    return where !== "leaving";
  };
  const proxy = await proxied(port, {
    leaving: async (asked, body) => !answers(asked) || here(seen.answered(body), "leaving"),
    arrived: async (asked, body, { statusCode, headers }, data) => {
      const taken = answers(asked) && ["yes", "twice"].includes(headers["palate-taken"]);
      if (taken && body.length >= 40 && !(await here(STEPS[body[1] & 127], "arrived"))) return false;
      if (statusCode !== 200 || !asked.url.endsWith(codec.PATH)) return true;
      const step = seen.asked(codec.readMessage(new Headers(headers), data));
      return !step || here(step, "asked");
    },
  });

  function check({ events, model, listed, problem, receipts: charged, sent }) {
    const wrong = (what) => seen.problems.push(what);
    if (problem) wrong(`the ledger can't be read: ${problem}`);
    const there = new Set(events);
    if (there.size !== events.length) wrong("an event is there twice");
    const lost = [...stored].filter((item) => !there.has(item));
    if (lost.length) wrong(`acknowledged and lost: ${lost.slice(0, 5)}`);
    const placed = ({ run, round, attempt }) => JSON.stringify([run, round, attempt]);
    const [paid, noted] = [new Set(charged.map(placed)), new Set(sent.map((each) => `${placed(each)} ${each.what}`))];
    for (const attempt of seen.attempts.values()) {
      if (attempt.steps.size && !paid.has(placed(attempt))) wrong(`an attempt was answered, and not charged: ${placed(attempt)}`);
      for (const step of attempt.steps) if (!noted.has(`${placed(attempt)} ${step}`)) wrong(`${step} left, and isn't in the journal`);
    }
    const gone = receipts.filter((each) => !paid.has(each));
    if (gone.length) wrong(`charges are gone: ${gone.slice(0, 3)}`);
    if (paid.size !== charged.length) wrong("an attempt was charged twice");
    if (model && model.version < version) wrong(`the model is of version ${model.version}, and was of ${version}`);
    if (version && !model) wrong("there is no model any more");
    if (listed.some((item) => !items.includes(item))) wrong("a list has an item that is none of the catalogue's");
    [stored, receipts, version] = [there, [...paid], model?.version ?? 0];
    if (seen.problems.length) throw new Error(seen.problems.slice(0, 5).join("; "));
  }

  try {
    for (let turn = 0; turn <= times; turn += 1) {
      running ??= await browser(folder, "--ignore-certificate-errors");
      const page = await running.context.newPage();
      page.on("pageerror", () => undefined);
      await page.exposeFunction("told", (item) => void stored.add(item));
      await page.goto(`${server.address}/member_page.html`);
      await page.waitForFunction(() => document.title === "ready");
      await page.evaluate((given) => globalThis.begin(...given), ["member", service, true]);
      if (!turn) {
        await page.evaluate((given) => globalThis.enrol(given), JSON.stringify({ ...JSON.parse(invitation), port: proxy.port }));
        await page.evaluate((given) => globalThis.likes(given), items.slice(0, 3));
      }
      check(await page.evaluate(() => globalThis.state()));
      if (turn === times) break;
      seen.life = turn + 1;
      const whole = random() < 0.2;
      const struck = new Promise((resolve) => {
        strike = resolve;
      });
      moment = { step: pick(["advertise", "share", "check", "input", "consistency", "unmask"]), place: pick(PLACES), wait: 60 * random() };
      const patience = setTimeout(() => {
        if (moment) counts.elsewhere += 1;
        moment = null;
        strike();
      }, 90_000);
      void page.evaluate((at) => globalThis.track(at), turn).catch(() => undefined);
      void (async () => {
        while (!page.isClosed()) await page.evaluate(() => globalThis.sync(120, 0.3)); // another run may begin at once
      })().catch(() => undefined);
      await struck;
      clearTimeout(patience);
      [moment, counts.events] = [null, Math.max(counts.events, stored.size)];
      if (whole) {
        await running.kill();
        running = null;
        counts.browser += 1;
      } else {
        const session = await running.context.newCDPSession(page).catch(() => null);
        await Promise.race([session?.send("Page.crash").catch(() => undefined), new Promise((resolve) => setTimeout(resolve, 1000))]);
        await page.close().catch(() => undefined);
        counts.tab += 1;
      }
      if (turn % 10 === 9) console.error(`${turn + 1} of ${times}: ${JSON.stringify(counts.moments)}`);
    }
    const attempts = [...seen.attempts.values()];
    return { ...counts, answers: seen.answers.size, refusals: seen.refusals, attempts: attempts.filter(({ steps }) => steps.size).length, vectors: attempts.filter(({ steps }) => steps.has("input")).length, charged: receipts.length };
  } finally {
    await running?.kill().catch(() => undefined);
    proxy.close();
    forget(folder);
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const { do: name, ...rest } = JSON.parse(line);
  try {
    if (name !== "kill") throw new Error(`no such command: ${name}`);
    console.log(JSON.stringify({ answer: await kill(rest) }));
  } catch (error) {
    console.log(JSON.stringify({ error: String(error?.stack ?? error) }));
  }
}
for (const each of Object.values(servers)) each.close();
for (const each of [own, ...bundles]) forget(each);
process.exit(0);
