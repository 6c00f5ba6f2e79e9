import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { VERSION } from "../src/leader.js";
import { equal, test, ok } from "./harness.js";

test("package: a bundler for browsers takes it as it is, and looks for nothing of Node's; it knows its version", async () => {
  const file = (path: string) => new URL(`../../${path}`, import.meta.url).pathname;
  const bundled = execFileSync(file("node_modules/.bin/esbuild"), [file("src/index.ts"), "--bundle", "--format=esm", "--log-level=error"], { encoding: "utf8", maxBuffer: 2 ** 26 });
  equal(VERSION, JSON.parse(readFileSync(file("package.json"), "utf8")).version, "by which tabs of several versions know each other");
  ok(!/import\s*\(?\s*["']node:/.test(bundled));
});
