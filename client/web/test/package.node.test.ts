import { execFileSync } from "node:child_process";
import { test, ok } from "./harness.js";

test("package: a bundler for browsers takes it as it is, and looks for nothing of Node's", async () => {
  const file = (path: string) => new URL(`../../${path}`, import.meta.url).pathname;
  const bundled = execFileSync(file("node_modules/.bin/esbuild"), [file("src/index.ts"), "--bundle", "--format=esm", "--log-level=error"], { encoding: "utf8", maxBuffer: 2 ** 26 });
  ok(!/import\s*\(?\s*["']node:/.test(bundled));
});
