/**
 * Record: all messages of this device, sent or not, with their reasons, sealed beside the events.
 *
 * A message is marked as sent, on the disk, before it is handed to its channel: if the tab is closed in between, the message is
 * lost, but never sent twice.
 */

import { DAY, SET_CLOCK } from "../clock.js";
import type { Moment } from "./calendar.js";
import type { DeliveryTrial } from "./choice.js";
import type { Message } from "./message.js";
import { LONGEST_PACE, WAITING, type CountedDelivery, type Reason } from "./rules.js";

/** Messages that are kept, beside those that wait and those that were sent and still count for a cap. */
const KEPT = 1000;
/** Seconds that a sent message is kept at least: the longest pace depends on six dismissed messages before it. */
const COUNTED = 7 * LONGEST_PACE;
/** Seconds after which a message without a reaction counts as one that the user didn't react to. */
const PATIENCE = 2 * DAY;
const GOOD: readonly string[] = ["opened", "clicked", "bought"];
/** A reaction replaces those before it in this list. */
export const REACTIONS = ["dismissed", "opened", "clicked", "bought", "unsubscribed"] as const;
export type Reaction = (typeof REACTIONS)[number];

/** The latest decision on a message. */
export interface Delivery {
  readonly message: Message;
  /** Why it was sent, waits, or was not sent. */
  readonly reason: Reason;
  /** The channel it was sent on, or waits for; empty if there is none. */
  readonly channel: string;
  /** When the messenger got it, seconds since 1970. */
  readonly given: number;
  /** When a waiting message is decided on again; null if it doesn't wait. */
  readonly due: number | null;
  /** When it was handed to its channel; null if it wasn't. */
  readonly sent: number | null;
  /** The user's strongest reaction; empty if there is none. */
  readonly reaction: Reaction | "";
}

/** A decision of the user on one channel. */
export interface Allowance {
  readonly channel: string;
  readonly granted: boolean;
  readonly version: string;
  readonly time: number;
}

interface Kept extends Delivery {
  readonly settled: number | null;
  readonly batch: string | null;
  readonly moment: Moment | null;
}

/** What is kept, as JSON. */
export interface Messages {
  readonly deliveries: readonly Kept[];
  readonly allowed: readonly Allowance[];
  readonly coins: Readonly<Record<string, number>>;
}

/** The record within one transaction: nothing else changes it between its reads and writes. */
export class DeliveryRecord {
  private readonly deliveries: Map<string, Kept>;
  private readonly allowed: Allowance[];
  private readonly coins: Record<string, number>;

  constructor(kept: Messages | undefined) {
    this.deliveries = new Map(kept?.deliveries.map((each) => [each.message.id, each]));
    this.allowed = [...(kept?.allowed ?? [])];
    this.coins = { ...kept?.coins };
  }

  kept(): Messages {
    return { deliveries: [...this.deliveries.values()], allowed: this.allowed, coins: this.coins };
  }

  find(id: string): Delivery | undefined {
    const found = this.deliveries.get(id);
    return found && shownOf(found);
  }

  all(): Delivery[] {
    return [...this.deliveries.values()].map(shownOf);
  }

  /** The waiting messages that are due, oldest first. */
  due(now: number): Delivery[] {
    return this.all().filter((each) => each.due !== null && each.due <= now && WAITING.has(each.reason));
  }

  /** When the bundle that a channel collects is due; null if it collects none. */
  bundledUntil(channel: string): number | null {
    const dues = this.all().filter((each) => each.channel === channel && each.reason === "bundled").map((each) => each.due ?? Infinity);
    return dues.length ? Math.min(...dues) : null;
  }

  /** Writes a decision on a message; it replaces an earlier one. `moment`: the user's local time when it was sent. */
  put(delivery: Delivery, moment: Moment | null, batch: string | null = null): void {
    const { message, sent } = delivery;
    this.deliveries.set(message.id, { ...delivery, settled: sent, moment, batch: moment && (batch ?? message.id) });
  }

  setReason(ids: readonly string[], reason: Reason): void {
    for (const id of ids) {
      const found = this.deliveries.get(id);
      if (found) this.deliveries.set(id, { ...found, reason });
    }
  }

  /** Records a reaction to a sent message, unless a stronger one is recorded; false if no such message was sent. */
  react(id: string, reaction: Reaction): boolean {
    const found = this.deliveries.get(id);
    if (!found || found.sent === null) return false;
    if (!found.reaction || REACTIONS.indexOf(reaction) > REACTIONS.indexOf(found.reaction)) this.deliveries.set(id, { ...found, reaction });
    return true;
  }

  /** Corrects times that a wrong clock has written to `now`, and deletes old messages that no longer count. */
  settle(now: number): void {
    const unset = now >= SET_CLOCK ? SET_CLOCK : 0;
    let place = this.deliveries.size - KEPT;
    for (const [id, each] of [...this.deliveries]) {
      const settled = each.settled !== null && (each.settled > now || each.settled < unset) ? now : each.settled;
      if (place > 0 && each.due === null && (each.sent === null || (settled ?? 0) < now - COUNTED)) this.deliveries.delete(id);
      else if (settled !== each.settled) this.deliveries.set(id, { ...each, settled });
      place -= 1;
    }
  }

  /** The deliveries on a channel that count for its caps, in the order of sending; a bundle is one delivery. */
  past(channel: string): CountedDelivery[] {
    const batches = new Map<string, Kept[]>();
    for (const each of this.sent()) {
      if (each.channel !== channel || each.batch === null) continue;
      batches.set(each.batch, [...(batches.get(each.batch) ?? []), each]);
    }
    return [...batches.values()].map((group) => {
      const said = group.map((each) => each.reaction).filter((reaction) => reaction !== "");
      const liked = said.some((each) => GOOD.includes(each)) ? true : said.length ? false : null;
      const { sent, settled, moment } = group[group.length - 1];
      return { time: sent as number, settled: settled as number, moment: moment as Moment, liked };
    });
  }

  /** Deliveries whose outcome is known, in the order of sending. */
  trials(now: number): DeliveryTrial[] {
    return this.sent()
      .filter((each) => ["sent", "failed", "lost"].includes(each.reason))
      .slice(-500)
      .filter((each) => each.reaction !== "" || (each.settled as number) < now - PATIENCE)
      .map((each) => ({ channel: each.channel, hour: (each.moment as Moment).hour, answered: GOOD.includes(each.reaction) }));
  }

  allow(allowance: Allowance): void {
    this.allowed.push(allowance);
  }

  allowances(): readonly Allowance[] {
    return this.allowed;
  }

  /** The channels that the user's latest decisions allow, sorted. */
  channels(): string[] {
    const latest = new Map(this.allowed.map(({ channel, granted }) => [channel, granted]));
    return [...latest].filter(([, granted]) => granted).map(([channel]) => channel).sort();
  }

  /** The random number kept under a name; `tossed` is kept if there is none yet. */
  coin(name: string, tossed: number): number {
    return (this.coins[name] ??= tossed);
  }

  /** Whether this device is in the control group: its random number is below the share. */
  control(share: number): boolean {
    this.coins["control share"] = share;
    return this.coin("control", tossed()) < share;
  }

  /** The coins that were tossed: surveys ask for arms and control group. */
  tossed(): Readonly<Record<string, number>> {
    return this.coins;
  }

  private sent(): Kept[] {
    const sent = [...this.deliveries.values()].filter((each) => each.sent !== null && !each.message.transactional);
    return sent.sort((one, other) => (one.settled as number) - (other.settled as number));
  }
}

/** A random number from 0 to below 1, of 32 bits. */
export function tossed(): number {
  return crypto.getRandomValues(new Uint32Array(1))[0] / 2 ** 32;
}

function shownOf({ message, reason, channel, given, due, sent, reaction }: Kept): Delivery {
  return { message, reason, channel, given, due, sent, reaction };
}
