/** Service: the server whose models an app uses and whose rounds it may join, and the user's limits. */

import { InputError } from "./errors.js";
import { FLOORS, type Floors } from "./floors.js";
import { epsilonOf, muOf, nextUp } from "./mechanism/accounting.js";
import { reservedDelta } from "./mechanism/cohort.js";
import { Quorum } from "./records/cosignatures.js";
import { Pinned } from "./records/pinned.js";

/** Added to the epsilon of the Gaussian: discrete noise and its sharing add less than this. */
const MARGIN = 1e-9;

/** Built into the app. Unit of the limits: this installation; adjacency: zero-out. */
export interface ServiceTerms {
  /** The release key, Ed25519, 64 hexadecimal digits. */
  readonly publicKey: string;
  readonly population: string;
  /** The most epsilon that this installation ever spends, in all rounds together; 8 if left out. */
  readonly epsilon?: number;
  /** The delta of epsilon; 1e-6 if left out. */
  readonly delta?: number;
  /** The most rounds that it ever takes part in; 1000 if left out. */
  readonly participations?: number;
  /** Conditions on each plan; only simulations loosen them. */
  readonly floors?: Partial<Floors>;
  /** The most bytes of a model file that is read; 2^28 if left out. */
  readonly mostBytes?: number;
  /** Verifier keys of the witnesses of the population's ledger, and how many of them must have cosigned. */
  readonly witnesses?: readonly string[];
  readonly quorum?: number;
  /** While a witness changes its key: all keys as they will be. */
  readonly nextWitnesses?: readonly string[];
  /** The release key with which the ledger began, where `publicKey` is a later one. */
  readonly firstKey?: string;
}

/** The server whose models an app uses and whose rounds its user may join, and the user's limits. Built into the app. */
export interface ServiceOptions extends ServiceTerms {
  /** Where the published models are, the server or a folder; `sync` looks there where the device is not enrolled. */
  readonly models?: string;
}

export class Service {
  readonly publicKey: string;
  readonly population: string;
  readonly epsilon: number;
  readonly delta: number;
  readonly participations: number;
  readonly floors: Floors;
  readonly mostBytes: number;
  /** The release key with the witnesses that must have cosigned what is shown, if the app pins any. */
  readonly pinned: Pinned;

  constructor(terms: ServiceTerms) {
    const { publicKey, population, epsilon = 8, delta = 1e-6, participations = 1000, mostBytes = 2 ** 28 } = terms;
    const { witnesses = [], nextWitnesses = [], quorum = 0, firstKey = "" } = terms;
    if (!/^[0-9a-f]{64}$/.test(publicKey)) throw new InputError("`publicKey` must be 64 lower-case hexadecimal digits");
    if (!population) throw new InputError("`population` must be a name");
    if (!(epsilon > 0 && Number.isFinite(epsilon))) throw new InputError(`\`epsilon\` must be a number above 0, got ${epsilon}`);
    for (const [name, value] of Object.entries({ participations, mostBytes })) {
      if (!Number.isSafeInteger(value) || value < 0) throw new InputError(`\`${name}\` must be a whole number from 0, got ${value}`);
    }
    for (const [name, value] of Object.entries(terms.floors ?? {})) {
      const usual: unknown = (FLOORS as unknown as Record<string, unknown>)[name];
      const fits = name === "population" ? value === null || typeof value === "string" : typeof value === typeof usual;
      if (!(name in FLOORS) || !fits || Number.isNaN(value)) throw new InputError(`a floor must be one of ${Object.keys(FLOORS).join(", ")}, with a value of its kind, got ${name}: ${String(value)}`);
    }
    if (!witnesses.length && (quorum || nextWitnesses.length)) throw new InputError(`\`witnesses\` must be given with a quorum of ${quorum}, got none`);
    [this.publicKey, this.population, this.epsilon, this.delta] = [publicKey, population, epsilon, delta];
    [this.participations, this.mostBytes, this.floors] = [participations, mostBytes, { ...FLOORS, ...terms.floors, population }];
    if (!(delta < 1 && this.noiseDelta > 0)) throw new InputError(`\`delta\` must be above ${delta - this.noiseDelta} and below 1, got ${delta}`);
    const sets = [witnesses, nextWitnesses].filter((keys) => keys.length);
    this.pinned = new Pinned(population, publicKey, sets.map((keys) => Quorum.of(keys, quorum)), firstKey);
  }

  /** The release key with which the population's ledger began. */
  get beganWith(): string {
    return this.pinned.firstKey || this.publicKey;
  }

  /** The part of delta for the noise; the rest is for masking graphs, in all rounds. */
  get noiseDelta(): number {
    return this.delta - reservedDelta(this.participations);
  }

  /** The limit as mu^2, the ledger's unit. */
  get limitMu2(): number {
    return muOf(this.epsilon - Math.min(2 * MARGIN, this.epsilon / 2), this.noiseDelta) ** 2;
  }

  /** A spent mu^2 as epsilon at `delta`, rounded up. Unit: this installation; adjacency: zero-out. */
  epsilonOf(mu2: number): number {
    return mu2 === 0 ? 0 : epsilonOf(nextUp(Math.sqrt(mu2)), this.noiseDelta) + MARGIN;
  }

  /** The floors that are looser than an app's, in words; only experiments have any. */
  get loosened(): readonly string[] {
    const said: [string, boolean][] = [
      ["a plan without privacy is answered", this.floors.allowOff],
      ["noise from a seed is accepted", this.floors.allowSeeded],
      ["noised shares leave without masks", this.floors.allowUnmasked],
    ];
    return said.flatMap(([how, loose]) => (loose ? [how] : []));
  }
}
