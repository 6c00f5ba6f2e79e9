// What ships: the files of dist/, which tests of the whole load in the place of the sources.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, rmdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const HERE = fileURLToPath(new URL("..", import.meta.url));
const LOCK = join(HERE, "build", "dist.lock");
export const DIST = join(HERE, "dist");

const newest = () => Math.max(...["build.mjs", "optimised.mjs", ...readdirSync(join(HERE, "src"), { recursive: true }).map((name) => join("src", name))].map((name) => statSync(join(HERE, name)).mtimeMs));
const fresh = () => existsSync(join(DIST, "LICENSES")) && statSync(join(DIST, "LICENSES")).mtimeMs > newest();

/** Builds dist/ where it isn't of these sources. Of several at once one does, and the others wait for it. */
export function built() {
  const since = performance.now(); // the dates of files are no test's clock's
  while (!fresh()) {
    mkdirSync(join(HERE, "build"), { recursive: true });
    try {
      mkdirSync(LOCK);
    } catch {
      if (performance.now() - since > 300_000) throw new Error(`${LOCK} must be of a build under way, and five minutes were not enough for it: remove it`);
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200);
      continue;
    }
    try {
      execFileSync("node", ["build.mjs", "--untyped"], { cwd: HERE, stdio: ["ignore", "ignore", "inherit"] });
    } finally {
      rmdirSync(LOCK);
    }
  }
}

/** For esbuild: what a page or a script imports of an entry in src/ comes from its file in dist/, of a server or of the disk. */
export const shipped = (onPage) => ({
  name: "shipped",
  setup({ onResolve }) {
    built();
    const place = (file) => ({ path: onPage ? `/dist/${file}` : pathToFileURL(join(DIST, file)).href, external: true });
    onResolve({ filter: /^@palate\/web$|\/src\/index\.js$/ }, () => place("index.js"));
    onResolve({ filter: /\/src\/core\.js$/ }, () => place("core/core.js"));
  },
});
