import { MemoryStorage } from "../../src/ledger/storage.js";
import { utf8 } from "../../src/records/bytes.js";
import { Masked, Rounds } from "../../src/rounds/participation.js";
import { REFUSED } from "../../src/rounds/wire.js";
import type { MaskedDevice } from "../../src/secagg/attempt.js";
import { Service } from "../../src/service.js";
import { equal, test } from "../harness.js";

test("a refusal that can't be noted is sent all the same, as the constant one", async () => {
  let asked = 0;
  const full = async () => {
    asked += 1;
    throw new Error("the disk is full");
  };
  const rounds = new Rounds({
    storage: new MemoryStorage(), clock: () => 0, consents: () => true, catalogue: async () => null, note: full, refused: full,
    service: new Service({ publicKey: "ab".repeat(32), population: "readers" }), history: full,
  });
  const [plan, none] = [utf8("no plan"), new Uint8Array()];
  equal(await rounds.wanted(plan), null);
  equal(await rounds.contribute(plan, none, 0), REFUSED);
  equal(await rounds.join(plan, none, none, 0), null);
  const masked = new Masked(undefined as unknown as MaskedDevice, "train", full, full, (error) => rounds.noteRefusal("request", error));
  equal(await masked.answer(none), REFUSED);
  equal(asked, 5);
});
