import { type Device, type Tracked } from "../src/index.js";
import { Clock, device, modelOf } from "../src/hosting/testing.js";
import { equal, ok, refused, test } from "./harness.js";

const SHELVES = [["tea-1", "tea-2", "tea-3"], ["cup-1", "cup-2", "cup-3"]];

/** An app of somebody else's design. */
class Shop {
  constructor(private readonly device: Device) {}

  bought(item: string): Promise<Tracked> {
    return this.device.track("purchase", item, { value: 1 });
  }

  async shelf(n = 2): Promise<string[]> {
    return (await this.device.recommend(n, { explore: 0 })).map(({ item }) => item);
  }
}

test("testing: a shelf follows what was bought, on a day that the test decides", async () => {
  const clock = new Clock();
  const made = await device({ shelves: SHELVES, clock });
  const shop = new Shop(made);
  equal(await shop.bought("cup-1"), "stored");
  equal((await shop.shelf()).sort(), ["cup-2", "cup-3"]);
  equal(await shop.bought("cup-1"), "duplicate");
  clock.advance({ days: 1, hours: 1 });
  equal(await shop.bought("cup-1"), "stored");
  const times = (await (await made.export()).text()).trim().split("\n").map((line) => JSON.parse(line) as { type: string; time: number });
  const [first, second] = times.filter(({ type }) => type === "event").map(({ time }) => time);
  equal(second - first, 90_000);
  await made.close();
});

test("testing: without consent nothing is kept, two devices never meet, and no round is taken part in", async () => {
  const [one, other] = [await device({ consents: [], shelves: SHELVES }), await device({ shelves: SHELVES, preset: "shop" })];
  equal(await new Shop(one).bought("tea-1"), "no consent");
  equal(await new Shop(other).bought("tea-1"), "stored");
  ok(!(await (await one.export()).text()).includes("purchase"));
  equal((await other.sync({ seconds: 1 })).ended, "not enrolled");
  await one.erase();
  await refused(async () => device({ shelves: [["a"], ["a"]] }), /`shelves` must have items, each once/);
  ok(modelOf(SHELVES) instanceof Uint8Array);
});
