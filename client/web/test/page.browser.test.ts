import { open, type Device } from "../src/index.js";
import { showPage, type Action } from "../src/page/page.js";
import { equal, ok, refused, test } from "./harness.js";
import { reader } from "./sample.js";

const HOSTILE = '"><script>document.title = "broken"</script><img src=http://x.example/ onerror=alert(1)>';

/** The page of a device in a frame, what its buttons have done, and a wait for something in it. */
async function shown(device: Device, options: object = {}): Promise<{ inside: () => Document; press: (at: string) => void; until: (found: (inside: Document) => unknown) => Promise<void>; did: Action[]; gone: () => void }> {
  const frame = document.body.appendChild(document.createElement("iframe"));
  const did: Action[] = [];
  await showPage(frame, device, { language: "en", ...options, done: (what) => void did.push(what) });
  const inside = () => frame.contentDocument as Document;
  const press = (at: string) => (inside().querySelector(at) as HTMLElement).click();
  const until = async (found: (inside: Document) => unknown) => {
    for (let time = 0; !found(inside()); time += 1) {
      ok(time < 500, `the page must get there, got ${inside().body.textContent?.slice(0, 300)}`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  };
  return { inside, press, until, did, gone: () => frame.remove() };
}

test("page: its buttons turn off, save, leave and erase, under a policy that allows no inline style", async () => {
  const device = await reader({ app: "shown" });
  for (const purpose of ["train", "messaging"] as const) await device.consent.grant(purpose);
  for (const book of ["book-7", "book-15"]) await device.track("like", book);
  const { inside, press, until, did, gone } = await shown(device, { titles: { "book-7": HOSTILE } });
  equal([inside().title, inside().compatMode, inside().querySelectorAll("script, img").length], ["What shown knows about you", "CSS1Compat", 0]);
  equal(inside().querySelectorAll("#did bdi").length > 0 && inside().body.textContent?.includes(HOSTILE), true, "a title is text");
  equal(getComputedStyle(inside().querySelector("section") as Element).borderTopLeftRadius, "12px", "it has its style");
  equal(inside().querySelectorAll("form").length, 5, "three that are agreed to, an export, an erasure; no server to leave");

  press("input[value=train] ~ button");
  await until((page) => page.querySelector("[role=status]")?.textContent === "Turned off.");
  equal([await device.consent.get("train"), inside().querySelector("input[value=train]"), inside().activeElement?.textContent], [false, null, "Turned off."]);
  equal((await device.consent.history("train")).at(-1)?.version, "page");

  const saved: Blob[] = [];
  const own = URL.createObjectURL;
  URL.createObjectURL = (blob: Blob) => (saved.push(blob), own(blob));
  press("input[value=export] ~ button");
  await until(() => did.includes("export"));
  URL.createObjectURL = own;
  equal((await saved[0].text()).split("\n").filter((line) => line.includes('"like"')).length, 2);

  press("nav a[href='#leave']");
  equal([inside().URL, location.hash], ["about:srcdoc", ""], "a link leads within the page");
  press("#leave details button"); // not yet: the box must be ticked
  ok((inside().querySelector("#leave input[type=checkbox]") as HTMLInputElement).validity.valueMissing);
  ok(await device.consent.get("store"));
  press("#leave input[type=checkbox]");
  press("#leave details button");
  await until((page) => page.title === "Everything on this device is erased");
  equal(did, ["revoke", "export", "erase"]);
  equal(inside().querySelectorAll("form").length, 0);
  ok((await indexedDB.databases()).every(({ name }) => name !== "palate/shown"));
  equal(document.title, "ready", "nothing of a title has run");
  gone();
});

test("page: a button that fails says why, and a page whose device is gone is over", async () => {
  const device = await reader({ app: "over" });
  await device.consent.grant("train");
  const { inside, press, until, did, gone } = await shown(device, { language: "de" });
  const elsewhere = await open({ app: "over", worker: false });
  const real = device.consent.revoke.bind(device.consent);
  device.consent.revoke = () => Promise.reject(new Error("the disk is <i>full</i>"));
  press("input[value=train] ~ button");
  await until((page) => page.querySelector(".said.bad"));
  equal([inside().querySelector("[role=status]")?.textContent, inside().querySelector("[role=status] [lang=en]")?.textContent], ["Es hat nicht geklappt: the disk is <i>full</i>", "the disk is <i>full</i>"]);
  device.consent.revoke = real;
  equal([await device.consent.get("train"), did], [true, []]);
  await elsewhere.erase();
  press("input[value=train] ~ button");
  await until((page) => page.querySelectorAll("form").length === 0);
  equal([inside().title, did], ["Diese Seite ist vorbei", []]);
  gone();
  const sealed = document.body.appendChild(Object.assign(document.createElement("iframe"), { sandbox: "" }));
  await refused(() => showPage(sealed, device), /`frame` must be in the page/);
  sealed.remove();
});
