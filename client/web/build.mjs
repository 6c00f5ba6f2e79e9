// Bundles the package into dist/: ESM, minified, split so that the fallbacks are files of their own.
//
//     node build.mjs            dist/*.js, and their types
//     node build.mjs --size     what that is after gzip, with and without fallbacks; a size above its bar is an error
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, rmSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const HERE = fileURLToPath(new URL(".", import.meta.url));
const ENTRIES = ["index", "core", "worker"].filter((name) => existsSync(`${HERE}src/${name}.ts`));
const MOST = { own: 60 * 1024, all: 100 * 1024 };

rmSync(`${HERE}dist`, { recursive: true, force: true });
const { metafile } = await build({
  absWorkingDir: HERE,
  entryPoints: ENTRIES.map((name) => `src/${name}.ts`),
  outdir: "dist",
  bundle: true,
  splitting: true,
  minify: true,
  format: "esm",
  target: "es2022",
  external: ["node:*"],
  metafile: true,
});

if (process.argv.includes("--size")) {
  // What a page loads at once is what the entries reach by static imports; the rest are fallbacks.
  const own = new Set(Object.keys(metafile.outputs).filter((file) => metafile.outputs[file].entryPoint?.match(/src\/(index|core|worker)\.ts$/)));
  for (const file of own) {
    for (const { path, kind } of metafile.outputs[file].imports) if (kind === "import-statement" && !path.startsWith("node:")) own.add(path);
  }
  const sizes = { own: 0, all: 0 };
  for (const file of Object.keys(metafile.outputs)) {
    const bytes = gzipSync(readFileSync(HERE + file), { level: 9 }).length;
    sizes.all += bytes;
    if (own.has(file)) sizes.own += bytes;
  }
  console.log(`gzip: ${sizes.own} bytes without fallbacks, ${sizes.all} with`);
  if (sizes.own > MOST.own || sizes.all > MOST.all) {
    console.error(`must be at most ${MOST.own} and ${MOST.all}`);
    process.exit(1);
  }
} else {
  execFileSync(`${HERE}node_modules/.bin/tsc`, ["--project", "tsconfig.build.json"], { cwd: HERE, stdio: "inherit" });
}
