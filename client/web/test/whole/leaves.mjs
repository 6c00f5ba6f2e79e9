// What leaves the page during a visit with marked events: by the DevTools protocol, and by what the server heard. No mark may be in
// it, in clear or in a form that can be decoded.
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { browser, bundled, forget, profile, REPOSITORY, served } from "./browser.mjs";
import { forms } from "./forms.mjs";

const mark = `mark${randomBytes(8).toString("hex")}`;
const left = [];
const note = (...parts) => left.push(...parts.filter(Boolean).map((part) => Buffer.from(part)));

const server = await served(await bundled("leaves_page.ts"), ({ url, headers }, body) => note(url, JSON.stringify(headers), body));
const folder = profile();
const running = await browser(folder);
try {
  const page = await running.context.newPage();
  const session = await running.context.newCDPSession(page);
  const watched = async (send, on) => {
    on("Network.requestWillBeSent", ({ request }) => note(request.url, JSON.stringify(request.headers), request.postData));
    on("Network.webSocketFrameSent", ({ response }) => note(response.payloadData));
    await send("Network.enable", { maxPostDataSize: 2 ** 24 });
  };
  await watched((method, given) => session.send(method, given), (name, act) => session.on(name, act));
  await page.goto(`${server.address}/leaves_page.html`);
  await page.waitForFunction(() => document.title === "ready");
  const publicKey = readFileSync(join(REPOSITORY, "simulations/palate/sample_model/public-key"), "utf8").trim();
  const service = { publicKey, population: "sample: made readers, no rounds", participations: 0 };
  const found = await page.evaluate(([...given]) => globalThis.visit(...given), [mark, service, `${server.address}/repository/simulations/palate/sample_model/`]);
  if (!found.kept || found.events < 4 || found.sent) throw new Error(`the visit must keep the marks, got ${JSON.stringify(found)}`);
  if (!left.some((each) => each.includes("model.int8"))) throw new Error("what the server heard must be in what left");
  // That the search finds what is hidden: in clear, base 64, deflated within hexadecimal.
  for (const hidden of [mark, Buffer.from(`x${mark}`).toString("base64"), Buffer.from(mark, "utf16le")]) if (![...forms(Buffer.from(hidden))].some((form) => form.includes(mark))) throw new Error("the search must find what is hidden");
  const seen = left.filter((each) => [...forms(each)].some((form) => form.includes(mark)));
  if (seen.length) throw new Error(`a mark left the page: ${seen[0].toString("latin1").slice(0, 300)}`);
  console.log(`${left.length} pieces, ${left.reduce((sum, each) => sum + each.length, 0)} bytes left the page; none has a mark`);
} finally {
  await running.kill();
  server.close();
  forget(folder);
}
