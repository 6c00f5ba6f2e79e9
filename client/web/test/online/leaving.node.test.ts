import type { RequestListener } from "node:http";
import { MemoryStorage } from "../../src/ledger/storage.js";
import { askedToDelete, enrolmentOf, keepEnrolment, leave } from "../../src/online/enrolment.js";
import { sync } from "../../src/online/sync.js";
import { SigningKey } from "../../src/records/signing.js";
import { Rounds } from "../../src/rounds/participation.js";
import { Service } from "../../src/service.js";
import { equal, refused, test } from "../harness.js";
import { served } from "./served.js";

const service = new Service({ publicKey: "ab".repeat(32), population: "readers" });

/** An enrolled device, and its server, which keeps what it was asked for. */
async function enrolled(reply: (ask: string, storage: MemoryStorage) => Promise<number>, act: (storage: MemoryStorage, asked: string[], online: () => Promise<string>) => Promise<void>): Promise<void> {
  const [storage, asked] = [new MemoryStorage(), [] as string[]];
  const listener: RequestListener = async (request, response) => {
    const ask = `${request.method} ${request.url}`;
    asked.push(ask);
    response.writeHead(await reply(ask, storage)).end();
  };
  const rounds = new Rounds({
    storage, service, clock: () => 0, consents: () => true, catalogue: async () => null, note: async () => undefined,
    history: async () => ({ indices: new Int32Array(), weights: new Float32Array(), nItems: 1 }),
  });
  const options = { storage, service, rounds, seconds: 5, pollSeconds: 0.01, modelInUse: async () => null, takeModel: async () => false };
  await served(listener, async (origin) => {
    await keepEnrolment(storage, { origin, publicKey: service.publicKey, population: "readers", device: 7 });
    await act(storage, asked, async () => (await sync(options)).ended);
  });
}

const identity = SigningKey.fromSecret(new Uint8Array(32).fill(1));

const answers = new Map<string, () => Promise<number>>([
  ["status 500", async () => 500],
  ["status 403", async () => 403],
  ["nothing", () => new Promise(() => undefined)],
]);
for (const [what, reply] of answers) {
  test(`leaving: who has asked takes part in nothing more, though the server answers with ${what}`, async () => {
    await enrolled(reply, async (storage, asked, online) => {
      await refused(async () => leave(storage, await identity, what === "nothing" ? 0.05 : 5), /must/);
      equal([await askedToDelete(storage), await enrolmentOf(storage)], [{ answered: false }, null]);
      equal((await enrolmentOf(storage, true))?.device, 7, "a statement knows of it, and it can be asked for again");
      equal([await online(), asked], ["not enrolled", ["POST /v1/enroll"]]);
    });
  });
}

test("leaving: a sync that is under way ends, without a word more", async () => {
  const reply = async (ask: string, storage: MemoryStorage) => {
    if (ask === "GET /models/latest") await leave(storage, await identity).catch(() => undefined);
    return ask === "GET /models/latest" ? 404 : 500;
  };
  await enrolled(reply, async (_, asked, online) => equal([await online(), asked], ["not enrolled", ["GET /models/latest", "POST /v1/enroll"]]));
});
