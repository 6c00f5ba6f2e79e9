import { roundModel } from "../../src/online/downloads.js";
import { enrolRequest, ENROL_TAG, readEnrolled } from "../../src/online/invitation.js";
import { commonVersion, Exchanges, PATH, readMessage, signedHeaders } from "../../src/online/exchange.js";
import type { Https } from "../../src/online/https.js";
import { bodyOf } from "../../src/online/replies.js";
import { fromHex, hex, textOf, utf8 } from "../../src/records/bytes.js";
import { digest } from "../../src/records/canonical.js";
import { SigningKey, verify } from "../../src/records/signing.js";
import { equal, refused, test, vectors } from "../harness.js";
import { wrong } from "./stand_in.js";

test("enrolment.json: a request, and its answer", async () => {
  const found = await vectors("enrolment.json");
  const key = await SigningKey.fromSecret(fromHex(found.private_key_hex));
  const request = JSON.parse(found.request);
  equal(textOf(await enrolRequest(request.token, key)), found.request);
  await verify(key.publicKey, ENROL_TAG, utf8(found.signed), request.proof);
  equal(readEnrolled(utf8(found.answer)), { device: 7, population: "readers" });
});

test("exchange.json: what a device says, and its signature", async () => {
  const { private_key_hex, identity, requests, refused: others } = await vectors("exchange.json");
  const key = await SigningKey.fromSecret(fromHex(private_key_hex));
  equal(key.publicKey, identity);
  for (const { name, headers, population, path, body_hex, device, answers, wait, stays, takes, time } of requests) {
    const available = { stays: Number(stays), takes: Number(takes) };
    const asked = { device: Number(device), answers, body: fromHex(body_hex), wait: Number(wait), available, time: Number(time) };
    equal(await signedHeaders(asked, population, path, key), headers, name);
    equal(await wrong(headers, identity, population, path), "", name);
  }
  for (const { name, why, headers } of others) equal(await wrong(headers, identity), why, name);
});

test("exchange.json: what a device reads, and the version that it takes", async () => {
  const { messages, refused_messages, versions } = await vectors("exchange.json");
  for (const { headers, body_hex, kind, exchange, seconds, plan_hex, directory_hex, request_hex } of messages) {
    const found = readMessage(new Headers(headers), fromHex(body_hex));
    equal([found.kind, found.exchange, found.seconds, hex(found.plan), hex(found.directory), hex(found.request)], [kind, exchange, Number(seconds), plan_hex, directory_hex, request_hex]);
  }
  for (const { headers, body_hex } of refused_messages) await refused(() => readMessage(new Headers(headers), fromHex(body_hex)), /must/);
  for (const { spoken, taken } of versions) equal(commonVersion(spoken), taken === null ? null : Number(taken), spoken);
});

test("exchange.json: a conversation, to the byte", async () => {
  const { private_key_hex, conversation } = await vectors("exchange.json");
  const left = [...conversation];
  const https = {
    origin: "https://readers.example",
    request: async (_: string, path: string, { body, headers }: { body: Uint8Array; headers: Record<string, string> }) => {
      const step = left.shift();
      equal([path, { ...headers, "content-length": String(body.length) }, hex(body)], [PATH, step.headers, step.body_hex]);
      return { status: Number(step.status), headers: new Headers(step.reply_headers), body: fromHex(step.reply_hex) };
    },
  } as unknown as Https;
  const key = await SigningKey.fromSecret(fromHex(private_key_hex));
  const exchanges = new Exchanges(https, 7, "readers", key, 2 ** 20, async () => ({ stays: 90.5, takes: 3 }), () => 1_790_000_000_000);
  for (const { headers, body_hex, reply_headers } of conversation.slice(0, -1)) {
    const { taken, message } = await exchanges.ask(headers["palate-answers"].replace("-", ""), fromHex(body_hex), 20);
    equal([taken ?? undefined, message?.kind, message?.exchange], ["palate-taken", "palate-kind", "palate-exchange"].map((name) => reply_headers[name]));
  }
  await exchanges.leave();
  equal([left.length, exchanges.answered], [0, 1]);
});

test("a round's model is asked for by its hash, within a bound, and is that one or none", async () => {
  const [right, asked] = [utf8("a model"), [] as unknown[]];
  const gives = (status: number, body: Uint8Array) =>
    ({ request: async (_: string, path: string, { most }: { most: number }) => (asked.push([path, most]), { status, body }) }) as unknown as Https;
  const name = digest(right);
  equal(hex(await roundModel(gives(200, right), name, 100, async () => false)), hex(right));
  await refused(() => roundModel(gives(200, utf8("another")), name, 100, async () => false), /must be the one that the plan names/);
  await refused(() => roundModel(gives(404, new Uint8Array()), name, 100, async () => false), /status 404/);
  equal(asked, Array(3).fill([`/round/${name}`, 100]));
  await refused(() => roundModel(gives(200, right), "../models/latest", 100, async () => false), /by a hash/);
  equal(asked.length, 3, "nothing is asked for");
});

test("https: a body in 200,000 pieces is read", async () => {
  let left = 200_000;
  const stream = new ReadableStream<Uint8Array>({ pull: (to) => ((left -= 1) < 0 ? to.close() : to.enqueue(Uint8Array.of(7))) });
  equal((await bodyOf(new Response(stream), 2 ** 20)).length, 200_000);
});
