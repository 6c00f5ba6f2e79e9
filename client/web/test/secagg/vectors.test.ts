import { KeyPair, checkPublic, seal, unseal } from "../../src/secagg/agreement.js";
import { checkSigned, leafOf, makeBox, openBox, pieceOf, treeOf, type Label } from "../../src/secagg/boxes.js";
import { ringOrder } from "../../src/secagg/cohort.js";
import { Directory } from "../../src/secagg/directory.js";
import { graphTerms } from "../../src/secagg/graph_terms.js";
import { applyMask } from "../../src/secagg/masking.js";
import { decodeOpen, packFlags, readRequest, stepOf, unpackFlags, writeAnswer } from "../../src/secagg/messages.js";
import { attemptTerms } from "../../src/secagg/masked_attempt.js";
import { pack, residuesOf } from "../../src/secagg/packing.js";
import { combine, split } from "../../src/secagg/shamir.js";
import * as transcript from "../../src/secagg/transcript.js";
import { concat, fromHex, hex, u32 } from "../../src/records/bytes.js";
import { SigningKey, verify } from "../../src/records/signing.js";
import { RoundPlan } from "../../src/rounds/plan.js";
import { environment, equal, ok, refused, test, vectors } from "../harness.js";
import { residues, wholes } from "./residues.js";

const found = () => vectors("secagg.json");

test("secagg.json: agreement", async () => {
  const { private_keys, public_keys, info_hex, agreed, sealing_key, aad_hex, plaintext_hex, sealed_hex, low_order, not_reduced } = (await found()).agreement;
  const pairs = await Promise.all(private_keys.map((key: string) => KeyPair.fromPrivate(fromHex(key))));
  equal(pairs.map((pair) => hex(pair.publicKey)), public_keys);
  equal(hex(await pairs[0].agree(pairs[1].publicKey, fromHex(info_hex))), agreed);
  equal(hex(await seal(fromHex(sealing_key), fromHex(plaintext_hex), fromHex(aad_hex))), sealed_hex);
  equal(hex(await unseal(fromHex(sealing_key), fromHex(sealed_hex), fromHex(aad_hex))), plaintext_hex);
  for (const key of low_order) await refused(() => checkPublic(fromHex(key)), /low order/);
  for (const key of not_reduced) await refused(() => checkPublic(fromHex(key)), /reduced/);
});

test("secagg.json: masks and packing", async () => {
  for (const { key, bits, values: before, added } of (await found()).masks) {
    const total = residues(before, bits);
    await applyMask(total, fromHex(key), true);
    equal(wholes(total), added.map(BigInt));
    await applyMask(total, fromHex(key), false);
    equal(wholes(total), before.map((each: number) => BigInt(each) & (2n ** BigInt(bits) - 1n)));
  }
  for (const { bits, values: all, packed_hex } of (await found()).packing) equal(hex(pack(residues(all, bits))), packed_hex, `${bits} bits`);
  for (const bits of [20, 32, 40, 62]) {
    const most = Math.min(2 ** (bits - 1), 2 ** 52);
    equal(wholes(residuesOf(Float64Array.of(-1, 1 - most, 5), bits)), [-1n, BigInt(1 - most), 5n].map((each) => BigInt.asUintN(bits, each)));
  }
});

test("secagg.json: Shamir's shares", async () => {
  for (const { total, indices, shares, secret } of (await found()).shamir) equal(hex(combine(indices, shares.map((each: string) => fromHex(each)), total)), secret);
  const secret = fromHex("00".repeat(30) + "ff".repeat(34));
  for (const [total, threshold] of [[5, 3], [99, 55], [255, 128], [256, 100]]) {
    const shares = split(secret, total, threshold);
    const some = Array.from({ length: threshold }, (_, at) => total - at);
    equal(combine(some, some.map((index) => shares[index - 1]), total), secret);
    ok(hex(combine(some.slice(1), some.slice(1).map((index) => shares[index - 1]), total)) !== hex(secret), "one share too few says nothing");
  }
});

test("secagg.json: rings, terms and directories", async () => {
  const { rings, terms, directory, subcohorts } = await found();
  for (const { seed, n, order } of rings) equal([...(await ringOrder(fromHex(seed), n))], order);
  for (const { n, corrupt, dropped, window_corrupt: windowCorrupt, ...rest } of terms) equal(graphTerms(n, corrupt, dropped), { ...rest, windowCorrupt });
  const read = Directory.read(fromHex(directory.bytes_hex));
  equal([Object.fromEntries(read.identities), read.hash], [directory.identities, directory.hash]);
  for (const { bytes_hex } of directory.refused) await refused(() => Directory.read(fromHex(bytes_hex)));
  const one = Directory.read(fromHex(subcohorts.bytes_hex), Number(subcohorts.number));
  equal([Object.fromEntries(one.identities), one.hash], [subcohorts.identities, subcohorts.hash]);
  equal(Directory.read(fromHex(subcohorts.other_bytes_hex), Number(subcohorts.number)).hash, subcohorts.hash);
  for (const { bytes_hex } of subcohorts.refused) await refused(() => Directory.read(fromHex(bytes_hex), Number(subcohorts.number)), /must/);
});

test("the table of terms in the document", async () => {
  const page = await environment().readRepository("docs/wire-masks.md");
  const rows = [...page.matchAll(/^\| ([\d,]+) \| (\d+) % \| (.+) \|$/gm)];
  equal(rows.length, 20);
  for (const [, size, corrupt, cells] of rows) {
    const n = Number(size.replace(",", ""));
    for (const [at, cell] of cells.split(" | ").entries()) {
      const of = (share: number): number => Math.floor((n * share + 99) / 100);
      const made = () => graphTerms(n, of(Number(corrupt)), of([5, 10, 20, 33][at]));
      if (cell === "-") await refused(made);
      else equal([made().neighbours, made().threshold, ...(made().sample ? [made().sample, made().quorum] : [])].join(", "), cell);
    }
  }
});

test("secagg.json: what is signed, hashed and derived from", async () => {
  const given = (await found()).transcript;
  const plan = new RoundPlan(given.plan);
  const terms = attemptTerms(plan, given.checkpoint);
  equal([hex(terms.context), terms.bits, terms.size, plan.shareSigma], [given.context_of_plan, given.bits, given.size, given.share_sigma]);
  const context = fromHex(given.context);
  const [nonces, toss, device] = [given.nonces.map((each: string) => fromHex(each)), given.toss, given.devices[0]];
  equal(nonces.map(transcript.commitmentTo).map(hex), given.commitments);
  const entries = concat(...given.devices.flatMap((id: number, at: number) => [u32(id), fromHex(given.commitments[at])]));
  const root = transcript.cohortRoot(context, toss, entries);
  const seed = transcript.ringSeed(context, root, nonces);
  equal([root, seed, transcript.cohortBinding(context, toss, root, seed)].map(hex), [given.root, given.seed, given.binding]);
  equal(hex(transcript.commitPayload(context, toss, device, fromHex(given.commitments[0]))), given.commit_payload);
  const body = fromHex(given.advert_body);
  equal(hex(transcript.advertPayload(context, toss, root, device, body)), given.advert_payload);
  equal(hex(transcript.advertPayload(context, toss, new Uint8Array(), device, body.slice(32))), given.advert_payload_without_a_ring);
  const ends = given.devices.map((id: number, at: number) => [id, new Uint8Array(32).fill(at + 1)]);
  for (const [one, other] of [ends, ends.slice().reverse()]) equal(hex(transcript.maskInfo(context, toss, one, other)), given.mask_info);
  equal([packFlags([true, true]), packFlags([true, false])].map(hex), ["03", "01"]);
  ok(given.members_payload === given.binding + "03" && given.consistency_payload === given.binding + "0301");
});

/** The label of a box of the vectors' five devices. */
async function label(sender: number, receiver: number, from: any): Promise<Label> {
  const binding = transcript.cohortBinding(fromHex(from.context), from.toss, fromHex(from.root), fromHex(from.seed));
  const { publicKey } = await KeyPair.fromPrivate(new Uint8Array(32).fill(200 + receiver));
  return { binding, ends: [sender, receiver], slot: receiver - (receiver > sender ? 1 : 0), degree: 4, threshold: 3, key: publicKey };
}

const device = (number: number): Promise<SigningKey> => SigningKey.fromSecret(new Uint8Array(32).fill(number + 1));

test("secagg.json: a box, a receipt, an opening and a reveal", async () => {
  const { box: given, receipt, open, reveal } = await found();
  const madeWith = await KeyPair.fromPrivate(fromHex(given.made_with));
  const receiver = await KeyPair.fromPrivate(fromHex(given.receiver_private));
  const own = await label(1, 3, given);
  equal(hex(own.key), given.receiver_key);
  equal(hex(transcript.boxInfo(fromHex(given.context), given.toss, own.ends, madeWith.publicKey, own.key)), given.info_hex);
  const [box] = await makeBox(own, fromHex(given.shares), await device(1), madeWith);
  equal(hex(box), given.box);
  await checkSigned(own, box, given.public_key);
  for (const pair of [madeWith, receiver]) equal(hex(concat(...((await openBox(own, box, pair))?.shares ?? []))), given.shares);
  equal(await openBox(own, box, await KeyPair.generate()), null);
  equal(await openBox({ ...own, slot: 1 }, box, receiver) === null, false);
  equal(await openBox({ ...own, ends: [2, 3] }, box, receiver), null);

  const leaves = [];
  for (const sender of [0, 1, 2]) leaves.push(leafOf(await label(sender, 3, given), (await makeBox(await label(sender, 3, given), fromHex(given.shares), await device(sender), madeWith))[0]));
  equal([...leaves, new Uint8Array()].map(hex), receipt.leaves_hex);
  const root = treeOf(receipt.leaves_hex.map((each: string) => fromHex(each))).root();
  const signed = concat(own.binding, root, packFlags([false, true, false, false]));
  const signature = await (await device(3)).sign(receipt.tag, signed);
  const record = writeAnswer("check", receipt.toss, 3, fromHex(receipt.context), concat(root, Uint8Array.of(2), signature));
  equal(hex(record), receipt.record);

  equal(stepOf(fromHex(open.request)), "open");
  const [, body] = readRequest(fromHex(open.request), "open", 1, fromHex(open.context));
  const [complaint] = decodeOpen(body, 4, 2);
  equal([complaint.device, complaint.receipt.accused, complaint.path.length], [3, [false, true, false, false], 2]);
  const opening = concat(madeWith.privateBytes(), await (await device(1)).sign(open.tag, concat(own.binding, u32(3), madeWith.privateBytes())));
  equal(hex(writeAnswer("open", open.toss, 1, fromHex(open.context), opening)), open.answer);

  const pieces = [new Uint8Array(), new Uint8Array(), new Uint8Array(), new Uint8Array()];
  for (const [slot, secret] of [[0, 0], [2, 1]] as const) {
    const to = await label(slot, 3, given);
    const dealt = await openBox(to, (await makeBox(to, fromHex(given.shares), await device(slot), madeWith))[0], receiver);
    ok(dealt);
    pieces[slot] = pieceOf(dealt, secret);
  }
  const given3 = await (await device(3)).sign(reveal.tag, concat(own.binding, treeOf(pieces).root()));
  equal(hex(writeAnswer("unmask", reveal.toss, 3, fromHex(reveal.context), concat(...pieces, given3))), reveal.record);
  await verify(reveal.public_key, reveal.tag, concat(own.binding, treeOf(pieces).root()), given3);
  await refused(() => unpackFlags(Uint8Array.of(0b100), 2), /behind the last/);
});
