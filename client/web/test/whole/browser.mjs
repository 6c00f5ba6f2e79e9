// What tests of whole browsers share: a bundle, a server under the package's policy, and Chromium processes of their own.
import { spawn, spawnSync } from "node:child_process";
import { createServer } from "node:http";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { chromium } from "playwright-core";
import { shipped } from "../shipped.mjs";

export const HERE = fileURLToPath(new URL("../..", import.meta.url));
export const REPOSITORY = join(HERE, "../..");
const POLICY = "default-src 'none'; script-src 'self'; worker-src 'self'; connect-src 'self'; img-src 'self'; style-src 'self'; require-trusted-types-for 'script'; trusted-types palate";
const TYPES = { ".js": "text/javascript", ".html": "text/html", ".css": "text/css", ".svg": "image/svg+xml", ".json": "application/json" };

/** Bundles pages of this folder, which load what ships. */
export async function bundled(...pages) {
  const folder = join(HERE, "build", "whole");
  mkdirSync(folder, { recursive: true });
  await bundle([shipped(true)], folder, pages.map((name) => join(HERE, "test/whole", name)));
  return folder;
}

/** Bundles pages and the worker from the sources, with plugins of esbuild that change them, in a folder of their own. */
export async function bundledWith(plugins, ...pages) {
  const folder = mkdtempSync(join(tmpdir(), "palate-bundle-"));
  await bundle(plugins, folder, [...pages.map((name) => join(HERE, "test/whole", name)), join(HERE, "src/worker.ts")]);
  return folder;
}

async function bundle(plugins, folder, entryPoints) {
  await build({ absWorkingDir: HERE, entryPoints, outdir: folder, entryNames: "[name]", bundle: true, splitting: true, format: "esm", target: "es2022", external: ["node:*"], alias: { "@palate/web": join(HERE, "src/index.ts") }, plugins, logLevel: "error" });
}

/** Serves a folder; `/NAME.html` is a page of the script NAME.js, paths below `/repository/` are the repository's; what is PUT is kept. While `gone` is set nothing is there. Pages may ask `connect`. */
export async function served(folder, heard = () => undefined, connect = "'self'") {
  const [kept, site] = [new Map(), { gone: false }];
  const server = createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    heard(request, Buffer.concat(chunks));
    const path = decodeURIComponent(new URL(request.url, "http://localhost").pathname);
    if (request.method === "PUT") kept.set(path, Buffer.concat(chunks));
    const head = { "Content-Security-Policy": POLICY.replace("connect-src 'self'", `connect-src ${connect}`), "Cache-Control": "no-store" };
    const file = path.startsWith("/repository/") ? join(REPOSITORY, path.slice(12)) : join(path.startsWith("/dist/") ? HERE : folder, path);
    try {
      if (site.gone) throw new Error("a newer version has taken its place");
      const page = path.endsWith(".html") && !path.startsWith("/repository/");
      const data = kept.has(path) ? kept.get(path) : page ? `<!doctype html><meta charset="utf-8"><script type="module" src="/${path.slice(1, -5)}.js"></script>` : readFileSync(file);
      response.writeHead(200, { ...head, "Content-Type": TYPES[extname(path)] ?? "application/octet-stream" });
      response.end(data);
    } catch {
      response.writeHead(404, head);
      response.end();
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve()));
  return Object.assign(site, { address: `http://localhost:${server.address().port}`, close: () => server.close() });
}

export function executable() {
  const name = process.env.CHROMIUM || "chromium";
  const found = name.includes("/") ? name : spawnSync("which", [name], { encoding: "utf8" }).stdout.trim();
  if (!found) throw new Error(`${name} was not found; as root: apt-get install chromium, or set CHROMIUM`);
  return found;
}

export const profile = () => mkdtempSync(join(tmpdir(), "palate-profile-"));
export const forget = (folder) => rmSync(folder, { recursive: true, force: true, maxRetries: 5 });

/** A browser of its own, which can be killed with all of its processes. */
export async function browser(folder, ...more) {
  const args = [...more, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-port=0", `--user-data-dir=${folder}`, "about:blank"];
  const child = spawn(executable(), args, { detached: true, stdio: ["ignore", "ignore", "pipe"] });
  const address = await new Promise((resolve, reject) => {
    let text = "";
    child.stderr.on("data", (data) => {
      text += data;
      const found = /DevTools listening on (ws:\S+)/.exec(text);
      if (found) resolve(found[1]);
    });
    child.on("exit", () => reject(new Error(`Chromium ended: ${text.slice(-500)}`)));
  });
  const connected = await chromium.connectOverCDP(address);
  const gone = new Promise((resolve) => child.once("exit", resolve));
  const kill = async () => {
    process.kill(-child.pid, "SIGKILL");
    await gone;
    await connected.close().catch(() => undefined);
  };
  return { connected, context: connected.contexts()[0], kill, pid: child.pid };
}

/** Milliseconds of the processor that pages of a command line with this mark have had: all of them, and what their workers' own threads have. */
export function used(mark) {
  const found = { pages: 0, workers: 0 };
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const command = readFileSync(`/proc/${pid}/cmdline`, "utf8");
      if (!command.includes("--type=renderer") || !command.includes(mark)) continue;
      for (const task of readdirSync(`/proc/${pid}/task`)) {
        const spent = Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, "utf8").split(" ")[0]) / 1e6;
        found.pages += spent;
        if (readFileSync(`/proc/${pid}/task/${task}/comm`, "utf8").startsWith("DedicatedWorker")) found.workers += spent;
      }
    } catch {
      // It has ended.
    }
  }
  return found;
}

/** In a page: text whose contrast is below AA: 4.5 to 1, or 3 to 1 where it is large. */
export function unreadable() {
  const parsed = (text) => text.match(/[\d.]+/g).map(Number);
  const light = (rgb) => {
    const [r, g, b] = rgb.map((value) => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const [r, g, b, a = 1] = parsed(getComputedStyle(at).backgroundColor);
      if (a === 1) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    const [one, other] = [light(parsed(style.color).slice(0, 3)), light(behind(element))];
    const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && Number(style.fontWeight) >= 700);
    if (contrast < (large ? 3 : 4.5) && !element.disabled) found.push(`${element.tagName} ${element.textContent.trim().slice(0, 30)}: ${contrast.toFixed(2)}`);
  }
  return found;
}
