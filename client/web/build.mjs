// Bundles the package into dist/: ESM, minified, in few files, as gzip makes the more of a file the larger it is:
//
//     index.js, page-*.js        what a page loads
//     worker.js, engine-*.js     what its worker loads beside them, to recommend
//     taking-*.js, seldom-*.js   what it loads to take part in rounds, and to enrol, answer a survey
//     testing.js                 a device in memory, for an app's own tests
//     page/page.js, de-*.js      the user's own page, of which an app imports it apart, and its languages
//     preview-*.js               what it loads when the user picks a file of their own history
//     others                     loaded where they are needed: messages, the report, fallbacks for older browsers, a file in Node
//     LICENSES                   of the packages whose code is in them
//
//     node build.mjs             dist/*.js, and their types
//     node build.mjs --size      what that is after gzip, with and without fallbacks; a size above its bar, or another than docs/web.md says, is an error
//     node build.mjs --rooms     which folders of src/ make it
//     node build.mjs --untyped   dist/*.js alone
import { execFileSync } from "node:child_process";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { optimised } from "./optimised.mjs";

const HERE = fileURLToPath(new URL(".", import.meta.url));
const DIST = join(HERE, "dist");
/** The most bytes after gzip: to recommend, when a user takes part, and with all that any browser loads. */
const MOST = { recommending: 55 * 1024, taking: 82 * 1024, all: 112 * 1024 };
const at = (name) => join(HERE, "src", `${name}.ts`);
/** A module belongs to the first of these that reaches it by static imports; an entry is a small file of its own. */
const GROUPS = Object.entries({ page: at("index"), engine: at("worker"), taking: at("hosting/taking") });

/** Modules that some reach by static imports, themselves included. */
function reached(first, infoOf) {
  const found = new Set(first);
  for (const id of found) for (const each of infoOf(id)?.importedIds ?? []) if (!each.startsWith("node:")) found.add(each);
  return found;
}

/**
 * Says of a module to which file it goes; what taking part shares with another part that is loaded later goes to the engine, unless taking
 * part alone loads it.
 */
function chunks() {
  let [members, later] = [];
  return (id, { getModuleInfo, getModuleIds }) => {
    members ??= GROUPS.map(([name, entry]) => [name, entry, reached([entry], getModuleInfo)]);
    const groupOf = (each) => members.find(([, , all]) => all.has(each)) ?? [];
    const elsewhere = (each) => getModuleInfo(each).dynamicImporters.some((from) => groupOf(from)[0] !== "taking");
    later ??= reached([...getModuleIds()].filter((each) => each !== at("hosting/taking") && elsewhere(each)), getModuleInfo);
    const [name, entry] = groupOf(id);
    if (id === entry && name !== "taking") return undefined;
    return name === "taking" && later.has(id) ? "engine" : name;
  };
}

/** Writes the bundle of some entries, with source maps beside it, and returns its files with their code and imports. */
async function bundled(entries, folder, chunked) {
  const input = Object.fromEntries(entries.map((name) => [basename(name), at(name)]));
  const files = new Map();
  for (const { chunk, code } of await optimised(input, folder, chunked ? { manualChunks: chunks() } : {})) {
    files.set(chunk.fileName, { ...chunk, code, bytes: gzipSync(code, { level: 9 }).length });
  }
  return files;
}

rmSync(DIST, { recursive: true, force: true });
const files = await bundled(["index", "worker", "hosting/testing"], DIST, true);
await bundled(["core"], join(DIST, "core"), false);
const page = await bundled(["page/page"], join(DIST, "page"), false);

/** The packages whose code is in a bundle: their licence asks to go with it. */
const packages = new Set([...files.values()].flatMap(({ modules }) => Object.keys(modules)).flatMap((id) => /.*\/node_modules\/(@[^/]+\/)?[^/]+/.exec(id)?.[0] ?? []));
const licenses = [...packages].sort().map((folder) => `${folder.split("/node_modules/").at(-1)}\n\n${readFileSync(join(folder, "LICENSE"), "utf8")}`);
writeFileSync(join(DIST, "LICENSES"), licenses.join("\n"));

/** Bytes after gzip of some files with those that they import. */
function bytesOf(first) {
  const found = new Set(first);
  for (const name of found) for (const each of files.get(name).imports) if (files.has(each)) found.add(each);
  return [...found].reduce((sum, name) => sum + files.get(name).bytes, 0);
}

/** How many bytes after gzip each folder of src/ is of, in some files; the most first. */
function roomsOf(names) {
  const rooms = new Map();
  for (const { modules, bytes } of names.map((name) => files.get(name))) {
    const total = Object.values(modules).reduce((sum, { renderedLength }) => sum + renderedLength, 0);
    for (const [id, { renderedLength }] of Object.entries(modules)) {
      const room = id.includes("node_modules") ? "@noble" : /\/src\/(\w+)\//.exec(id)?.[1] ?? "files beside them";
      rooms.set(room, (rooms.get(room) ?? 0) + (bytes * renderedLength) / (total || 1));
    }
  }
  return [...rooms].sort(([, one], [, other]) => other - one);
}

if (process.argv.includes("--size") || process.argv.includes("--rooms")) {
  const named = (name) => [...files.keys()].filter((file) => file.startsWith(`${name}-`));
  const kB = (bytes, digits = 0) => (bytes / 1000).toFixed(digits);
  const [starts, others] = [["index.js", "worker.js"], [...files.keys()].filter((file) => !/^(file|preview)-|^testing\./.test(file))];
  const sizes = { recommending: bytesOf(starts), taking: bytesOf([...starts, ...named("taking")]), all: bytesOf(others) };
  const own = [...page.values()].map(({ bytes }) => bytes);
  const fallbacks = bytesOf([...starts, ...named("crypto_fallback")]) - sizes.recommending;
  console.log(`gzip, of a module of its own: ${page.get("page.js").bytes} bytes for the user's page, and at most ${Math.max(...own.slice(1))} for a language`);
  console.log(`gzip, of what reads a history: ${bytesOf(named("preview")) - bytesOf(starts)} bytes`);
  console.log(`gzip: ${sizes.recommending} bytes to recommend, ${sizes.taking} when a user takes part, ${sizes.all} with what is loaded now and then, of which fallbacks ${fallbacks}`);
  const said = [
    `${kB(page.get("page.js").bytes)} kB after gzip, and ${kB(Math.max(...own.slice(1)))} kB a language`,
    `gzip | ${kB(sizes.recommending)} kB; with taking part ${kB(sizes.taking)} kB; with all that is loaded now and then ${kB(sizes.all)} kB (the build allows ${kB(MOST.all, 1)}), of which ${kB(fallbacks)} kB are curves`,
    // The largest first; folders that round to the same by name, so that a byte doesn't change their order.
    ...Object.entries({ "to recommend": [...starts, ...named("engine"), ...named("page")], "to take part": named("taking") }).map(
      ([what, names]) => `${what}, ${roomsOf(names).map(([room, bytes]) => [room.includes(" ") ? room : `\`${room}\``, kB(bytes)]).filter(([, size]) => size > 1).sort(([one, size], [other, more]) => more - size || (one < other ? -1 : 1)).map((each) => each.join(" ")).join(", ")}`,
    ),
  ];
  const told = readFileSync(join(HERE, "../../docs/web.md"), "utf8").replace(/\s+/g, " ");
  const wrong = Object.keys(MOST).filter((name) => sizes[name] > MOST[name]).map((name) => `${name} must be at most ${MOST[name]}`);
  wrong.push(...said.filter((each) => !told.includes(each)).map((each) => `docs/web.md must say: ${each}`));
  for (const each of wrong) console.error(each);
  if (wrong.length) process.exitCode = 1;
}
if (process.argv.includes("--rooms")) {
  for (const [file, { code, bytes }] of files) {
    console.log(`${file}: ${code.length} bytes, gzip ${bytes}; kB of it: ${roomsOf([file]).map(([room, length]) => `${room} ${(length / 1000).toFixed(1)}`).join(", ")}`);
  }
}
if (!process.argv.some((each) => each.startsWith("--"))) {
  execFileSync(`${HERE}node_modules/.bin/tsc`, ["--project", "tsconfig.build.json"], { cwd: HERE, stdio: "inherit" });
}
