// Devices for a test of the whole service: commands on standard input, a line of JSON each; answers on standard output.
//
//     node test/driver/drive.mjs node
//     node test/driver/drive.mjs chromium PORT      on a page of http://localhost:PORT, which takes any certificate: as an app has it
import { spawnSync } from "node:child_process";
import { readFileSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath, pathToFileURL } from "node:url";
import { build } from "esbuild";
import { DIST, shipped } from "../shipped.mjs";
import { forms } from "../whole/forms.mjs";

const HERE = fileURLToPath(new URL("../..", import.meta.url));
const [place, port] = process.argv.slice(2);
const folder = mkdtempSync(join(tmpdir(), "palate-driver-"));
const close = [() => rmSync(folder, { recursive: true, force: true })];

await build({
  absWorkingDir: HERE,
  entryPoints: [place === "node" ? "test/driver/driver.ts" : "test/driver/app.ts"],
  plugins: [shipped(place !== "node")],
  outdir: folder,
  entryNames: "[name]",
  bundle: true,
  splitting: true,
  format: "esm",
  target: "es2022",
  outExtension: { ".js": ".mjs" },
  external: ["node:*"],
  logLevel: "error",
});

async function inNode() {
  const { drive } = await import(pathToFileURL(join(folder, "driver.mjs")).href);
  return drive;
}

async function onPage() {
  const { chromium } = await import("playwright-core");
  const name = process.env.CHROMIUM || "chromium";
  const executablePath = name.includes("/") ? name : spawnSync("which", [name], { encoding: "utf8" }).stdout.trim();
  const server = createServer((request, response) => {
    const page = request.url === "/";
    if (request.url === "/favicon.ico") return response.writeHead(204).end();
    response.writeHead(200, { "Content-Type": page ? "text/html" : "text/javascript" });
    response.end(page ? '<!doctype html><script type="module" src="/app.mjs"></script>' : readFileSync(request.url.startsWith("/dist/") ? join(DIST, request.url.slice(6)) : join(folder, request.url)));
  });
  await new Promise((resolve) => server.listen(Number(port), "localhost", resolve));
  const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--ignore-certificate-errors"] });
  close.push(() => server.close(), () => browser.close());
  const page = await browser.newPage();
  page.on("console", (message) => console.error(message.text()));
  // Marked events are in each history: no mark may leave the page, in clear or in a form that can be decoded.
  const left = [];
  page.on("request", (request) => left.push(Buffer.from(request.url()), Buffer.from(JSON.stringify(request.headers())), request.postDataBuffer()));
  // Before a request of another origin a browser asks whether it may: that is counted, too.
  let preflights = 0;
  const session = await page.context().newCDPSession(page);
  session.on("Network.requestWillBeSent", ({ initiator }) => (preflights += initiator.type === "preflight"));
  await session.send("Network.enable");
  await page.goto(`http://localhost:${port}/`);
  await page.waitForFunction(() => "drive" in globalThis);
  return async (command) => {
    preflights = 0;
    const answer = await page.evaluate((each) => globalThis.drive(each), command);
    const sent = left.filter((piece) => piece?.length);
    const marked = sent.filter((piece) => [...forms(piece)].some((form) => form.includes("mark-of-a-visit")));
    if (marked.length) throw new Error(`a mark left the page: ${marked[0].toString("latin1").slice(0, 200)}`);
    const bytes = sent.reduce((sum, piece) => sum + piece.length, 0);
    const away = answer.length && answer.every?.(({ ended }) => ended === "not enrolled");
    if (command.do === "sync" && !away && (bytes < 1000 || !sent.some((piece) => piece.includes("/v1/device/exchange")))) throw new Error(`what left must have been seen, got ${bytes} bytes`);
    if (command.do === "sync") return answer.map((each) => ({ ...each, preflights }));
    return answer;
  };
}

const drive = await (place === "node" ? inNode() : onPage());
for await (const line of createInterface({ input: process.stdin })) {
  try {
    console.log(JSON.stringify({ answer: await drive(JSON.parse(line)) }));
  } catch (error) {
    console.log(JSON.stringify({ error: String(error?.stack ?? error) }));
  }
}
for (const each of close.reverse()) await each();
process.exit(0);
