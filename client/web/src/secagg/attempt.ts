/**
 * MaskedDevice: one device in one masked attempt, from its first nonce to the shares that open the sum.
 *
 *     commit -> advertise -> share -> check (-> open) -> input -> consistency -> unmask
 *
 * All checks of a request come before any change; a refused request changes nothing, and the vector is computed once, after all
 * checks before the input have passed. Each answer is made once. The same request again gets the same bytes; another request for an
 * answered step is refused, and so is an earlier step, except a new draw of the ring before anything was shared. Requests wait for
 * each other: nothing can be asked while an answer is made.
 */

import { InputError, IntegrityError, RefusedError } from "../errors.js";
import type { NoisedVector } from "../mechanism/shares.js";
import { chained, concat, u32 } from "../records/bytes.js";
import { digest, hashed } from "../records/canonical.js";
import { randomBytes } from "../records/crypto.js";
import type { SigningKey } from "../records/signing.js";
import { KeyPair } from "./agreement.js";
import { checkSigned, depthOf, leafOf, makeBox, MASK_KEY, openBox, pieceOf, SELF_MASK, treeOf, type Dealt, type Label } from "./boxes.js";
import * as checks from "./checks.js";
import { Cohort } from "./cohort.js";
import type { Directory } from "./directory.js";
import { applyMask } from "./masking.js";
import * as messages from "./messages.js";
import type { Advert, Flags, Step } from "./messages.js";
import { pack, residuesOf } from "./packing.js";
import { split } from "./shamir.js";
import {
  ADVERT,
  advertPayload,
  checkTerms,
  cohortRoot,
  COMMIT,
  commitmentTo,
  commitPayload,
  CONSISTENCY,
  INPUT,
  isCommitted,
  maskInfo,
  OPENING,
  RECEIPT,
  REVEAL,
  type AttemptTerms,
} from "./transcript.js";

/** At most a commitment was sent. */
interface Fresh {
  readonly at: "fresh";
  readonly toss: number;
  readonly nonce: UnshownNonce | null;
}

/** A nonce that was drawn for one toss, and that nobody was shown. Once it is shown it is plain bytes. */
interface UnshownNonce {
  readonly value: Uint8Array;
  readonly commitment: Uint8Array;
}

/** The public keys were sent; nothing that depends on behaviour was. */
interface Advertised {
  readonly at: "advertised";
  readonly toss: number;
  readonly nonce: Uint8Array;
  readonly commitment: Uint8Array;
  readonly root: Uint8Array;
  readonly sharePair: KeyPair;
  readonly maskPair: KeyPair;
  readonly selfMask: Uint8Array;
  readonly advert: Advert;
}

/** From the shares to the masked vector. */
interface Dealing {
  readonly toss: number;
  readonly cohort: Cohort;
  readonly me: number;
  readonly neighbours: readonly number[];
  readonly shareKeys: readonly Uint8Array[];
  readonly maskKeys: readonly Uint8Array[];
  readonly maskPair: KeyPair;
  readonly selfMask: Uint8Array;
  /** As they were sent, and the keys that they were made with. */
  readonly boxes: readonly Uint8Array[];
  readonly madeWith: readonly KeyPair[];
}

/** The shares were sent: no other toss can follow. */
interface Shared extends Dealing {
  readonly at: "shared";
  readonly sharePair: KeyPair;
}

/** The neighbours' boxes were opened, and a receipt for them was sent. `answered` is the one request for openings. */
interface Checked extends Dealing {
  readonly at: "checked";
  readonly shares: ReadonlyMap<number, Dealt>;
  readonly answered: Uint8Array;
}

/** The masked vector was sent; the neighbours' shares are left. */
interface MaskedSent {
  readonly at: "masked";
  readonly toss: number;
  readonly cohort: Cohort;
  readonly me: number;
  readonly neighbours: readonly number[];
  readonly u1: Flags;
  readonly shares: ReadonlyMap<number, Dealt>;
}

/** One list of survivors is signed; no other one ever will be. */
interface Agreed {
  readonly at: "agreed";
  readonly toss: number;
  readonly masked: MaskedSent;
  readonly survivors: Flags;
  readonly signed: checks.Latched;
}

/** Shares were sent, or computing the vector failed: all secrets are dropped. */
interface Done {
  readonly at: "done";
  readonly toss: number;
}

type State = Fresh | Advertised | Shared | Checked | MaskedSent | Agreed | Done;

export interface MaskedOptions {
  readonly terms: AttemptTerms;
  /** The device's number, under which the directory has the key of its identity. */
  readonly id: number;
  readonly identity: SigningKey;
  readonly directory: Directory;
  /** The operator's key, which must have signed the plan. */
  readonly serverKey: string;
  /** Computes the checked steps plus this device's share of the noise; it is called once. */
  readonly vector: () => Promise<NoisedVector>;
  /** Stores (step, digest) durably; throws if another digest is stored for the step. */
  readonly latch: (step: string, digest: string) => Promise<void>;
}

export class MaskedDevice {
  readonly #terms: AttemptTerms;
  readonly #options: MaskedOptions;
  readonly #answers = new Map<Step, { readonly request: string; readonly answer: Uint8Array }>();
  #vector: (() => Promise<NoisedVector>) | null;
  #state: State;
  #last: Promise<unknown> = Promise.resolve();

  constructor(options: MaskedOptions) {
    const { terms, id, identity, directory } = options;
    if (directory.hash !== terms.directory || directory.identities.size > terms.nMax) {
      throw new RefusedError("the plan must name the directory that comes with it, got another, or one of too many");
    }
    if (directory.identities.get(id) !== identity.publicKey) throw new InputError(`\`identity\` must be the key of device ${id} in the directory, got another`);
    [this.#options, this.#vector, this.#terms] = [options, options.vector, checkTerms(terms)];
    this.#state = { at: "fresh", toss: isCommitted(terms) ? -1 : 0, nonce: null };
  }

  /** Answers one request of the server. */
  answer(step: Step, request: Uint8Array): Promise<Uint8Array> {
    const next = this.#last.then(() => this.#answer(step, request));
    this.#last = next.catch(() => undefined);
    return next;
  }

  async #answer(step: Step, request: Uint8Array): Promise<Uint8Array> {
    const [asked, before] = [digest(request), this.#answers.get(step)];
    if (before?.request === asked) return before.answer;
    const { context } = this.#terms;
    const [toss, body] = messages.readRequest(request, step, this.#options.id, context);
    const [state, reply] = await this.#take(step, toss, body);
    const answer = messages.writeAnswer(step, toss, this.#options.id, context, reply);
    if (step === "commit") this.#answers.clear();
    this.#state = state;
    this.#answers.set(step, { request: asked, answer });
    return answer;
  }

  /** Takes a step that is due; all but a new toss must be of the present one. */
  async #take(step: Step, toss: number, body: Uint8Array): Promise<[State, Uint8Array]> {
    const take = this.#stepDue(step);
    if (step !== "commit") checks.sameToss(toss, this.#state.toss);
    return take(toss, body);
  }

  /** The step, if it may follow the present state. No other place decides this. */
  #stepDue(step: Step): (toss: number, body: Uint8Array) => Promise<[State, Uint8Array]> {
    const [state, committed] = [this.#state, isCommitted(this.#terms)];
    // Nothing else of an earlier toss may enter a new one.
    if (step === "commit" && (state.at === "fresh" || state.at === "advertised") && committed) return (toss, body) => this.#commit(state.toss, toss, body);
    if (step === "advertise" && state.at === "fresh" && (state.nonce !== null) === committed) return (toss, body) => this.#advertise(state, toss, body);
    if (step === "share" && state.at === "advertised") return (toss, body) => this.#share(state, toss, body);
    if (step === "check" && state.at === "shared") return (toss, body) => this.#check(state, toss, body);
    if (step === "open" && state.at === "checked" && state.madeWith.length) return (_, body) => this.#open(state, body);
    if (step === "input" && state.at === "checked") return (toss, body) => this.#sendMasked(state, toss, body);
    if (step === "consistency" && state.at === "masked") return (toss, body) => this.#agree(state, toss, body);
    if (step === "unmask" && state.at === "agreed") return (toss, body) => this.#unmask(state, toss, body);
    throw new RefusedError(`the step ${step} is not due, or was answered to another request`);
  }

  /** Commits to a fresh nonce for this toss; nonce and keys of an earlier toss are dropped. */
  async #commit(last: number, toss: number, body: Uint8Array): Promise<[State, Uint8Array]> {
    messages.exactly("a commit request", body, 0);
    checks.nextToss(toss, last, this.#terms);
    const nonce = randomBytes(32);
    const commitment = commitmentTo(nonce);
    const { identity, id } = this.#options;
    const signature = await identity.sign(COMMIT, commitPayload(this.#terms.context, toss, id, commitment));
    return [{ at: "fresh", toss, nonce: { value: nonce, commitment } }, concat(commitment, signature)];
  }

  /** Round 0, advertise keys: the nonce and two new public keys, signed with the cohort's root if there is one. */
  async #advertise(state: Fresh, toss: number, body: Uint8Array): Promise<[State, Uint8Array]> {
    messages.exactly("an advertise request", body, isCommitted(this.#terms) ? 32 : 0);
    const root = body.slice();
    const [sharePair, maskPair, selfMask] = [await KeyPair.generate(), await KeyPair.generate(), randomBytes(32)];
    const [nonce, commitment] = [state.nonce?.value ?? new Uint8Array(), state.nonce?.commitment ?? new Uint8Array()];
    const own = { nonce, shareKey: sharePair.publicKey, maskKey: maskPair.publicKey, selfDigest: hashed(selfMask), signature: new Uint8Array() };
    const { identity, id } = this.#options;
    const signature = await identity.sign(ADVERT, advertPayload(this.#terms.context, toss, root, id, messages.advertBody(own)));
    const advert = { ...own, signature };
    return [{ at: "advertised", toss, nonce, commitment, root, sharePair, maskPair, selfMask, advert }, messages.encodeAdvert(advert)];
  }

  /** Round 1, share keys: derives the neighbours, and encrypts to each its share of both secrets. */
  async #share(state: Advertised, toss: number, body: Uint8Array): Promise<[State, Uint8Array]> {
    const request = messages.decodeShare(body, this.#terms);
    const { id, directory, identity } = this.#options;
    const [cohort, adverts] = await this.#cohort(state, request);
    const me = cohort.ids.indexOf(id);
    if (me < 0) throw new RefusedError("the cohort must hold this device, got one without it");
    const neighbours = cohort.neighbours(me);
    const names = neighbours.map((member) => cohort.ids[member]);
    const { sharePair, maskPair, selfMask } = state;
    const own = [sharePair.publicKey, maskPair.publicKey];
    const { shareKeys, maskKeys } = await checks.neighbourKeys(adverts, { names, own, context: this.#terms.context, toss, root: state.root, directory });
    const shares = split(concat(selfMask, maskPair.privateBytes()), cohort.degree, cohort.threshold);
    const [boxes, madeWith]: [Uint8Array[], KeyPair[]] = [[], []];
    for (let slot = 0; slot < cohort.degree; slot += 1) {
      const [box, pair] = await makeBox(this.#label(cohort, [id, names[slot]], slot, shareKeys[slot]), shares[slot], identity);
      boxes.push(box);
      madeWith.push(pair);
    }
    return [{ at: "shared", toss, cohort, me, neighbours, shareKeys, maskKeys, maskPair, selfMask, boxes, madeWith, sharePair }, chained(boxes)];
  }

  #label({ binding, degree, threshold }: Cohort, ends: readonly [number, number], slot: number, key: Uint8Array): Label {
    return { binding, ends, slot, degree, threshold, key };
  }

  /** Checks the cohort; gives it and the adverts of this device's neighbours. */
  async #cohort(state: Advertised, { entries, adverts }: messages.ShareRequest): Promise<[Cohort, messages.ShareRequest["adverts"]]> {
    const [terms, { id, directory }] = [this.#terms, this.#options];
    let [ids, near, root, nonces] = [adverts.map(({ device }) => device), adverts, new Uint8Array(), [] as Uint8Array[]];
    if (isCommitted(terms)) {
      ids = entries.map(({ device }) => device);
      checks.knownMembers(ids, directory, terms);
      root = cohortRoot(terms.context, state.toss, chained(entries.flatMap(({ device, commitment }) => [u32(device), commitment])));
      checks.sameRoot(root, state.root);
      const own = entries.find(({ device }) => device === id);
      checks.ownEntry(own && concat(own.commitment, own.nonce), concat(state.commitment, state.nonce));
      checks.noncesFit(entries);
      nonces = entries.map(({ nonce }) => nonce);
      checks.advertNonces(adverts, entries);
    } else {
      checks.knownMembers(ids, directory, terms);
      const own = adverts.find(({ device }) => device === id);
      checks.ownEntry(own && messages.encodeAdvert(own.advert), messages.encodeAdvert(state.advert));
      root = cohortRoot(terms.context, state.toss, chained(adverts.map(({ line }) => line)));
      near = adverts.filter(({ device }) => device !== id);
    }
    try {
      return [await Cohort.of(terms, state.toss, ids, root, nonces), near];
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      throw new RefusedError(`the cohort is too small for these terms: ${error.message}`);
    }
  }

  /** Opens the neighbours' boxes, and signs a receipt that says which they are, and which of them are none. */
  async #check(state: Shared, toss: number, body: Uint8Array): Promise<[State, Uint8Array]> {
    const { cohort, me, neighbours } = state;
    const { id, identity, directory } = this.#options;
    const { shared, boxes } = messages.decodeCheck(body, cohort.size);
    checks.listed(shared, me);
    const slots = neighbours.flatMap((member, slot) => (shared[member] ? [slot] : []));
    if (boxes.length !== slots.length) throw new IntegrityError(`a check request must have ${slots.length} boxes, got ${boxes.length}`);
    const ownSlots = cohort.slots(me);
    const leaves = neighbours.map(() => new Uint8Array());
    const [accused, shares] = [neighbours.map(() => false), new Map<number, Dealt>()];
    for (const [at, slot] of slots.entries()) {
      const [box, sender] = [boxes[at], cohort.ids[neighbours[slot]]];
      const label = this.#label(cohort, [sender, id], ownSlots[slot], state.sharePair.publicKey);
      try {
        await checkSigned(label, box, directory.keyOf(sender));
      } catch (error) {
        if (!(error instanceof IntegrityError)) throw error;
        continue; // what its sender hasn't signed is no box, and nobody's fault
      }
      leaves[slot] = leafOf(label, box);
      const dealt = await openBox(label, box, state.sharePair);
      if (dealt) shares.set(slot, dealt);
      else accused[slot] = true;
    }
    const [root, flags] = [treeOf(leaves).root(), messages.packFlags(accused)];
    const signature = await identity.sign(RECEIPT, concat(cohort.binding, root, flags));
    const { sharePair: _, ...kept } = state;
    return [{ ...kept, at: "checked", toss, shares, answered: new Uint8Array() }, concat(root, flags, signature)];
  }

  /** Shows the keys of boxes that their receivers complain of: each opens one box. */
  async #open(state: Checked, body: Uint8Array): Promise<[State, Uint8Array]> {
    const { cohort, me, neighbours } = state;
    const { id, identity, directory } = this.#options;
    const complaints = messages.decodeOpen(body, cohort.degree, depthOf(cohort.degree));
    checks.fewOpenings(complaints, this.#terms);
    const names = neighbours.map((member) => cohort.ids[member]);
    const ownSlots = cohort.slots(me);
    const opened: Uint8Array[] = [];
    for (const complaint of complaints) {
      const slot = names.indexOf(complaint.device);
      if (slot < 0) throw new RefusedError(`a box is opened for a neighbour, got a complaint of device ${complaint.device}`);
      await checks.complainedOf(complaint, ownSlots[slot], cohort.binding, directory.keyOf(complaint.device));
      const label = this.#label(cohort, [id, complaint.device], slot, state.shareKeys[slot]);
      checks.ownBox(complaint, ownSlots[slot], leafOf(label, state.boxes[slot]));
      const secret = state.madeWith[slot].privateBytes();
      opened.push(secret, await identity.sign(OPENING, concat(cohort.binding, u32(complaint.device), secret)));
    }
    // No others are ever opened, also after a restart; and none after input.
    await this.#options.latch("open", digest(concat(cohort.binding, body)));
    return [{ ...state, boxes: [], madeWith: [], answered: body.slice() }, chained(opened)];
  }

  /** Round 2, masked input: checks who has shared (U1), then computes the vector and masks it with exactly those. */
  async #sendMasked(state: Checked, toss: number, body: Uint8Array): Promise<[State, Uint8Array]> {
    const { cohort, me, neighbours } = state;
    const [terms, { id, serverKey, latch }] = [this.#terms, this.#options];
    const request = messages.decodeInput(body, cohort.size);
    // U1 is a list that may be opened, is signed by the server, and each neighbour in it has sent a good box.
    const u1 = await checks.signedList(checks.checkedList(request.u1, me, cohort, terms), request.signature, cohort, serverKey);
    const shares = checks.everyBox(neighbours.flatMap((member, slot) => (u1.flags[member] ? [slot] : [])), state.shares);
    const keys: { key: Uint8Array; added: boolean }[] = [{ key: state.selfMask, added: true }];
    for (const slot of shares.keys()) {
      const [own, other]: [readonly [number, Uint8Array], readonly [number, Uint8Array]] = [
        [id, state.maskPair.publicKey],
        [cohort.ids[neighbours[slot]], state.maskKeys[slot]],
      ];
      const agreed = await state.maskPair.agree(other[1], maskInfo(terms.context, toss, own, other));
      // The lower member adds the mask of a pair, the higher one takes it off.
      keys.push({ key: agreed.slice(0, 32), added: me < neighbours[slot] });
    }
    // After this no box is opened any more, and no other list is ever masked with.
    await latch("open", digest(concat(cohort.binding, state.answered)));
    const signed = await checks.latchPayload(latch, "input", concat(cohort.binding, messages.packFlags(u1.flags)));
    const masked = await this.#mask(state.toss, keys, signed);
    return [{ at: "masked", toss, cohort, me, neighbours, u1: u1.flags, shares }, masked];
  }

  /** Computes the vector, masks it with b and one mask per neighbour, packs it, and signs U1, which is latched. */
  async #mask(toss: number, keys: readonly { key: Uint8Array; added: boolean }[], signed: checks.Latched): Promise<Uint8Array> {
    const make = this.#vector;
    this.#vector = null;
    this.#state = { at: "done", toss }; // noise is drawn only once: if computing the vector fails, the attempt is over
    if (!make) throw new RefusedError("the vector of this attempt was already made");
    const { steps } = await make();
    if (steps.length !== this.#terms.size) throw new InputError(`\`vector\` must give ${this.#terms.size} whole numbers, got ${steps.length}`);
    const total = residuesOf(steps, this.#terms.bits);
    for (const { key, added } of keys) await applyMask(total, key, added);
    return concat(pack(total), await this.#options.identity.sign(INPUT, signed.payload));
  }

  /** Round 3, consistency check: signs the only list of survivors whose sum may be opened. */
  async #agree(state: MaskedSent, toss: number, body: Uint8Array): Promise<[State, Uint8Array]> {
    const { cohort, me, u1 } = state;
    const { flags: survivors } = checks.checkedList(messages.unpackFlags(body, cohort.size), me, cohort, this.#terms);
    checks.stillThere(survivors, u1);
    const payload = concat(cohort.binding, messages.packFlags(u1), messages.packFlags(survivors));
    const signed = await checks.latchPayload(this.#options.latch, "consistency", payload);
    return [{ at: "agreed", toss, masked: state, survivors, signed }, await this.#options.identity.sign(CONSISTENCY, signed.payload)];
  }

  /** Round 4, unmasking: checks who has signed the same list, then sends the shares and drops all secrets. */
  async #unmask({ masked, survivors, signed }: Agreed, toss: number, body: Uint8Array): Promise<[State, Uint8Array]> {
    const { cohort, me, neighbours } = masked;
    const { directory } = this.#options;
    const { signers, signatures, others } = messages.decodeUnmask(body, cohort.size);
    const verify = (members: readonly number[]) => checks.verifiedSigners(members, signatures, signed.payload, cohort, directory);
    // Only survivors sign; enough neighbours have signed this device's list, and all other surviving ones its U1.
    checks.survivingSigners(signers, survivors);
    const around = await verify([...neighbours, me].filter((member) => signatures.has(member)));
    const near = checks.neighboursAgree(around, neighbours, cohort.threshold);
    const silent = neighbours.filter((member) => survivors[member] && !signers[member]);
    await checks.sameSharers(silent.map((member) => cohort.ids[member]), others, cohort.binding, messages.packFlags(masked.u1), directory);
    // Enough of the members that this device draws have signed its list, too.
    this.#state = { at: "done", toss }; // only one draw: from repeated ones a server could learn who is sampled
    const sampled = checks.draw(cohort.size, me, cohort.sample);
    const far = await verify([...sampled].filter((member) => signatures.has(member) && !near.members.has(member)));
    const final = checks.quorumAgrees(near, far, sampled, cohort.quorum, survivors);
    return [{ at: "done", toss }, await this.#reveal(masked, final)];
  }

  /** One share per neighbour: of b if it is on the list that a quorum agrees on, otherwise of its mask key. */
  async #reveal({ cohort, neighbours, shares }: MaskedSent, { survivors }: checks.AgreedList): Promise<Uint8Array> {
    const pieces = neighbours.map(() => new Uint8Array());
    for (const [slot, dealt] of shares) pieces[slot] = pieceOf(dealt, survivors[neighbours[slot]] ? SELF_MASK : MASK_KEY);
    const root = treeOf(pieces).root();
    return concat(...pieces, await this.#options.identity.sign(REVEAL, concat(cohort.binding, root)));
  }
}
