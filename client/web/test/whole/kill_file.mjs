// Kills a process at random moments of its work on a store in a folder, and looks at what is there: nothing that was acknowledged is
// lost or there twice, and a store that a kill has left is never taken for one that somebody put back.
//
//     node test/whole/kill_file.mjs --times 10
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { built, DIST } from "../shipped.mjs";

const times = Number(process.argv[process.argv.indexOf("--times") + 1]) || 10;
built();
const folder = mkdtempSync(join(tmpdir(), "palate-"));
const options = { app: "killed", path: folder, key: new Uint8Array(32).fill(9) };
const { open } = await import(pathToFileURL(join(DIST, "index.js")).href);
const worker = `
  const { open } = await import(${JSON.stringify(pathToFileURL(join(DIST, "index.js")).href)});
  const device = await open({ ...${JSON.stringify({ app: options.app, path: folder })}, key: new Uint8Array(32).fill(9) });
  await device.consent.grant("store");
  const note = "x".repeat(3000); // so that the log is written anew now and then
  for (let at = 0; ; at += 1) {
    const item = process.argv[1] + "-" + at;
    if ((await device.track("like", item, { props: { note } })) === "stored") process.stdout.write(item + "\\n");
    if (at % 50 === 49) await device.resetTaste();
  }`;

let acknowledged = new Set();
try {
  for (let turn = 0; turn < times; turn += 1) {
    const child = spawn(process.execPath, ["--input-type=module", "--eval", worker, String(turn)], { stdio: ["ignore", "pipe", "inherit"] });
    let text = "";
    child.stdout.on("data", (data) => (text += data));
    await new Promise((resolve) => child.stdout.once("data", resolve));
    await new Promise((resolve) => setTimeout(resolve, 300 * Math.random()));
    child.kill("SIGKILL");
    await new Promise((resolve) => child.once("close", resolve));
    for (const item of text.split("\n").slice(0, -1)) acknowledged.add(item);
    const device = await open(options);
    const lines = (await (await device.export()).text()).trim().split("\n").map((line) => JSON.parse(line));
    const events = lines.filter(({ type }) => type === "event").map(({ item }) => item);
    const there = new Set(events);
    const missing = [...acknowledged].filter((item) => !there.has(item));
    if (missing.length || there.size !== events.length) throw new Error(`acknowledged and lost: ${missing.slice(0, 5)}; ${events.length - there.size} twice`);
    acknowledged = there;
    await device.close();
  }
  console.log(`a process was killed ${times} times at its store in a folder: ${acknowledged.size} events, none lost, none twice`);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
