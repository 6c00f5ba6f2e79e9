import { PURPOSES, type Purpose } from "../../src/consent.js";
import { reported } from "../../src/hosting/report.js";
import { statementOf } from "../../src/leaving/statement.js";
import type { DeviceLedger, Receipt } from "../../src/ledger/device_ledger.js";
import { leaveRequest, LEAVE_TAG, readLeft } from "../../src/online/enrolment.js";
import { fromHex, textOf, utf8 } from "../../src/records/bytes.js";
import { Float, readCanonical, type Json } from "../../src/records/canonical.js";
import { SigningKey, verify } from "../../src/records/signing.js";
import { spendingOf } from "../../src/rounds/report.js";
import { Service } from "../../src/service.js";
import { equal, ok, refused, test, vectors } from "../harness.js";

const number = (value: unknown): number => Number(value instanceof Float ? value.value : value);

/** The same but for the last digits of numbers that were reckoned. */
function near(one: Json, other: Json, place = "statement"): void {
  if (one instanceof Float && other instanceof Float) return ok(Math.abs(one.value - other.value) <= 1e-8 * Math.abs(other.value), `${place}: ${one.value} for ${other.value}`);
  const parts = (value: Json): [string, Json][] | null => (value && typeof value === "object" && !(value instanceof Float) ? Object.entries(value) : null);
  const [mine, theirs] = [parts(one), parts(other)];
  if (!mine || !theirs) return equal(one, other, place);
  equal(mine.map(([name]) => name), theirs.map(([name]) => name), place);
  for (const [at, [name, value]] of mine.entries()) near(value, theirs[at][1], `${place}.${name}`);
}

test("statement.json: what remains, in Python's words and in its file", async () => {
  const { app, service: terms, cases } = await vectors("statement.json");
  const service = new Service({ publicKey: terms.public_key, population: terms.population, epsilon: number(terms.epsilon) });
  for (const { name, given, file, text } of cases) {
    const receipts = given.receipts.map((each: any): Receipt => ({
      run: each.run, round: each.round, attempt: each.attempt, planHash: each.plan_hash, mu2: number(each.mu2), bytes: each.n_bytes, time: number(each.time),
      trust: { corrupt: each.trust.corrupt, cohort: each.trust.cohort, aloneMu2: number(each.trust.alone_mu2) }, purpose: each.purpose,
    }));
    const ledger = { receipts: async () => receipts, seen: async () => ({ checkpoint: given.seen, evidence: null }) } as unknown as DeviceLedger;
    const decisions = given.decisions.map(([purpose, granted, time]: [Purpose, boolean, unknown]) => ({ purpose, granted, time: number(time), version: "1", remains: "" }));
    const report = reported({
      app, time: number(given.time), problem: given.problem, spending: given.problem ? null : await spendingOf(ledger, service),
      sent: given.sent.map((each: any) => ({ ...each, time: number(each.time) })), refusals: [], models: [], contacts: [],
      consents: Object.fromEntries(PURPOSES.map((purpose) => [purpose, decisions.filter((each: any) => each.purpose === purpose).at(-1)?.granted ?? false])) as Record<Purpose, boolean>,
      decisions, opened: Array.from({ length: given.opened }, () => ({ time: 0, items: 12, version: "2026-01" })),
      storage: { kind: "browser", persisted: null, usage: null, quota: null },
    });
    const evidence = given.evidence === null ? null : utf8(given.evidence);
    const made = statementOf({ report, service, evidence, manifest: null, server: given.server, final: given.final });
    equal(made.text.split("\n"), text.split("\n"), name);
    near(readCanonical(utf8(made.file), 2 ** 23), readCanonical(utf8(file), 2 ** 23), name);
  }
});

test("enrolment.json: who leaves asks by the same bytes, and what else is answered is no answer", async () => {
  const { private_key_hex: secret, leave } = await vectors("enrolment.json");
  const key = await SigningKey.fromSecret(fromHex(secret));
  equal(textOf(await leaveRequest("readers", 7, key)), leave.request);
  equal(LEAVE_TAG, leave.tag);
  await verify(key.publicKey, LEAVE_TAG, utf8(leave.signed), JSON.parse(leave.request).proof);
  equal(readLeft(utf8(leave.answer)), { population: "readers", device: 7 });
  await refused(() => readLeft(utf8('{"device":7,"palate":"leave","population":"readers"}')), /has deleted this device/);
  await refused(() => readLeft(utf8("{}")), /has deleted this device/);
});
