/** A visit with marked events, of which nothing may leave the page. See `leaves.mjs`. */

import { open } from "../../src/index.js";

async function visit(mark: string, service: Parameters<typeof open>[0]["service"], models: string): Promise<unknown> {
  const device = await open({ app: "leaves", service });
  for (const purpose of ["store", "train", "analytics", "messaging", "panel"] as const) await device.consent.grant(purpose, { version: mark });
  await device.updateModel(models);
  for (const item of ["book-7", "book-15", mark]) await device.track("like", item, { id: `${mark}-${item}`, props: { note: mark } });
  await device.track("rate", "book-23", { value: 4, props: { [mark]: mark } });
  const shown = await device.recommend(10);
  await device.feedback(shown, { [shown[0].item]: "like" });
  await device.explain(shown[0].item);
  const messenger = device.messenger({ feed: () => undefined }, { control: 0 });
  await messenger.allow("feed");
  await messenger.deliver({ id: mark, title: mark, item: mark });
  const ends = [await device.sync({ modelsOnly: true, models }), await device.sync({ seconds: 2 }).catch((error: Error) => error.message)];
  await device.openLog();
  const [loyalty, report, lines] = [await device.loyalty(), await device.privacyReport(), await (await device.export()).text()];
  return { ends, visits: loyalty.visits, sent: report.sent.length, kept: lines.includes(mark), events: lines.split("\n").filter((line) => line.includes('"event"')).length };
}

Object.assign(globalThis, { visit });
document.title = "ready";
