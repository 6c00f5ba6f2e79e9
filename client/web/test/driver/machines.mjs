// Masked devices for tests in Python: a command a line on standard input, an answer a line on standard output.
//
// The sources go through the optimiser of what ships, with their private fields open and their checks in an object, so that a test can look at
// a state, copy a device, and take a check out, as it does with the device in Python.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath, pathToFileURL } from "node:url";
import { optimised } from "../../optimised.mjs";

/** What builds on the rules of this module asks for them in the object, too. */
function withWalls(text) {
  const [rules, after] = text.split("declare const checked");
  const names = [...rules.matchAll(/^export (?:async )?function (\w+)/gm)].map(([, name]) => name);
  return `${rules}declare const checked${after.replace(new RegExp(`\\b(${names.join("|")})\\(`, "g"), "globalThis.walls.$1(")}`;
}

const HERE = fileURLToPath(new URL("../..", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "palate-machines-"));
const opened = {
  name: "opened",
  resolveId: (id) => (id === "machines.ts" ? id : null),
  load(id) {
    if (id === "machines.ts") return names.map((name) => `export * from ${JSON.stringify(join(HERE, `src/${name}.ts`))};`).join("\n");
    if (id.endsWith("secagg/checks.ts")) return withWalls(readFileSync(id, "utf8"));
    if (!/secagg\/(attempt|agreement|cohort)\.ts$/.test(id)) return null;
    return readFileSync(id, "utf8")
      .replace(/#(\w+)/g, "_$1")
      .replace(/\bchecks\.(\w+)\(/g, "globalThis.walls.$1(")
      .replace("= graphTerms(", "= globalThis.shapeOf(");
  },
};
const names = ["secagg/attempt", "secagg/agreement", "secagg/checks", "secagg/directory", "secagg/graph_terms", "records/signing"];
await optimised({ machines: "machines.ts" }, folder, { entryFileNames: "[name].mjs" }, [opened]);
const source = await import(pathToFileURL(join(folder, "machines.mjs")).href);
rmSync(folder, { recursive: true, force: true });

const bytes = (text) => Uint8Array.from(Buffer.from(text, "hex"));
const hex = (data) => Buffer.from(data).toString("hex");
const camel = (name) => name.replace(/_(\w)/g, (_, letter) => letter.toUpperCase());
const machines = new Map();
/** What stands in for a rule that gives something: the shares of the boxes that are there. */
const LET_PASS = { every_box: (wanted, held) => new Map(wanted.filter((slot) => held.has(slot)).map((slot) => [slot, held.get(slot)])) };
let [latching, changes] = [new Set(), {}];

/** Which checks hold, and how graphs are other than for so many devices. */
function settle({ without = [], shapes = {}, every = {} }) {
  globalThis.walls = { ...source };
  for (const name of without) globalThis.walls[camel(name)] = LET_PASS[name] ?? (() => undefined);
  latching = new Set(without.includes("latched") ? [] : ["input", "consistency"]);
  if (!without.includes("latched_openings")) latching.add("open");
  changes = { shapes, every };
}

globalThis.shapeOf = (n, corrupt, dropped) => {
  const found = source.graphTerms(n, corrupt, dropped);
  const given = { ...changes.shapes?.[n], ...changes.every };
  return { ...found, ...Object.fromEntries(Object.entries(given).map(([name, value]) => [camel(name), value])) };
};
settle({});

const commands = {
  settle,
  async make({ name, terms, id, secret, directory, server, vector }) {
    const held = new Map();
    const latch = async (step, digest) => {
      if (!latching.has(step)) return;
      if (!held.has(step)) held.set(step, digest);
      if (held.get(step) !== digest) throw Object.assign(new Error(`this attempt has another ${step} latched`), { name: "RefusedError" });
    };
    machines.set(name, new source.MaskedDevice({
      terms: { ...terms, context: bytes(terms.context) },
      id,
      identity: await source.SigningKey.fromSecret(bytes(secret)),
      directory: source.Directory.read(bytes(directory)),
      serverKey: server,
      vector: async () => ({ steps: Float64Array.from(vector) }),
      latch,
    }));
  },
  answer: async ({ name, step, request }) => hex(await machines.get(name).answer(step, bytes(request))),
  state({ name }) {
    const state = machines.get(name)._state;
    const shares = [...(state.shares ?? state.masked?.shares ?? [])].map(([slot, dealt]) => [slot, dealt.shares.map(hex), dealt.salts.map(hex)]);
    return { at: state.at, mask: state.maskPair ? hex(state.maskPair.privateBytes()) : null, shares };
  },
  copy({ name, to }) {
    const [of, made] = [machines.get(name), Object.create(source.MaskedDevice.prototype)];
    machines.set(to, Object.assign(made, of, { _answers: new Map(of._answers) }));
  },
  drop: () => machines.clear(),
};

for await (const line of createInterface({ input: process.stdin })) {
  const { do: name, ...rest } = JSON.parse(line);
  try {
    console.log(JSON.stringify({ answer: (await commands[name](rest)) ?? null }));
  } catch (error) {
    console.log(JSON.stringify({ error: error.message, kind: error.name }));
  }
}
