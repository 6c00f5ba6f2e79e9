/**
 * Graph terms: the neighbours of a member, the shares that open a secret, and the members that a device samples.
 *
 * Both sides compute them from the size of the cohort; nothing is sent. The claims that comments name are proved in
 * common/palate_core/masks/graph_terms.py.
 */

import { InputError } from "../errors.js";
import { FAILURE } from "../mechanism/cohort.js";

/** Up to so many members everybody is a neighbour. */
export const LARGEST_COMPLETE = 250;
const ABORT = -20;
const TOSS_BITS = 10;

export interface GraphTerms {
  readonly neighbours: number;
  readonly threshold: number;
  /** Most corrupt in any k/2 consecutive positions of the ring. */
  readonly windowCorrupt: number;
  readonly complete: boolean;
  /** Members of the whole cohort that a device draws; 0 in a complete graph. */
  readonly sample: number;
  readonly quorum: number;
}

/** The smallest graph that tolerates this many corrupt and this many lost members. */
export function graphTerms(n: number, corrupt: number, dropped: number): GraphTerms {
  if (!(Number.isInteger(n) && n >= 3 && corrupt >= 0 && corrupt <= n && dropped >= 0 && dropped <= n)) {
    throw new InputError(`a cohort must have at least 3 members, and no more corrupt or lost than all, got ${n}, ${corrupt}, ${dropped}`);
  }
  return (n > LARGEST_COMPLETE ? new Chances(n).ring(corrupt, dropped) : null) ?? complete(n, corrupt, dropped);
}

function complete(n: number, corrupt: number, dropped: number): GraphTerms {
  const k = n - 1;
  const threshold = Math.floor((k + corrupt) / 2) + 1; // claim 1, where c is at most `corrupt`
  if (threshold > k - dropped) {
    throw new InputError(`a cohort of ${n} must leave ${threshold} of ${k} neighbours, got ${corrupt} corrupt and ${dropped} dropped`);
  }
  return { neighbours: k, threshold, windowCorrupt: corrupt, complete: true, sample: 0, quorum: 0 };
}

/** Tails of the hypergeometric distribution over a cohort of n, in doubles. */
class Chances {
  private readonly logs: Float64Array;
  private readonly known = new Map<string, Float64Array>();

  constructor(private readonly n: number) {
    // Sums of logarithms, with what each addition has rounded off.
    this.logs = new Float64Array(n + 1);
    let [sum, lost] = [0, 0];
    for (let i = 2; i <= n; i += 1) {
      const term = Math.log(i) - lost;
      const next = sum + term;
      lost = next - sum - term;
      sum = next;
      this.logs[i] = sum;
    }
  }

  ring(corrupt: number, dropped: number): GraphTerms | null {
    const { n } = this;
    const union = Math.log2(n);
    // Claim 6: half for two bad windows, (n p)^2 / 2 of claim 4, and half for the two secrets of claim 1.
    const [windows, secrets] = [(FAILURE - TOSS_BITS) / 2, FAILURE - TOSS_BITS - 1];
    for (let k = 4; k < n - 1; ) {
      const windowCorrupt = this.bound(n, corrupt, k / 2, windows - union);
      const least = Math.floor((k + this.bound(n - 1, corrupt, k, secrets - union)) / 2) + 1; // claim 1
      const threshold = Math.max(k / 2 + windowCorrupt + 2, least); // claim 5
      const short = threshold + this.bound(n - 1, dropped, k, ABORT - union) - k; // claim 7
      if (short <= 0) {
        const window = union + this.tail(n, corrupt, k / 2, windowCorrupt + 1); // claim 4: n p
        const both = union + this.tail(n - 1, corrupt, k, 2 * threshold - k); // claim 1
        const failure = TOSS_BITS + log2Sum(2 * window - 1, both); // claim 6
        const gap = this.tail(n, dropped, k / 2, k / 2 - windowCorrupt); // claim 3
        const abort = union + log2Sum(this.tail(n - 1, dropped, k, k - threshold + 1), gap); // claim 7
        const sampled = this.draw(corrupt, dropped, k - threshold, failure, abort);
        if (sampled) return { neighbours: k, threshold, windowCorrupt, complete: false, sample: sampled[0], quorum: sampled[1] };
      }
      k += 2 * Math.max(short, 1); // claim 8
    }
    return null;
  }

  /** Sample and quorum for a ring with these bounds and `spare` = k - t. */
  private draw(corrupt: number, dropped: number, spare: number, failure: number, abort: number): [number, number] | null {
    if (failure >= FAILURE || abort >= ABORT) return null;
    const { n, logs } = this;
    const union = Math.log2(n);
    // Claim 2: C(2x + 1, x + 1), for each member and toss.
    const ways = (logs[2 * spare + 1] - logs[spare + 1] - logs[spare]) / Math.LN2 + union + TOSS_BITS;
    const [others, minority] = [n - 1, Math.floor((n + corrupt) / 2) - 1];
    const allowed = (log2Less(FAILURE, failure) - ways) / (spare + 1); // log2 of the largest p with p^(x + 1) in the rest
    for (let size = 8; size < others; size += Math.floor(size / 8)) {
      const quorum = this.bound(others, minority, size, allowed) + 1;
      const refused = union + this.tail(others, dropped, size, size - quorum + 1); // claim 7
      if (quorum <= size && refused <= log2Less(ABORT, abort)) return [size, quorum];
    }
    // All others are sampled: nothing is left to chance.
    return minority < others - dropped ? [others, minority + 1] : null;
  }

  /** The smallest x such that more than x of the draws are marked with chance at most 2^log2. */
  private bound(population: number, marked: number, draws: number, log2: number): number {
    const most = 2 ** log2;
    return this.tails(population, marked, draws).subarray(1).reduce((count, tail) => count + (tail > most ? 1 : 0), 0);
  }

  /** log2 of the chance of `least` marked or more among the draws. */
  private tail(population: number, marked: number, draws: number, least: number): number {
    const tails = this.tails(population, marked, draws);
    return Math.log2(least <= 0 ? 1 : least < tails.length ? tails[least] : 0);
  }

  /** P[X >= x] for x = 0..draws, where X of the draws, without replacement, are marked. */
  private tails(population: number, marked: number, draws: number): Float64Array {
    const key = `${population},${marked},${draws}`;
    const there = this.known.get(key);
    if (there) return there;
    const { logs: log } = this;
    const tails = new Float64Array(draws + 1);
    const [first, last] = [Math.max(0, draws - (population - marked)), Math.min(draws, marked)];
    let sum = 0;
    for (let x = last; x >= first; x -= 1) {
      const rest = population - marked - draws + x;
      const ways = log[marked] - log[x] - log[marked - x] + log[population - marked] - log[draws - x] - log[rest];
      sum += Math.exp(ways - (log[population] - log[draws] - log[population - draws])); // the smallest first
      tails[x] = sum;
    }
    tails.fill(1, 0, first);
    this.known.set(key, tails);
    return tails;
  }
}

const log2Less = (whole: number, part: number): number => whole + Math.log2(1 - 2 ** (part - whole));

function log2Sum(first: number, second: number): number {
  const [high, low] = [Math.max(first, second), Math.min(first, second)];
  return high === -Infinity ? high : high + Math.log1p(2 ** (low - high)) / Math.LN2;
}
