import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { erase, open } from "../../src/index.js";
import { openFile } from "../../src/store/file.js";
import { readU32 } from "../../src/records/bytes.js";
import { equal, ok, refused, test } from "../harness.js";
import { harmed, lived, type Pieces } from "./putback.js";

const KEY = new Uint8Array(32).fill(3);

test("put back: in Node each file that is flipped, cut, deleted, exchanged or of an hour ago is told, or nothing is lost", async () => {
  const path = await mkdtemp(`${tmpdir()}/palate-`);
  const read = async (): Promise<Pieces> => new Map(await Promise.all((await readdir(path)).sort().map(async (name) => [name, new Uint8Array(await readFile(`${path}/${name}`))] as const)));
  const write = async (pieces: Pieces): Promise<void> => {
    for (const name of await readdir(path)) await rm(`${path}/${name}`);
    for (const [name, data] of pieces) await writeFile(`${path}/${name}`, data);
  };
  const told = await harmed({ read, write, open: () => openFile(path, "app", KEY) }, 397);
  ok(told > 60, `got ${told}`);

  // A log that is cut between two writes, and a store of which only the key is left.
  const whole = await read();
  const log = whole.get("palate.log") as Uint8Array;
  let cuts = 0;
  for (let at = 0; at < log.length; at += 36 + readU32(log, at), cuts += 1) {
    await write(new Map([...whole, ["palate.log", log.subarray(0, at)]]));
    await refused(() => openFile(path, "app", KEY), /some of it is missing, or older/);
  }
  ok(cuts > 10);
  await write(new Map([["palate.key", whole.get("palate.key") as Uint8Array]]));
  await refused(() => open({ app: "app", path, key: KEY }), /some of it is missing, or older/);
  await erase("app", { path });
  await (await open({ app: "app", path, key: KEY })).close();
  await rm(path, { recursive: true });
});

test("put back: in Node a write that was cut short is dropped, and so is its anchor; what followed it is told", async () => {
  const path = await mkdtemp(`${tmpdir()}/palate-`);
  const [log, anchor] = [`${path}/palate.log`, `${path}/palate.anchor`];
  const store = await openFile(path, "app", KEY);
  await lived(store, 0);
  const [before, anchored] = [await readFile(log), await readFile(anchor)];
  await store.put("last", new Uint8Array(9));
  await store.close();
  const [after, anchors] = [await readFile(log), await readFile(anchor)];
  const opens = async (logged: Buffer, known: Buffer): Promise<boolean> => {
    await writeFile(log, logged);
    await writeFile(anchor, known);
    const found = await openFile(path, "app", KEY);
    const there = (await found.get("last")) !== undefined;
    await found.put("next", new Uint8Array(1)); // and goes on
    await found.close();
    return there;
  };
  const half = (from: Buffer, to: Buffer): Buffer => {
    const at = from.findIndex((byte, place) => byte !== to[place]);
    return Buffer.concat([to.subarray(0, at + 20), from.subarray(at + 20)]);
  };
  for (const size of [before.length, before.length + 1, after.length - 1]) equal(await opens(after.subarray(0, size), anchored), false, "power went while the log was written");
  equal(await opens(after, anchored), true, "power went before the anchor was written");
  equal(await opens(after, half(anchored, anchors)), true, "power went while the anchor was written");
  await refused(() => opens(before, half(anchored, anchors)), /missing, or older/);
  await refused(() => opens(before, anchors), /missing, or older/);
  await rm(path, { recursive: true });
});
