/** Remains: what a statement says, as values. */

/** One attempt at a round that this installation was charged for. */
export interface RoundOf {
  readonly run: string;
  readonly round: number;
  readonly attempt: number;
  /** When, UTC. */
  readonly day: string;
  /** Its cost; null: the ledger lacks it. */
  readonly mu2: number | null;
  readonly planHash: string | null;
  readonly purpose: "train" | "analytics" | null;
  /** Whether anything left that the user's behaviour is in. If not, the attempt can't have it; it counts still. */
  readonly contributed: boolean;
  /** Who added the noise to what left; empty if nothing did. */
  readonly dp: string;
}

/** How much anybody can still tell: whether this user's data was in, or an empty history instead. */
export interface TellingBound {
  /** The share of those who were not in about whom somebody accepts to be wrong. */
  readonly falsePositives: number;
  /** At most this share of those who were in is then found, if the conditions hold; null: nothing bounds it. */
  readonly truePositives: number | null;
  /** The same if all other devices are the operator's; null: nothing bounds it, or it isn't known. */
  readonly alone: number | null;
}

/** What has left under a purpose, and what stops when. */
export interface LeftUnder {
  readonly purpose: "train" | "analytics" | "panel";
  readonly agreed: boolean;
  /** Day of the last decision on it, UTC; null: there was none. */
  readonly decided: string | null;
  /** Attempts into which a contribution left; for `panel`, how often the log was handed to the app. */
  readonly contributions: number;
  readonly messages: number;
  readonly bytes: number;
  readonly stops: string;
}

/** The last state of the population's ledger that this device has seen. */
export interface SeenState {
  readonly size: number;
  readonly root: string;
  /** The signed plan, or manifest with signature, that showed it, as canonical JSON; null: not kept. */
  readonly evidence: string | null;
}

/** What the server has of this installation, beside what it was sent in rounds. */
export interface AtServer {
  readonly server: string;
  readonly device: number;
  readonly identity: string | null;
  /** Whether the server was asked to delete what it has of it (`Device.leave`), and has answered that it did. */
  readonly asked: boolean;
  readonly answered: boolean;
}

/** What remains of an installation. Unit: this installation; adjacency: zero-out. */
export interface Statement {
  readonly app: string;
  /** When it was made, UTC. */
  readonly day: string;
  /** Whether it was made to erase: nothing can have left afterwards. */
  readonly final: boolean;
  readonly population: string | null;
  readonly publicKey: string | null;
  readonly unit: string;
  readonly adjacency: string;
  readonly accountant: string;
  readonly delta: number | null;
  /** Why the costs aren't known; empty if they are. */
  readonly problem: string;
  /** How the device's floors were loosened; empty in an app. */
  readonly simulated: readonly string[];
  readonly rounds: readonly RoundOf[];
  /** What all rounds cost together, those included that nothing left in. */
  readonly mu2: number | null;
  /** The same as epsilon, if the conditions hold; null: not bounded, or not known. */
  readonly epsilon: number | null;
  readonly conditions: readonly string[];
  /** The same if all other devices are the operator's; null: not bounded, or not known. */
  readonly epsilonAlone: number | null;
  readonly bounds: readonly TellingBound[];
  readonly left: readonly LeftUnder[];
  readonly state: SeenState | null;
  /** The run of the model in use, which is over; null: there is none, or it doesn't say. */
  readonly ended: string | null;
  readonly server: AtServer | null;
  /** It in words. */
  readonly text: string;
  /** It as canonical JSON. */
  readonly file: string;
}

/** A statement without its words and its file. */
export type Said = Omit<Statement, "text" | "file">;
