import { roundModel } from "../../src/online/downloads.js";
import { enrolRequest, ENROL_TAG, readEnrolled } from "../../src/online/invitation.js";
import { UnreachableError } from "../../src/errors.js";
import { replyOf, valuesOf, type Notice } from "../../src/online/flower_messages.js";
import { Fleet, type Asked, type Upload } from "../../src/online/flower_wire.js";
import { RejectedError, type Https } from "../../src/online/https.js";
import { bodyOf } from "../../src/online/replies.js";
import { fromHex, hex, textOf, utf8 } from "../../src/records/bytes.js";
import { digest } from "../../src/records/canonical.js";
import { derSignature, makeNodeKey, signP384 } from "../../src/records/crypto.js";
import { readProto, uint, zigzag, asSigned } from "../../src/records/protobuf.js";
import { SigningKey, verify } from "../../src/records/signing.js";
import { equal, ok, refused, test, vectors } from "../harness.js";

test("enrolment.json: a request, and its answer", async () => {
  const found = await vectors("enrolment.json");
  const key = await SigningKey.fromSecret(fromHex(found.private_key_hex));
  const request = JSON.parse(found.request);
  equal(textOf(await enrolRequest(request.token, request.node_key, key)), found.request);
  await verify(key.publicKey, ENROL_TAG, utf8(found.signed), request.proof);
  equal(readEnrolled(utf8(found.answer)), { device: 7, population: "readers", node: 2n ** 63n + 5n });
});

test("fleet.json: a reply to the byte", async () => {
  const { message: given, replies } = await vectors("fleet.json");
  const asked = {
    ...given,
    record: null,
    run: BigInt(given.run),
    source: BigInt(given.source),
    created: Number(given.created),
    ttl: Number(given.ttl),
    tasks: given.tasks.map((task: number | null) => (task === null ? null : BigInt(task))),
  };
  for (const { name, value, objects, tree_hex, message_hex } of replies) {
    const answer = name ? ([name, typeof value === "string" ? fromHex(value) : value] as const) : null;
    const reply = replyOf(asked, BigInt(given.node), answer, Number(given.elapsed));
    equal(new Map([...reply.objects].map(([key, part]) => [key, hex(part)])), new Map(Object.entries(objects)));
    equal([hex(reply.tree), hex(reply.slim)], [tree_hex, message_hex]);
    for (const [key, part] of reply.objects) equal(digest(part), key);
    const record = [...reply.objects.values()].map(valuesOf).find((each) => each !== null);
    if (name) equal(record?.get(name), typeof value === "string" ? fromHex(value) : BigInt(value));
  }
  for (const number of [0, 1, -1, 2 ** 40, -(2 ** 40)]) equal(asSigned(zigzag(number)), BigInt(number));
  await refused(() => readProto(uint(1, 300).subarray(0, 2)), /ten bytes/);
});

test("fleet.json: an exchange is one request, to the byte, and as many as Flower's own server needs", async () => {
  const { node, elapsed, declares, steps } = (await vectors("fleet.json")).exchange;
  let calls: { path: string; request_hex?: string; request_sha256?: string; reply_hex: string | null }[] = [];
  const asked: string[] = [];
  const https = {
    request: async (_: string, path: string, { body, headers }: { body: Uint8Array; headers: Record<string, string> }) => {
      const call = calls.shift();
      ok(call, "a request that Python doesn't send");
      equal([path, call.request_hex ? hex(body) : digest(body)], [call.path, call.request_hex ?? call.request_sha256]);
      asked.push(headers["flwr-signature"]);
      if (call.reply_hex === null) throw new UnreachableError("the connection was lost");
      return { status: 200, body: fromHex(call.reply_hex) };
    },
  };
  const declared = { stays: Number(declares.stays), takes: Number(declares.takes) };
  const fleet = new Fleet(https as unknown as Https, await makeNodeKey(), 2 ** 28, undefined, () => declared);
  fleet.node = BigInt(node);
  let notice: Notice | null = null;
  let taken: Asked | null = null;
  const blank = fleet.reply({ kind: "", record: null, run: 0n, message: "", source: 0n, group: "", created: 0, ttl: 0, tasks: [null, null], pulled: 0, content: "" }, null);
  for (const step of steps) {
    calls = [...step.calls];
    let gives: unknown;
    if (step.do === "pull") {
      notice = await fleet.pull(Number(step.wait));
      gives = { message: notice !== null, holds: fleet.holds };
    } else if (step.do === "take") {
      taken = await fleet.take(notice as Notice);
      const record = Object.fromEntries([...(taken.record ?? [])].map(([name, value]) => [name, hex(value as Uint8Array)]));
      gives = { kind: taken.kind, record, content: taken.content };
    } else {
      const reply = replyOf(taken as Asked, BigInt(node), ["answer", new Uint8Array(Number(step.zeros))], Number(elapsed));
      const upload: Upload = { ...blank, tried: new Set(), reply, wait: () => Number(step.wait) };
      while (!(await fleet.deliver(upload).then(() => true, (error: unknown) => (error instanceof UnreachableError ? false : Promise.reject(error)))));
      notice = upload.next;
      gives = { message: notice !== null, holds: fleet.holds, exchanges: fleet.exchanges };
    }
    equal(gives, step.gives, step.do);
    equal(calls.length, 0, `${step.do}: requests that Python sends, too`);
  }
  equal(new Set(asked).size, 1, "a signed time is used for a minute");
});

test("a node's key and its signatures are OpenSSL's", async () => {
  const key = await makeNodeKey();
  ok(/^-----BEGIN PUBLIC KEY-----\n(.{64}\n)+.{1,64}\n-----END PUBLIC KEY-----\n$/.test(key.publicPem));
  for (let trial = 0; trial < 20; trial += 1) {
    const signature = await signP384(key.secret, utf8("now"));
    ok(signature[0] === 0x30 && signature[1] === signature.length - 2 && signature[2] === 2);
  }
  equal(hex(derSignature(fromHex("007f7f" + "800101"))), "300a" + "02027f7f" + "020400800101".slice(0, 12));
});

test("an answer whose user has revoked while the server held its reply isn't sent on", async () => {
  const { node, elapsed, steps } = (await vectors("fleet.json")).exchange;
  const large = steps.find(({ do: what, calls }: { do: string; calls: { path: string }[] }) => what === "answer" && calls.some(({ path }) => path.endsWith("push-object")));
  ok(large, "an answer that is too large for its request");
  const asked: string[] = [];
  let over = false;
  const https = {
    request: async (_: string, path: string) => {
      asked.push(path);
      over = true; // meanwhile
      return { status: 200, body: fromHex(large.calls[0].reply_hex) };
    },
  };
  const fleet = new Fleet(https as unknown as Https, await makeNodeKey(), 2 ** 28);
  fleet.node = BigInt(node);
  const blank = { kind: "train", record: null, run: 1n, message: "m", source: 1n, group: "", created: 0, ttl: 9, tasks: [null, null], pulled: 0, content: "" };
  const reply = replyOf(blank, BigInt(node), ["answer", new Uint8Array(Number(large.zeros))], Number(elapsed));
  const upload: Upload = { ...fleet.reply(blank, null), reply, over: async () => over };
  await refused(() => fleet.deliver(upload), /wanted still/);
  equal([asked, upload.missing?.length], [["/v1/fleet/push-messages"], 1], "its largest part is asked for, and stays here");
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

test("a status says what it means for the device", () => {
  const said = (status: number) => new RejectedError("it", status).message;
  equal(said(412), "the server must accept it, got status 412: it doesn't know this device any more, or counts it as online already");
  equal(said(403), "the server must accept it, got status 403");
});
