/** Syncing: what is asked for of a device that goes online, and what it answers. */

import { InputError } from "../errors.js";

/** The longest time that a download or a sync takes where nothing is said. */
export const SECONDS = 600;

/** Where this device is enrolled. */
export interface Enrolled {
  readonly server: string;
  readonly population: string;
  /** Its number in the population. */
  readonly device: number;
}

/** What was done and what failed in a sync. */
export interface SyncResult {
  /** Why it ended, in a word, such as "come back", "model", "time" or "unreachable". */
  readonly ended: string;
  readonly reason: string;
  /** Whether a newer model was taken into use. */
  readonly model: boolean;
  /** Attempts that it took part in to their end, and those that it was charged for and left before. */
  readonly rounds: number;
  readonly dropped: number;
  /** Messages that it refused. */
  readonly refused: number;
  /** Seconds after which the server wants to see it again, or null. */
  readonly next: number | null;
  readonly requests: number;
  readonly exchanges: number;
  readonly sent: number;
  readonly received: number;
  readonly seconds: number;
}

export interface SyncOptions {
  /** The longest duration. */
  readonly seconds?: number;
  /** Only download the newest model and use it, whatever the user agreed to. */
  readonly modelsOnly?: boolean;
  /** With `modelsOnly`: where the published models are, if the device isn't enrolled. */
  readonly models?: string;
  /** The shortest time between two requests for messages. */
  readonly pollSeconds?: number;
}

/** A sync in which nothing was done. */
export const NOTHING = { model: false, rounds: 0, dropped: 0, refused: 0, next: null, requests: 0, exchanges: 0, sent: 0, received: 0, seconds: 0 };

export function checkSeconds(seconds: number): void {
  if (!(seconds > 0 && Number.isFinite(seconds))) throw new InputError(`\`seconds\` must be a number above 0, got ${seconds}`);
}
