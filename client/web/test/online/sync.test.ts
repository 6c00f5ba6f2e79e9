import { MemoryStorage } from "../../src/ledger/storage.js";
import { keepEnrolment } from "../../src/online/enrolment.js";
import { PATH } from "../../src/online/exchange.js";
import { sync, type SyncResult } from "../../src/online/sync.js";
import { hex, utf8 } from "../../src/records/bytes.js";
import { digest } from "../../src/records/canonical.js";
import { SigningKey } from "../../src/records/signing.js";
import type { Purpose, Rounds } from "../../src/rounds/participation.js";
import { Service } from "../../src/service.js";
import { equal, ok, test, vectors } from "../harness.js";
import { StandIn, type Named, type Message, type Trouble } from "./stand_in.js";

const identity = SigningKey.fromSecret(new Uint8Array(32).fill(1));
const MODEL = utf8("a model");
const nothing = (): Trouble => undefined;
const answers = (headers: Named): boolean => headers["palate-answers"] !== "-";

/** What may happen with a request: the clock is set ahead by seconds, the app stops, and what the user agrees to changes. */
interface Moment {
  readonly ahead: (by: number) => void;
  readonly stop: AbortController;
  readonly agreed: Set<Purpose>;
}

/** One sync of 100 seconds, at a server that asks for these; `trouble` is called with each request. */
async function play(messages: (plan: Uint8Array) => readonly Message[], trouble: (headers: Named, moment: Moment) => Trouble = nothing, purposes: readonly Purpose[] = ["train"], path = "") {
  const [plan, storage, stop, key] = [utf8((await vectors("plan.json")).signed_plan), new MemoryStorage(), new AbortController(), "ab".repeat(32)];
  const [service, agreed] = [new Service({ publicKey: key, population: "readers" }), new Set(purposes)];
  await keepEnrolment(storage, { origin: `https://readers.example${path}`, device: 0, population: "readers", publicKey: key });
  const refusals: string[] = [];
  let [contributed, ahead] = [0, 0];
  const rounds = {
    identity: () => identity,
    ledger: { atLimit: async () => false },
    agreed: async (purpose: Purpose) => agreed.has(purpose),
    wanted: async () => digest(MODEL),
    contribute: async () => Uint8Array.of((contributed += 1)),
    noteRefusal: async (_: string, error: unknown) => void refusals.push((error as Error).message),
  };
  const [now, fetched] = [performance.now, globalThis.fetch];
  const moment = { stop, agreed, ahead: (by: number) => (ahead += 1000 * by) };
  const server = new StandIn((await identity).publicKey, messages(plan), (headers) => trouble(headers, moment), path + PATH);
  try {
    performance.now = () => now.call(performance) + ahead;
    globalThis.fetch = async (address, options) => {
      const [at, body] = [new URL(String(address)).pathname, (options?.body as Uint8Array | undefined) ?? new Uint8Array()];
      if (at.startsWith(`${path}/round/`)) return new Response(MODEL as BodyInit);
      const reply = await server.reply(at, { ...(options?.headers as Named), "content-length": String(body.length) }, body);
      if (!reply) throw new TypeError("the connection was lost");
      return new Response(reply.body?.length ? (reply.body as BodyInit) : null, { status: reply.status, headers: reply.headers });
    };
    const own = { storage, service, rounds: rounds as unknown as Rounds, modelInUse: async () => null, takeModel: async () => false };
    const result = await sync({ ...own, seconds: 100, pollSeconds: 0.01, signal: stop.signal });
    return { result, server, contributed, refusals };
  } finally {
    [performance.now, globalThis.fetch] = [now, fetched];
  }
}

const one = (seconds: number) => (plan: Uint8Array): readonly Message[] => [["plan", seconds, plan]];
const brief = ({ ended, rounds, dropped, refused }: SyncResult): unknown => ({ ended, rounds, dropped, refused });
const declared = ({ heard }: StandIn): number[][] => heard.slice(0, -1).map((each) => [Number(each["palate-stays"]), Number(each["palate-takes"])]);

test("a device declares in a sync for how long it stays and for what, and comes back when it is told to", async () => {
  const { result, server, contributed } = await play(one(60), nothing, ["train", "analytics"], "/p/shop");
  equal(brief(result), { ended: "come back", rounds: 1, dropped: 0, refused: 0 });
  equal([result.next, result.exchanges, contributed, server.taken.map(hex)], [60, 1, 1, ["01"]]);
  ok(declared(server).every(([stays, takes]) => takes === 3 && stays > 80_000 && stays <= 97_000), JSON.stringify(declared(server)));
  equal(server.heard.map((each) => [each["palate-answers"], Number(each["palate-wait"])]), [["-", 25_000], ["0".repeat(32), 25_000], ["-", 0]], "it asks, answers and goes offline");
  equal(declared((await play(one(60))).server).map(([, takes]) => takes), [1, 1]);
});

test("an attempt that has begun is finished after the sync's time, and no longer than the grace", async () => {
  const late = await play(one(60), (asked, { ahead }) => (answers(asked) ? ahead(98) : undefined, undefined));
  equal(brief(late.result), { ended: "come back", rounds: 1, dropped: 0, refused: 0 });
  let tries = 0;
  const again = await play(one(60), (asked, { ahead }) => (!answers(asked) ? undefined : (tries += 1) > 1 ? undefined : (ahead(98), "unheard")));
  equal([brief(again.result), tries], [{ ended: "time", rounds: 1, dropped: 0, refused: 0 }, 2], "it is tried again within the grace");
  const over = await play(one(60), (asked, { ahead }) => (answers(asked) ? (ahead(160), "unheard") : undefined));
  equal(brief(over.result), { ended: "unreachable", rounds: 0, dropped: 1, refused: 0 }, "what is charged and not finished is told as that");
  const stopped = await play(one(60), (asked, { stop }) => (answers(asked) ? (stop.abort(), "unheard") : undefined));
  equal(brief(stopped.result), { ended: "stopped", rounds: 0, dropped: 1, refused: 0 });
});

test("a plan for which a sync has no time is declined before it is charged", async () => {
  const { result, contributed, refusals } = await play(one(400));
  equal([brief(result), contributed], [{ ended: "come back", rounds: 0, dropped: 0, refused: 1 }, 0]);
  ok(/^a plan needs a device that has 400 s for it, and this sync ends in 9\d s$/.test(refusals[0]), refusals[0]);
});

test("a server that asks for ever what is refused is answered now and then, though each message is new", async () => {
  const began = performance.now();
  const { result } = await play(() => Array.from({ length: 50 }, (_, number): Message => ["step", 0, Uint8Array.of(number % 2)]));
  equal(brief(result), { ended: "come back", rounds: 0, dropped: 0, refused: 50 });
  ok(performance.now() - began > 250, "there are pauses of 10 ms and a fifth less or more between them");
});

/** Fails the first answers so, one after the other. */
const first = (...troubles: Trouble[]) => (asked: Named): Trouble => (answers(asked) ? troubles.shift() : undefined);

for (const [what, troubles, exchanges] of [
  ["whose reply was lost is sent again, signed anew", ["lost"], 1],
  ["that wasn't heard is sent again", [503], 1],
  ["that a browser has sent twice by itself, so that its time is an old one, is signed anew", [401], 1],
  ["that the server has forgotten is given again, and is a round like any", ["forgotten"], 1],
] as [string, Trouble[], number][]) {
  test(`an answer ${what}: the same bytes, computed once`, async () => {
    const { result, server, contributed } = await play(one(60), first(...troubles));
    equal([brief(result), result.exchanges], [{ ended: "come back", rounds: 1, dropped: 0, refused: 0 }, exchanges]);
    equal([contributed, server.taken.map(hex)], [1, ["01"]]);
    const sent = server.heard.filter(answers);
    equal([sent.length, new Set(sent.map((each) => each["palate-body"])).size], [troubles.length + 1, 1]);
    equal(new Set(sent.map((each) => each["palate-signature"])).size, sent.length);
  });
}

test("an answer that comes too late ends its attempt, and is no error", async () => {
  const { result, server } = await play(one(60), first("late"));
  equal([brief(result), result.exchanges], [{ ended: "come back", rounds: 0, dropped: 1, refused: 0 }, 0]);
  equal(server.heard.length, 3);
});

test("an answer whose user has revoked meanwhile isn't sent again", async () => {
  for (const trouble of ["unheard", 401] as const) {
    const { result, server } = await play(one(60), (asked, { agreed }) => (answers(asked) ? (agreed.delete("train"), trouble) : undefined), ["train", "analytics"]);
    equal(brief(result), { ended: "no consent", rounds: 0, dropped: 1, refused: 0 });
    equal(server.heard.filter(answers).length, 1);
  }
});

for (const [status, requests, means] of [[400, 1, "$"], [401, 2, ": it doesn't know this device's key"], [403, 1, ": it has excluded"], [409, 1, ": another copy"], [413, 1, "$"], [426, 1, ": it speaks another version"]] as const) {
  test(`status ${status} ends a sync, and the device says nothing more`, async () => {
    const { result, server } = await play(one(60), () => status);
    equal([result.ended, server.heard.length], ["rejected", requests]);
    ok(new RegExp(`got status ${status}${means}`).test(result.reason), result.reason);
  });
}
