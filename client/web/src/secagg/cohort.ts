/** Cohort: the devices of one toss of an attempt, their neighbours, and how many must agree. A member is an index into the rising ids. */

import { Keystream } from "../records/crypto.js";
import { graphTerms, type GraphTerms } from "./graph_terms.js";
import { cohortBinding, ringSeed, type AttemptTerms } from "./transcript.js";

/** Members sorted by words of the seed's keystream, drawn again while two are equal. */
export async function ringOrder(seed: Uint8Array, n: number): Promise<Uint32Array> {
  const stream = await Keystream.of(seed);
  // Whole blocks of the cipher are read, as one stream.
  let left = new Uint8Array(0);
  for (;;) {
    const missing = Math.max(0, 8 * n - left.length);
    const more = await stream.next(Math.ceil(missing / 16) * 16);
    const bytes = new Uint8Array(left.length + more.length);
    bytes.set(left);
    bytes.set(more, left.length);
    left = bytes.slice(8 * n);
    const view = new DataView(bytes.buffer);
    const words = Array.from({ length: n }, (_, at) => view.getBigUint64(8 * at, true));
    const order = Uint32Array.from(words.keys()).sort((a, b) => (words[a] < words[b] ? -1 : words[a] > words[b] ? 1 : a - b));
    if (order.every((member, at) => !at || words[member] !== words[order[at - 1]])) return order;
  }
}

export class Cohort {
  private constructor(
    readonly ids: readonly number[],
    readonly root: Uint8Array,
    /** Prefix of signatures that ties them to this cohort. */
    readonly binding: Uint8Array,
    private readonly shape: GraphTerms,
    private readonly order: Uint32Array | null,
    private readonly position: Uint32Array,
  ) {}

  static async of(terms: AttemptTerms, toss: number, ids: readonly number[], root: Uint8Array, nonces: readonly Uint8Array[]): Promise<Cohort> {
    const seed = ringSeed(terms.context, root, nonces);
    const shape = graphTerms(ids.length, terms.cMax, Math.max(0, ids.length - terms.nMin));
    const order = shape.complete ? null : await ringOrder(seed, ids.length);
    const position = new Uint32Array(ids.length);
    order?.forEach((member, at) => (position[member] = at));
    return new Cohort(ids, root, cohortBinding(terms.context, toss, root, seed), shape, order, position);
  }

  get size(): number {
    return this.ids.length;
  }

  /** Neighbours of each member, k. */
  get degree(): number {
    return this.shape.neighbours;
  }

  /** How many of a member's neighbours must agree before one of its secrets is opened, t. */
  get threshold(): number {
    return this.shape.threshold;
  }

  get sample(): number {
    return this.shape.sample;
  }

  get quorum(): number {
    return this.shape.quorum;
  }

  /** A member's neighbours, in the order in which shares and boxes travel: by offset in the ring, -k/2..-1, then 1..k/2. */
  neighbours(member: number): number[] {
    const { order, degree: k, size: n } = this;
    if (!order) return Array.from({ length: k }, (_, at) => at + (at >= member ? 1 : 0));
    const offsets = Array.from({ length: k }, (_, at) => (at < k / 2 ? at - k / 2 : at - k / 2 + 1));
    return offsets.map((offset) => order[(this.position[member] + offset + n) % n]);
  }

  /** This member's index in the neighbour list of each of its neighbours. */
  slots(member: number): number[] {
    if (!this.order) return this.neighbours(member).map((other) => member - (other < member ? 1 : 0));
    // Seen from the other end, an offset changes its sign.
    return Array.from({ length: this.degree }, (_, at) => this.degree - 1 - at);
  }

  /** Whether so many consecutive ring members are missing that corrupt ones could complete a cut of the ring. */
  cut(alive: readonly boolean[]): boolean {
    const { order, size: n } = this;
    if (!order) return false;
    const window = this.degree / 2;
    const limit = window - this.shape.windowCorrupt;
    const missing = Array.from({ length: n + window - 1 }, (_, at) => (alive[order[at % n]] ? 0 : 1));
    let sum = 0;
    for (let at = 0; at < missing.length; at += 1) {
      sum += missing[at] - (at >= window ? missing[at - window] : 0);
      if (at >= window - 1 && sum >= limit) return true;
    }
    return false;
  }
}
