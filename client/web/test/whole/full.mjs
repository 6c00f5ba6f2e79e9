// A disk that is really full: the browser's profile on a small tmpfs, filled to the last page. Nothing acknowledged is lost, a revocation
// holds and outlives the page, and the same page lives again once there is room. Before that, its server is a version ahead.
//
// To mount takes root: the machine's, or a user namespace's, in which this starts itself anew. Where neither is to be had, the browser's
// files may grow no more (RLIMIT_FSIZE), which real writes to a real disk fail by as well, with another error.
import { spawnSync } from "node:child_process";
import { closeSync, openSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { browser, bundled, executable, forget, profile, served } from "./browser.mjs";

const said = (command, ...given) => spawnSync(command, given, { encoding: "utf8" });
const folder = profile();
const anew = process.env.PALATE_FULL;
let how = anew ?? "mount";
if (how === "mount" && said("mount", "-t", "tmpfs", "-o", "size=96m", "palate", folder).status) {
  how = "limit";
  if (!anew && !said("unshare", "--user", "--map-root-user", "--mount", "true").status) {
    forget(folder);
    process.exit(spawnSync("unshare", ["--user", "--map-root-user", "--mount", process.execPath, fileURLToPath(import.meta.url)], { stdio: "inherit", env: { ...process.env, PALATE_FULL: "mount" } }).status);
  }
}
const balloon = join(folder, "balloon");
/** Takes all the room that is left. */
function filled(running) {
  if (how === "limit") return said("prlimit", "--pid", String(running.pid), "--fsize=1024:").status;
  const file = openSync(balloon, "a");
  for (const size of [2 ** 20, 2 ** 12]) {
    try {
      while (writeSync(file, Buffer.alloc(size)) === size);
    } catch {
      // There is less room than that.
    }
  }
  return closeSync(file);
}
function emptied(running) {
  if (how === "mount") return rmSync(balloon);
  return said("prlimit", "--pid", String(running.pid), `--fsize=${said("prlimit", "--pid", String(running.pid), "--fsize", "--noheadings", "--output=HARD").stdout.trim()}:`);
}

if (how === "limit") {
  // Who asks for more is told so, and not killed.
  const real = executable();
  process.env.CHROMIUM = join(folder, "unlimited");
  writeFileSync(process.env.CHROMIUM, `#!/bin/sh\ntrap '' XFSZ\nexec ${real} "$@"\n`, { mode: 0o755 });
}
const server = await served(await bundled("full_page.ts"));
let running = await browser(folder);
let page = null;
const fresh = async () => {
  await page?.close();
  page = await running.context.newPage();
  await page.goto(`${server.address}/full_page.html`);
  await page.waitForFunction(() => document.title === "ready");
};
const must = async (wanted, name, ...given) => {
  const found = await page.evaluate(([which, all]) => globalThis[which](...all), [name, given]);
  if (!wanted.test(found)) throw new Error(`${how}: ${name} must give ${wanted}, gave ${found}`);
};
/** A browser reads its log when it starts: what was written after a failure, too. */
const restarted = async () => {
  await running.kill();
  [running, page] = [await browser(folder), null];
  await fresh();
  await must(/^done$/, "opened");
};
try {
  await fresh();
  await must(/^done$/, "opened");
  for (const purpose of ["store", "train", "messaging"]) await must(/"granted":true/, "grant", purpose);
  await must(/stored/, "track", 10);
  // A newer version is put in this one's place: what wasn't loaded yet is gone.
  server.gone = true;
  for (const name of ["exported", "messages"]) await must(/^UnreachableError: .* reload the page/, name);
  await must(/^unreachable: .* reload the page/, "sync");
  server.gone = false;
  await must(/^10$/, "exported");
  for (const name of ["messages", "sync"]) await must(/^(?!.*reload)/, name);

  filled(running);
  await must(/failed/, "track", 1000); // the browser closes the database
  await must(/failed/, "track", 1);
  await must(/no room|no storage|read or written/, "problem");
  await must(/^true$/, "get", "store");
  await must(/PalateError/, "revoke", "store");
  await must(/^false$/, "get", "store");
  emptied(running);
  await must(/no consent/, "track", 1);
  await fresh();
  await must(/^done$/, "opened");
  await must(/^false$/, "get", "store"); // the database still has the grant
  await must(/^true$/, "get", "train");
  await must(/no consent/, "track", 1);
  await must(/"granted":true/, "grant", "store");
  await must(/stored/, "track", 1);
  await restarted();
  await must(/^true$/, "get", "store");
  await must(/^11$/, "exported");

  filled(running);
  await must(/failed/, "track", 1000);
  emptied(running);
  await must(/stored/, "track", 1); // the same page, as if nothing had been
  await must(/^12$/, "exported");
  await restarted();
  await must(/^12$/, "exported");

  filled(running);
  await must(/failed/, "track", 1000);
  await fresh(); // before it has seen that the database is closed
  emptied(running);
  await must(/^done$/, "opened");
  await must(/stored/, "track", 1);
  await restarted();
  await must(/^13$/, "exported");

  // What the browser evicts while a page is open is as what was erased: nothing is agreed to.
  const tools = await running.context.newCDPSession(page);
  await tools.send("Storage.clearDataForOrigin", { origin: server.address, storageTypes: "all" });
  await must(/no consent/, "track", 1);
  await must(/^false$/, "get", "store");
  await must(/^ErasedError/, "exported");
  await fresh();
  await must(/^done$/, "opened");
  await must(/^0$/, "exported");
  console.log(`a full disk (${how === "mount" ? "tmpfs" : "files that may not grow"}): nothing acknowledged was lost, a revocation holds and outlives the page, which lives again when there is room; an eviction is an erasure`);
} finally {
  await running.kill();
  server.close();
  if (how === "mount") said("umount", "--lazy", folder);
  forget(folder);
}
