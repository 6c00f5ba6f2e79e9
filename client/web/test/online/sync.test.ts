import { MemoryStorage } from "../../src/ledger/storage.js";
import { keepEnrolment } from "../../src/online/enrolment.js";
import { recordDict } from "../../src/online/flower_messages.js";
import { sync, type SyncResult } from "../../src/online/sync.js";
import { concat, utf8 } from "../../src/records/bytes.js";
import { digest } from "../../src/records/canonical.js";
import { makeNodeKey } from "../../src/records/crypto.js";
import { blob, double, lastBytes, lastUint, readProto, text, uint, type ProtoFields } from "../../src/records/protobuf.js";
import type { Purpose, Rounds } from "../../src/rounds/participation.js";
import { Service } from "../../src/service.js";
import { equal, ok, test, vectors } from "../harness.js";

const [KNOWN, RECORD, NEXT, STAYS, TAKES] = [1000, 1003, 1005, 1006, 1007];
const NODE = 5n;

/** A record with values as Flower has it. */
function record(values: Readonly<Record<string, Uint8Array | number>>): Uint8Array {
  const items = Object.entries(values).map(([name, value]) => {
    const field = typeof value === "number" ? double(1, value) : blob(6, value, true);
    return blob(1, concat(text(1, name), blob(2, field)));
  });
  const body = concat(...items);
  return concat(utf8(`ConfigRecord  ${body.length}\0`), body);
}

/** What `pull-messages` replies with a message. */
function message(kind: string, values: Readonly<Record<string, Uint8Array | number>>, id: string): Uint8Array {
  const content = record(values);
  const name = digest(content);
  const tree = concat(text(1, id.repeat(64)), blob(2, concat(text(1, digest(recordDict(name))), blob(2, text(1, name)))));
  const metadata = concat(uint(1, 7), text(2, id.repeat(64)), uint(3, 1), uint(4, NODE), text(6, "1"), double(7, 600), text(8, kind), double(9, 1_790_000_000));
  return concat(blob(2, blob(1, metadata)), blob(3, tree), blob(RECORD, content), uint(KNOWN, 1));
}

interface Played {
  readonly result: SyncResult;
  /** What was declared with the activation, and with each request for a message. */
  readonly declared: readonly (readonly [number, number])[];
  readonly contributed: number;
  readonly refusals: readonly string[];
}

/** One sync of 100 seconds, at a server with one plan; `pushed` is called when the answer comes, with what sets the clock ahead. */
async function play(seconds: number, agreed: readonly Purpose[], pushed: (ahead: (by: number) => void, stop: AbortController) => boolean): Promise<Played> {
  const [plan, storage, stop] = [utf8((await vectors("plan.json")).signed_plan), new MemoryStorage(), new AbortController()];
  const key = "ab".repeat(32);
  const service = new Service({ publicKey: key, population: "readers" });
  await keepEnrolment(storage, { origin: "https://readers.example", device: 0, population: "readers", publicKey: key, node: NODE, key: await makeNodeKey() });
  const [refusals, declared] = [[] as string[], [] as (readonly [number, number])[]];
  let contributed = 0;
  const rounds = {
    ledger: { atLimit: async () => false },
    agreed: async (purpose: Purpose) => agreed.includes(purpose),
    wanted: async () => "cd".repeat(32),
    contribute: async () => ((contributed += 1), Uint8Array.of(1, 2)),
    noteRefusal: async (_: string, error: unknown) => void refusals.push((error as Error).message),
  };
  const [now, fetched] = [performance.now, globalThis.fetch];
  let ahead = 0;
  let given = false;
  const replied = (found: ProtoFields, name: string): Uint8Array | null => {
    if (found.has(STAYS)) declared.push([Number(lastUint(found, STAYS)), Number(lastUint(found, TAKES))]);
    if (name === "activate-node") return uint(1, NODE);
    if (name === "pull-messages" && given) return message("query", { come_back: 60 }, "b");
    if (name === "pull-messages") return (given = true), message("train", { plan, model: Uint8Array.of(9), seconds }, "a");
    if (name !== "push-messages") return new Uint8Array();
    if (lastBytes(found, 2).length && !pushed((by) => (ahead += 1000 * by), stop)) return null;
    return concat(blob(2, new Uint8Array(), true), uint(KNOWN, 1), blob(NEXT, uint(KNOWN, 1)));
  };
  try {
    performance.now = () => now.call(performance) + ahead;
    globalThis.fetch = async (address, options) => {
      const path = new URL(String(address)).pathname;
      if (!path.startsWith("/v1/fleet/")) return new Response(null, { status: 404 });
      const reply = replied(readProto(new Uint8Array(options?.body as ArrayBuffer)), path.slice("/v1/fleet/".length));
      return new Response(reply as BodyInit | null, { status: reply ? 200 : 503 });
    };
    const result = await sync({
      storage, service, rounds: rounds as unknown as Rounds, seconds: 100, pollSeconds: 0.01, signal: stop.signal,
      modelInUse: async () => null,
      takeModel: async () => false,
    });
    return { result, declared, contributed, refusals };
  } finally {
    [performance.now, globalThis.fetch] = [now, fetched];
  }
}

const brief = ({ ended, rounds, dropped, refused }: SyncResult): unknown => ({ ended, rounds, dropped, refused });

test("a device declares in a sync for how long it stays and for what, and comes back when it is told to", async () => {
  const { result, declared, contributed } = await play(60, ["train", "analytics"], () => true);
  equal(brief(result), { ended: "come back", rounds: 1, dropped: 0, refused: 0 });
  ok(declared.length >= 3 && declared.every(([stays, takes]) => takes === 3 && stays > 80_000 && stays <= 97_000), JSON.stringify(declared));
  equal(contributed, 1);
  const some = await play(60, ["train"], () => true);
  ok(some.declared.every(([, takes]) => takes === 1));
});

test("an attempt that has begun is finished after the sync's time, and no longer than the grace", async () => {
  const late = await play(60, ["train"], (ahead) => (ahead(98), true));
  equal(brief(late.result), { ended: "time", rounds: 1, dropped: 0, refused: 0 });
  ok(late.declared.at(-1)?.[0] as number > 0, "the last request was before that");
  let tries = 0;
  const again = await play(60, ["train"], (ahead) => (ahead(tries ? 0 : 98), (tries += 1) > 1));
  equal([brief(again.result), tries], [{ ended: "time", rounds: 1, dropped: 0, refused: 0 }, 2], "it is tried again within the grace");
  const over = await play(60, ["train"], (ahead) => (ahead(160), false));
  equal(over.result.dropped, 1, "what is charged and not finished is told as that");
  equal(over.result.rounds, 0);
  const stopped = await play(60, ["train"], (_, stop) => (stop.abort(), false));
  equal(brief(stopped.result), { ended: "stopped", rounds: 0, dropped: 1, refused: 0 });
});

test("a plan for which a sync has no time is declined before it is charged", async () => {
  const { result, contributed, refusals } = await play(400, ["train"], () => true);
  equal([brief(result), contributed], [{ ended: "come back", rounds: 0, dropped: 0, refused: 1 }, 0]);
  ok(/^a plan needs a device that has 400 s for it, and this sync ends in 9\d s$/.test(refusals[0]), refusals[0]);
});
