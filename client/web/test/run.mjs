// The tests, in Node and in Chromium: one bundle, run twice.
//
//     node test/run.mjs                    both
//     node test/run.mjs --optimised        the one in Node through the optimiser of what ships, as `npm test` does
//     node test/run.mjs --in node          one of them
//     node test/run.mjs --only merkle      tests whose name has this part
//
// NAME.test.ts runs in both, NAME.node.test.ts and NAME.browser.test.ts in one. Chromium is `chromium` of the PATH, or what
// the environment variable CHROMIUM names.
import { spawnSync } from "node:child_process";
import { createServer } from "node:http";
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { basename, extname, join, normalize } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { build } from "esbuild";
import { optimised } from "../optimised.mjs";

const HERE = fileURLToPath(new URL("..", import.meta.url));
const REPOSITORY = fileURLToPath(new URL("../../..", import.meta.url));
const POLICY = "default-src 'none'; script-src 'self'; worker-src 'self'; connect-src 'self'; img-src 'self'; style-src 'self'; require-trusted-types-for 'script'; trusted-types palate";
const TYPES = { ".js": "text/javascript", ".html": "text/html", ".json": "application/json" };

const given = (name) => (process.argv.includes(name) ? process.argv[process.argv.indexOf(name) + 1] : "");
const [where, only] = [given("--in"), given("--only")];

/** Bundles the tests of one place, and returns the folder. */
async function bundled(place) {
  const folder = join(HERE, "build", place);
  const other = place === "node" ? ".browser.test.ts" : ".node.test.ts";
  const files = readdirSync(join(HERE, "test"), { recursive: true })
    .filter((name) => name.endsWith(".test.ts") && !name.endsWith(other))
    .sort();
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const lines = files.map((name) => `import ${JSON.stringify(join(HERE, "test", name))};`);
  lines.push(`export { runTests } from ${JSON.stringify(join(HERE, "test/harness.ts"))};`);
  writeFileSync(join(folder, "all.ts"), lines.join("\n"));
  writeFileSync(
    join(folder, "page.ts"),
    `const palateTests = { place: "browser", readRepository: async (path) => {
       const answer = await fetch("/repository/" + path);
       if (!answer.ok) throw new Error(path + ": " + answer.status);
       return answer.text();
     } };
     Object.assign(globalThis, { palateTests, run: async (only) => {
       const lines = [];
       const { runTests } = await import("./all.js");
       return { ...(await runTests(only, (line) => lines.push(line))), lines };
     } });
     document.title = "ready";`,
  );
  if (place === "node" && process.argv.includes("--optimised")) {
    const entries = [join(folder, "all.ts"), join(folder, "page.ts"), ...workers()].map((path) => [basename(path, ".ts"), path]);
    await optimised(Object.fromEntries(entries), folder, { entryFileNames: "[name].js" });
    return folder;
  }
  await build({
    absWorkingDir: HERE,
    entryPoints: [join(folder, "all.ts"), join(folder, "page.ts"), ...workers()],
    outdir: folder,
    outbase: folder,
    entryNames: "[name]",
    bundle: true,
    splitting: true,
    format: "esm",
    target: "es2022",
    sourcemap: "inline",
    loader: { ".css": "text" },
    external: ["node:*", "./all.js"],
    logLevel: "error",
  });
  return folder;
}

/** Workers are files of their own. */
function workers() {
  return readdirSync(join(HERE, "src"), { recursive: true })
    .filter((name) => name.endsWith("worker.ts"))
    .map((name) => join(HERE, "src", name));
}

async function inNode() {
  const folder = await bundled("node");
  const readRepository = async (path) => readFileSync(join(REPOSITORY, path), "utf8");
  Object.assign(globalThis, { palateTests: { place: "node", readRepository } });
  const { runTests } = await import(pathToFileURL(join(folder, "all.js")).href);
  return runTests(only, (line) => console.log(`node: ${line}`));
}

/** Serves the bundle, and docs/ and tests/ of the repository, under the policy that the package promises to live with. */
function serve(folder) {
  const server = createServer((request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url, "http://localhost").pathname));
    const head = { "Content-Security-Policy": POLICY, "Cache-Control": "no-store" };
    const inside = /^\/repository\/(docs|tests|client\/web\/examples|simulations\/palate\/sample_model)\//.test(path);
    if (path === "/favicon.ico") return response.writeHead(204, head).end();
    const file = path === "/" ? null : inside ? join(REPOSITORY, path.slice(12)) : join(folder, path);
    try {
      const data = file === null ? '<!doctype html><script type="module" src="/page.js"></script>' : readFileSync(file);
      response.writeHead(200, { ...head, "Content-Type": TYPES[file === null ? ".html" : extname(file)] ?? "text/plain" });
      response.end(data);
    } catch {
      response.writeHead(404, head);
      response.end();
    }
  });
  return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server)));
}

async function inChromium() {
  const { chromium } = await import("playwright-core");
  const name = process.env.CHROMIUM || "chromium";
  const executablePath = name.includes("/") ? name : spawnSync("which", [name], { encoding: "utf8" }).stdout.trim();
  if (!executablePath) throw new Error(`${name} was not found; as root: apt-get install chromium, or set CHROMIUM`);
  const server = await serve(await bundled("browser"));
  const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
  try {
    const page = await browser.newPage();
    page.on("pageerror", (error) => console.log(`chromium: ${error}`));
    page.on("console", (message) => console.log(`chromium: ${message.text()}`));
    await page.goto(`http://localhost:${server.address().port}/`);
    await page.waitForFunction(() => document.title === "ready");
    const found = await page.evaluate((part) => globalThis.run(part), only);
    for (const line of found.lines) console.log(`chromium: ${line}`);
    return found;
  } finally {
    await browser.close();
    server.close();
  }
}

let [failed, passed] = [0, 0];
for (const [place, run] of Object.entries({ node: inNode, chromium: inChromium })) {
  if (where && where !== place) continue;
  const found = await run();
  console.log(`${place}: ${found.passed} passed, ${found.failed} failed`);
  [failed, passed] = [failed + found.failed, passed + found.passed];
}
if (!passed) console.log("no test has that name");
process.exit(failed || !passed ? 1 : 0);
