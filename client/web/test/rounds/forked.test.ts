import { forFew, FLOORS } from "../../src/floors.js";
import { DeviceLedger } from "../../src/ledger/device_ledger.js";
import { MemoryStorage, type Change } from "../../src/ledger/storage.js";
import { fromHex, utf8 } from "../../src/records/bytes.js";
import { Rounds } from "../../src/rounds/participation.js";
import { REFUSED } from "../../src/rounds/wire.js";
import { Service } from "../../src/service.js";
import { equal, ok, test, vectors } from "../harness.js";

test("a plan whose ledger doesn't extend a state that was seen since it was verified is refused", async () => {
  const { signed_plan, model_file_hex, public_key: publicKey } = await vectors("plan.json");
  const [plan, model] = [utf8(signed_plan), fromHex(model_file_hex)];
  for (const [between, taken] of [["a".repeat(64), false], ["", true]] as const) {
    /** A storage in which another state is stored between a plan's verification and its own, as another tab's model would. */
    class Meanwhile extends MemoryStorage {
      private came = !between;
      override async transaction<T>(names: readonly string[], change: (read: ReadonlyMap<string, Uint8Array>) => Change<T>): Promise<T> {
        const ledger = new DeviceLedger(this, { limitMu2: 0, participations: 0 }, () => 0);
        const comes = !this.came && names.includes("ledger/seen/readers");
        this.came ||= comes;
        if (comes) await ledger.see("readers", { size: 2, root: between }, async () => new Uint8Array());
        return super.transaction(names, change);
      }
    }
    const [left, refusals]: [string[], string[]] = [[], []];
    const rounds = new Rounds({
      storage: new Meanwhile(), clock: () => 0, consents: () => true,
      service: new Service({ publicKey, population: "readers", floors: { ...forFew(FLOORS), allowCentral: true } }),
      catalogue: async () => ["apple", "pear", "plum"],
      history: async () => ({ indices: new Int32Array(), weights: new Float32Array(), nItems: 3 }),
      note: async ({ what }) => void left.push(what), refused: async (_, reason) => void refusals.push(reason),
    });
    equal((await rounds.contribute(plan, model, 0)) !== REFUSED, taken);
    equal([left.length, (await rounds.ledger.receipts()).length], [Number(taken), Number(taken)], "nothing leaves, nor is charged");
    if (!taken) ok(/another log/.test(refusals[0]), refusals[0]);
  }
});
