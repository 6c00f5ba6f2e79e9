/**
 * Policy: conditions of the app on when its device may be online, as functions, since only the app knows what it may ask of a machine.
 *
 *     device.sync({ policy: { charging: isCharging, unmetered: isUnmetered, idle: isIdle, window: () => new Date().getHours() < 6 } })
 *
 * They are called in the page before the network is used, and again before each request but the farewell. An error in one counts as
 * false, and so does one that doesn't answer, and a page that is gone. The ready ones say what a browser knows, and fail where it says
 * nothing: none guesses.
 */

import { InputError, PalateError } from "./errors.js";
import { shown } from "./events.js";

/** Whether a condition holds now. */
export type Hook = () => boolean | Promise<boolean>;

/** Conditions that must hold all the time that a device is online; left out: no condition. */
export interface Policy {
  /** Whether the machine is on power. */
  readonly charging?: Hook;
  /** Whether the network is free of charge. If not, the device doesn't even sign off. */
  readonly unmetered?: Hook;
  /** Whether nobody is using the machine. */
  readonly idle?: Hook;
  /** Whether the time of day is right. */
  readonly window?: Hook;
}

/** The first condition that doesn't hold, with its error if it has one; empty: all hold. */
export type Forbids = () => Promise<string>;

const NAMES = ["charging", "unmetered", "idle", "window"] as const;
/** Milliseconds in which a condition must say whether it holds. */
const PATIENCE = 5000;

/** Refuses what is no policy: a condition that is misspelled, or is no function, would be none. */
export function checkPolicy(policy: unknown): asserts policy is Policy {
  const fits = (name: string, hook: unknown): boolean => NAMES.some((each) => each === name) && (hook === undefined || typeof hook === "function");
  if (typeof policy === "object" && policy !== null && Object.entries(policy).every(([name, hook]) => fits(name, hook))) return;
  const got = typeof policy === "object" && policy !== null ? Object.keys(policy).join(", ") : shown(policy);
  throw new InputError(`\`policy\` must have functions alone, named ${NAMES.join(", ")}, got ${got.slice(0, 80)}`);
}

/** The first condition of a policy that doesn't hold, with its error if it has one; empty: all hold. */
export async function forbidden(policy: Policy, patience = PATIENCE): Promise<string> {
  for (const name of NAMES) {
    try {
      if (policy[name] && !(await answered(policy[name], patience))) return name;
    } catch (error) {
      return `${name}: ${(error instanceof Error ? error.message : String(error)).slice(0, 200)}`;
    }
  }
  return "";
}

/** What a condition says, in time. */
async function answered(hook: Hook, patience: number): Promise<boolean> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new PalateError(`it must answer within ${patience / 1000} seconds, and hasn't`)), patience);
  });
  try {
    return await Promise.race([hook(), late]);
  } finally {
    clearTimeout(timer);
  }
}

const silent = (what: string): PalateError => new PalateError(`this browser doesn't say ${what}`);

/** What `navigator` has in some browsers, as far as it is used here. */
interface Known {
  readonly getBattery?: () => Promise<{ readonly charging: boolean }>;
  readonly connection?: { readonly type?: string; readonly saveData?: boolean };
}

const known = (): Known => (typeof navigator === "undefined" ? {} : (navigator as Known));

/** Whether the machine is on power: Chromium says it, Firefox and Safari don't. A machine without a battery is. */
export async function isCharging(): Promise<boolean> {
  const { getBattery } = known();
  if (!getBattery) throw silent("whether the machine is on power");
  return (await getBattery.call(navigator)).charging;
}

/**
 * Whether the network is Wi-Fi or a cable, and the user doesn't save data: Chromium on Android and ChromeOS says it. Chromium on a desktop
 * says only whether data is saved, Firefox and Safari nothing. Whether a Wi-Fi is metered, as one of a phone is, no browser says.
 */
export async function isUnmetered(): Promise<boolean> {
  const { connection } = known();
  if (connection?.saveData) return false;
  if (!connection?.type || connection.type === "unknown") throw silent("by which network it is connected");
  return connection.type === "wifi" || connection.type === "ethernet";
}

interface Detector {
  readonly userState: "active" | "idle" | null;
  readonly screenState: "locked" | "unlocked" | null;
  start(options: { readonly threshold: number }): Promise<void>;
}
let detector: Promise<Detector> | null = null;

/**
 * Whether nobody has used the machine for a minute, or its screen is locked: Chromium says it once the user has allowed it, for which the
 * page asks in a click: `IdleDetector.requestPermission()`. Firefox and Safari don't.
 */
export async function isIdle(): Promise<boolean> {
  const { IdleDetector } = globalThis as unknown as { readonly IdleDetector?: new () => Detector };
  if (!IdleDetector) throw silent("whether the machine is used");
  detector ??= (async () => {
    const made = new IdleDetector();
    await made.start({ threshold: 60_000 });
    return made;
  })();
  try {
    const { userState, screenState } = await detector;
    return userState === "idle" || screenState === "locked";
  } catch (error) {
    detector = null; // it may be allowed later
    throw error;
  }
}
