// Bundles the package into dist/: ESM, minified, split so that the fallbacks are files of their own.
//
//     node build.mjs            dist/*.js, and their types
//     node build.mjs --size     what that is after gzip, with and without fallbacks; a size above its bar is an error
import { execFileSync } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const HERE = fileURLToPath(new URL(".", import.meta.url));
/** What a page and its worker need; and the core by itself, for hosts that bring a store of their own. */
const [PAGE, CORE] = [["index", "worker"], ["core"]];
const MOST = { recommending: 60 * 1024, all: 100 * 1024 };
const outputs = {};

rmSync(`${HERE}dist`, { recursive: true, force: true });
for (const entries of [PAGE, CORE]) {
  const { metafile } = await build({
    absWorkingDir: HERE,
    entryPoints: entries.map((name) => `src/${name}.ts`),
    outdir: entries === PAGE ? "dist" : "dist/core",
    bundle: true,
    splitting: true,
    minify: true,
    format: "esm",
    target: "es2022",
    external: ["node:*"],
    metafile: true,
  });
  if (entries === PAGE) Object.assign(outputs, metafile.outputs);
}

/** Files that some reach by static imports, themselves included. */
function reached(first) {
  const found = new Set(first);
  for (const file of found) for (const { path, kind } of outputs[file].imports) if (kind === "import-statement" && !path.startsWith("node:")) found.add(path);
  return found;
}

if (process.argv.includes("--size")) {
  const named = (pattern) => Object.keys(outputs).filter((file) => pattern.test(outputs[file].entryPoint ?? ""));
  const recommending = reached(named(/src\/(index|worker)\.ts$/));
  const taking = reached([...recommending, ...named(/src\/hosting\/taking\.ts$/)]);
  const bytes = (files) => [...files].reduce((sum, file) => sum + gzipSync(readFileSync(HERE + file), { level: 9 }).length, 0);
  const sizes = { recommending: bytes(recommending), all: bytes(taking) };
  console.log(`gzip: ${sizes.recommending} bytes to recommend, ${sizes.all} when a user takes part, ${bytes(Object.keys(outputs))} with fallbacks and what Node needs`);
  for (const [name, most] of Object.entries(MOST)) {
    if (sizes[name] <= most) continue;
    console.error(`${name} must be at most ${most}`);
    process.exitCode = 1;
  }
} else {
  execFileSync(`${HERE}node_modules/.bin/tsc`, ["--project", "tsconfig.build.json"], { cwd: HERE, stdio: "inherit" });
}
