import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { equal, refused, test } from "../harness.js";

test("an engine without X25519: curves that didn't arrive are fetched again by whoever asks again", async () => {
  const root = new URL("../..", import.meta.url).pathname;
  const folder = mkdtempSync(join(root, "build/curves-"));
  const bundle = (name: string, other: string) =>
    execFileSync(join(root, "node_modules/.bin/esbuild"), [join(root, `src/records/${name}.ts`), "--bundle", "--format=esm", "--log-level=error", `--external:./${other}.js`, `--outfile=${folder}/${name}.js`]);
  const { subtle } = crypto;
  const own = subtle.generateKey;
  try {
    bundle("crypto", "crypto_fallback");
    const { curves } = await import(join(folder, "crypto.js"));
    subtle.generateKey = (() => Promise.reject(new Error("there is no X25519"))) as typeof own;
    await refused(() => curves(), /crypto_fallback/);
    bundle("crypto_fallback", "crypto");
    const found = await curves();
    equal(found === (await curves()) && (await found.x25519()).publicKey.length, 32);
  } finally {
    subtle.generateKey = own;
    rmSync(folder, { recursive: true });
  }
});
