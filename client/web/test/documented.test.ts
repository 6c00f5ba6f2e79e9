import { Consent, Device } from "../src/index.js";
import { environment, ok, test } from "./harness.js";

test("documented: docs/web.md names each of its methods, and no other", async () => {
  const page = await environment().readRepository("docs/web.md");
  const cells = page.split("\n").filter((line) => line.startsWith("| [")).map((line) => line.split(" | ")[1]);
  const named = new Set(cells.flatMap((cell) => [...cell.matchAll(/`(?:consent)?\.?([a-zA-Z]+)(?=[(`])/g)].map(([, name]) => name)));
  const own = ["constructor", "tracked", "listed"]; // of the classes themselves
  const methods = [Device, Consent].flatMap((kind) => Object.getOwnPropertyNames(kind.prototype)).filter((name) => !own.includes(name));
  for (const name of methods) ok(named.has(name), `${name} is not in the table`);
  const others = ["problem", "limits", "preset", "openLog", "forFew", "notificationSender", "because", "elsewhere", "linked", "items", "domain", "als", "popularity", "text"];
  for (const name of named) ok(/^[A-Z]/.test(name) || methods.includes(name) || others.includes(name), `${name} is in the table, and isn't there`);
});
