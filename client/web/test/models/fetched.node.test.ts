import type { RequestListener } from "node:http";
import { open } from "../../src/index.js";
import { digest } from "../../src/records/canonical.js";
import { equal, ok, refused, test } from "../harness.js";
import { unanswered } from "../../src/online/replies.js";
import { served } from "../online/served.js";
import { place, sampleFiles, SERVICE } from "../sample.js";

/** A gateway with the sample model, as nginx serves it: under its manifest's hash, and nothing at any other place. */
async function gateway(path: string, asked: string[], there = true): Promise<RequestListener> {
  const files = await sampleFiles();
  const manifest = digest(files["manifest.json"]);
  return ({ url = "" }, response) => {
    asked.push(url);
    const name = url.startsWith(`${path}/models/${manifest}/`) ? (url.split("/").at(-1) as string) : "";
    if (there && url === `${path}/models/latest`) response.writeHead(200).end(JSON.stringify({ manifest, version: 2 }));
    else if (there && Object.hasOwn(files, name)) response.writeHead(200).end(files[name]);
    else response.writeHead(404).end();
  };
}

test("models: who doesn't enrol gets the newest one of the server that `service.models` names", async () => {
  for (const path of ["", "/p/shop"]) {
    const asked: string[] = [];
    await served(await gateway(path, asked), async (origin) => {
      const device = await open(await place({ service: { ...SERVICE, models: origin + path } }));
      await device.consent.grant("store");
      const { ended, reason, model } = await device.sync({ modelsOnly: true });
      equal([ended, reason, model, (await device.model())?.version], ["model", "", true, 2]);
      equal(asked[0], `${path}/models/latest`);
      equal([await device.updateModel(`${origin}${path}/`), asked.filter((each) => each.endsWith("/latest")).length], [false, 2]);
      await device.erase();
    });
  }
  await served(await gateway("", [], false), async (origin) => {
    const device = await open(await place({ service: { ...SERVICE, models: origin } }));
    const { ended, reason } = await device.sync({ modelsOnly: true });
    equal([ended, /must have a model, got none yet/.test(reason)], ["unreachable", true]);
    await device.close();
  });
});

test("models: an address that sends byte for byte holds neither a device that is closed, nor anybody for longer than ten minutes", async () => {
  const [limit, limits] = [AbortSignal.timeout, [] as number[]];
  const dripping: RequestListener = (_, response) => {
    response.writeHead(200);
    const drip = setInterval(() => response.write("x"), 5);
    response.on("close", () => clearInterval(drip));
  };
  await served(dripping, async (origin) => {
    const device = await open(await place());
    let began = () => undefined as void;
    const waiting = new Promise<void>((resolve) => (began = resolve));
    AbortSignal.timeout = (milliseconds) => {
      began();
      limits.push(milliseconds);
      return limit.call(AbortSignal, limits.length === 1 ? milliseconds : 30);
    };
    try {
      const first = refused(() => device.updateModel(`${origin}/models`), /must answer, got/);
      await waiting;
      const other = refused(() => device.updateModel(`${origin}/models`), /must answer, got TimeoutError/);
      await other;
      await device.close();
      await first;
      equal(limits, [600_000, 600_000]);
    } finally {
      AbortSignal.timeout = limit;
    }
  });
});

test("a browser's refusal to fetch names what may be its cause", () => {
  equal(unanswered("https://shop.example", new TypeError("Failed to fetch")).message, "https://shop.example must answer, got TypeError: Failed to fetch");
  Object.assign(globalThis, { location: { origin: "https://page.example" } });
  try {
    const { message } = unanswered("https://shop.example", new TypeError("Failed to fetch"));
    ok(/got TypeError: Failed to fetch: .*certificate.*`gateway.origins` lacks https:\/\/page.example/.test(message), message);
    equal(unanswered("https://shop.example", new Error("too late")).message, "https://shop.example must answer, got Error: too late");
  } finally {
    Reflect.deleteProperty(globalThis, "location");
  }
});
