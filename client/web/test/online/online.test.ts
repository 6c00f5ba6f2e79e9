import { enrolRequest, ENROL_TAG, readEnrolled } from "../../src/online/enrolment.js";
import { replyOf, valuesOf } from "../../src/online/flower_messages.js";
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

test("a node's key and its signatures are OpenSSL's", async () => {
  const key = await makeNodeKey();
  ok(/^-----BEGIN PUBLIC KEY-----\n(.{64}\n)+.{1,64}\n-----END PUBLIC KEY-----\n$/.test(key.publicPem));
  for (let trial = 0; trial < 20; trial += 1) {
    const signature = await signP384(key.secret, utf8("now"));
    ok(signature[0] === 0x30 && signature[1] === signature.length - 2 && signature[2] === 2);
  }
  equal(hex(derSignature(fromHex("007f7f" + "800101"))), "300a" + "02027f7f" + "020400800101".slice(0, 12));
});
