// Fails if modules of src/ import each other in a circle. Imports of types count, and so do those that are made later.
//
//     node circles.mjs
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";

const SOURCES = fileURLToPath(new URL("src", import.meta.url));
const modules = readdirSync(SOURCES, { recursive: true }).filter((name) => name.endsWith(".ts")).map((name) => join(SOURCES, name));

/** The modules of src/ that one imports. */
function importsOf(module) {
  const names = ts.preProcessFile(readFileSync(module, "utf8")).importedFiles.map(({ fileName }) => fileName);
  return names.filter((name) => name.startsWith(".")).map((name) => join(dirname(module), name.replace(/\.js$/, ".ts")));
}

const imports = new Map(modules.map((module) => [module, importsOf(module)]));
const done = new Set();
let circles = 0;

/** Follows imports, depth first, and says each that leads back to a module on the way. */
function follow(module, way) {
  if (way.includes(module)) {
    circles += 1;
    console.error(`circle: ${[...way.slice(way.indexOf(module)), module].map((each) => relative(SOURCES, each)).join(" -> ")}`);
  } else if (!done.has(module)) {
    for (const each of imports.get(module) ?? []) follow(each, [...way, module]);
    done.add(module);
  }
}

for (const module of modules) follow(module, []);
if (circles) process.exitCode = 1;
