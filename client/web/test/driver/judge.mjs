// Verdicts on plans and on states of the ledger, for tests in Python: a question a line on standard input, a verdict a line on
// standard output: nothing, or the kind of the error and its message.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath, pathToFileURL } from "node:url";
import { build } from "esbuild";

const HERE = fileURLToPath(new URL("../..", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "palate-judge-"));
const names = ["rounds/plan", "rounds/admission", "records/consistency", "records/cosignatures", "records/pinned", "records/fields", "floors", "models/manifest", "models/models", "service", "store/memory", "store/journal", "ledger/device_ledger"];
const entry = names.map((name) => `export * from "./src/${name}.js";`).join("\n");
await build({
  absWorkingDir: HERE,
  stdin: { contents: `${entry}\nexport { readJson } from "./src/records/canonical.js";`, resolveDir: HERE, loader: "ts" },
  outfile: join(folder, "judge.mjs"),
  bundle: true,
  format: "esm",
  target: "es2022",
  logLevel: "error",
});
const source = await import(pathToFileURL(join(folder, "judge.mjs")).href);
rmSync(folder, { recursive: true, force: true });

const bytes = (text) => (text === null ? null : Uint8Array.from(Buffer.from(text, "hex")));
const camel = (name) => name.replace(/_(\w)/g, (_, letter) => letter.toUpperCase());

const numberOf = (value) => ({ inf: Infinity, nan: NaN })[value] ?? value;

/** What an app pins, as Python's `Pinned` has it. */
function pinnedOf(given) {
  if (given === null) return null;
  const quorums = given.quorums.map(({ keys, needed }) => source.Quorum.of(keys, needed));
  return new source.Pinned(given.population, given.public_key, quorums, given.first_key);
}

const questions = {
  async plan({ data, public_key: publicKey, seen, evidence, pinned, floors, now }) {
    const accept = (plan) => {
      if (!floors) return;
      const given = Object.entries(floors).map(([name, value]) => [camel(name), numberOf(value)]);
      source.checkFloors(plan, { ...source.FLOORS, ...Object.fromEntries(given) }, now);
    };
    const options = { publicKey, seen: async () => ({ checkpoint: seen, evidence: bytes(evidence) }), accept };
    await source.openPlan(bytes(data), { ...options, pinned: pinnedOf(pinned ?? null) });
  },
  async growth({ what, shown, seen, evidence, spent, pinned }) {
    const fields = source.Fields.of("a state", source.readJson(shown), source.SHOWN.required, source.SHOWN.optional);
    await source.checkGrowth(what, source.readShown(fields), { checkpoint: seen, evidence: bytes(evidence) }, numberOf(spent), pinnedOf(pinned));
  },
  /** Whether a model is taken by a device that has seen so much of the ledger. */
  async take({ files, terms, seen, evidence, editions }) {
    const [storage, clock] = [await source.openMemory(), () => 0];
    const service = new source.Service({ ...terms, nextWitnesses: terms.next_witnesses, publicKey: terms.public_key, firstKey: terms.first_key });
    const ledger = new source.DeviceLedger(storage, service, clock);
    if (seen) await ledger.see(service.population, seen, async () => bytes(evidence ?? ""));
    await storage.put("journal/models", new TextEncoder().encode(JSON.stringify(editions)));
    const there = Object.fromEntries(Object.entries(files).map(([name, data]) => [name, bytes(data)]));
    // Unpacked, as Python keeps them: they are found in the store, and are the ones that the manifest names.
    for (const [name, data] of Object.entries(there)) await storage.put(`journal/files/${name}`, data);
    await new source.Models(new source.Journal(storage), service, ledger, clock).update(source.given(there));
    // What is known of the ledger afterwards is Python's, too: it is part of the verdict.
    const after = await ledger.seen(service.population);
    return { ...after.checkpoint, evidence: Buffer.from(after.evidence ?? []).toString("hex") };
  },
  manifest: ({ data, signature, public_key: publicKey }) => source.readManifest(bytes(data), bytes(signature), publicKey),
};

for await (const line of createInterface({ input: process.stdin })) {
  const { ask, ...rest } = JSON.parse(line);
  try {
    const found = await questions[ask](rest);
    console.log(JSON.stringify({ verdict: null, found: ask === "take" ? found : null }));
  } catch (error) {
    console.log(JSON.stringify({ verdict: [error.name, error.message] }));
  }
}
