// Builds the app: node build.mjs OUT [--model FOLDER] [--service FILE]
//
// OUT gets the page, `dist/` of @palate/web, and a published model (the starter of films, if none is named). The version is a hash of all
// files, so that what is served is of one version, whole.
import { createHash } from "node:crypto";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const HERE = fileURLToPath(new URL(".", import.meta.url));
const [WEB, STARTER] = [join(HERE, "../.."), join(HERE, "../../../../simulations/palate/starter_films")];
const PAGE = ["index.html", "app.js", "app.css", "key.js", "app.webmanifest", "icon.svg"];
const MODEL = ["manifest.json", "signature", "items", "item-table.z", "model.int8.safetensors.z"];

const given = (name, usual) => (process.argv.includes(name) ? process.argv[process.argv.indexOf(name) + 1] : usual);
const [out, model, service] = [process.argv[2], given("--model", STARTER), given("--service", "")];
const dist = join(WEB, "dist");

function refuse(text) {
  console.error(text);
  process.exit(2);
}
if (!out || out.startsWith("--")) refuse("node build.mjs OUT [--model FOLDER] [--service FILE]: `OUT` must be a folder, got none");
if (!existsSync(join(dist, "index.js"))) refuse(`\`dist\` must be built, got nothing in ${dist}: npm run build`);
if (!existsSync(join(model, "manifest.json"))) refuse(`\`--model\` must be the folder of a published model, got ${model}`);

rmSync(out, { recursive: true, force: true });
mkdirSync(join(out, "model"), { recursive: true });
for (const name of PAGE) cpSync(join(HERE, name), join(out, name));
for (const name of MODEL.filter((each) => existsSync(join(model, each)))) cpSync(join(model, name), join(out, "model", name));
cpSync(dist, join(out, "palate"), { recursive: true, filter: (path) => !/(\.map|\/types|\/core|\/testing\.js)$/.test(path) });
const said = service ? JSON.parse(readFileSync(service, "utf8")) : { publicKey: readFileSync(join(model, "public-key"), "utf8").trim(), population: JSON.parse(readFileSync(join(model, "manifest.json"), "utf8")).population, participations: 0 };
writeFileSync(join(out, "service.json"), JSON.stringify(said));

const files = readdirSync(out, { recursive: true, withFileTypes: true }).filter((each) => each.isFile()).map((each) => relative(out, join(each.parentPath ?? each.path, each.name))).sort();
const version = createHash("sha256");
for (const file of files) version.update(`${file}\n`).update(readFileSync(join(out, file)));
const named = version.digest("hex").slice(0, 12);
const worker = `const VERSION = ${JSON.stringify(named)};\nconst FILES = ${JSON.stringify(["./", ...files.filter((file) => file !== "index.html")])};\n`;
writeFileSync(join(out, "offline.js"), worker + readFileSync(join(HERE, "offline.js"), "utf8"));
console.log(`${out}: ${files.filter((file) => !file.startsWith("model/")).length + 1} files besides the model, version ${named}`);
