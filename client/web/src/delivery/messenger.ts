/**
 * Messenger: hands messages over that the device decided to send now. `Device.messenger` makes it.
 *
 * It has no timer: the app calls `deliverWaiting`, for example at the start of a visit, to send messages that have waited.
 */

import { InputError } from "../errors.js";
import { shown } from "../events.js";
import type { Link } from "../hosting/link.js";
import type { Channel, Message, MessageInput, MessengerTerms } from "./message.js";
import type { Allowance, Delivery, Reaction } from "./record.js";
import type { Reason } from "./rules.js";

/** Brings messages to the user as one delivery. If it throws or rejects, they did not arrive. */
export type Sender = (messages: readonly Message[]) => void | Promise<void>;

export interface MessengerOptions {
  /** Channels with other caps or quiet hours than the usual ones, or new channels of the app. */
  readonly channels?: readonly Channel[];
  /** The share of devices that get no messages, so that the effect of messages can be measured; 0.05 if it is left out. */
  readonly control?: number;
  /** Channel -> the share of deliveries that users react to, as a prior for a new user. */
  readonly expected?: Readonly<Record<string, number>>;
}

const CONTROL = 0.05;

export class Messenger {
  private readonly terms: MessengerTerms;

  constructor(
    private readonly link: Link,
    private readonly senders: Readonly<Record<string, Sender>>,
    { channels = [], control = CONTROL, expected = {} }: MessengerOptions = {},
  ) {
    for (const [name, sender] of Object.entries(senders)) if (typeof sender !== "function") throw new InputError(`\`senders\` must be functions that take messages, got ${shown(sender)} for ${name}`);
    this.terms = { senders: Object.keys(senders), channels, control, expected };
  }

  /** Records that the user wants messages on a channel. A channel that wasn't allowed gets none. */
  async allow(channel: string, version = "1"): Promise<Allowance> {
    return this.link.call("allow", [channel, true, version]) as Promise<Allowance>;
  }

  /** Records that the user no longer wants messages on a channel. This holds for waiting messages, too. */
  async disallow(channel: string, version = "1"): Promise<Allowance> {
    return this.link.call("allow", [channel, false, version]) as Promise<Allowance>;
  }

  /** The channels that the user allows, sorted. */
  async allowed(): Promise<string[]> {
    return this.link.call("allowed", []) as Promise<string[]>;
  }

  /** Decides on a message, and sends it if it is to be sent now. An id that was given before is not decided on again. */
  async deliver(message: MessageInput): Promise<Delivery> {
    return this.sent(await this.link.call("decideOn", [message, this.terms]));
  }

  /** Decides on a server's campaign: like `deliver`, if its signature is valid and it fits this user. */
  async offer(signed: Uint8Array): Promise<Delivery> {
    return this.sent(await this.link.call("offer", [signed, this.terms]));
  }

  /** Decides again on all waiting messages that are due, and returns the decisions. */
  async deliverWaiting(): Promise<Delivery[]> {
    const became: Delivery[] = [];
    for (;;) {
      const { hand, others } = (await this.link.call("nextDue", [this.terms])) as { hand: Delivery[]; others: Delivery[] };
      became.push(...others);
      if (!hand.length) return became;
      became.push(...(await this.handed(hand)));
    }
  }

  /** Records what the user did with a message; "unsubscribed" also disallows the channel. False if none of this id was sent. */
  async reacted(id: string, reaction: Reaction): Promise<boolean> {
    return this.link.call("reacted", [id, reaction]) as Promise<boolean>;
  }

  /** All recorded messages, sent or not, each with its reason, oldest first. */
  async deliveries(): Promise<Delivery[]> {
    return this.link.call("deliveries", []) as Promise<Delivery[]>;
  }

  /** Whether this device is in the control group, which gets only transactional messages. */
  async inControl(): Promise<boolean> {
    return this.link.call("inControl", [this.terms.control]) as Promise<boolean>;
  }

  private async sent(decided: unknown): Promise<Delivery> {
    const { delivery, hand } = decided as { delivery: Delivery; hand: boolean };
    return hand ? (await this.handed([delivery]))[0] : delivery;
  }

  /** Hands over messages that are recorded as sent, as one delivery. */
  private async handed(group: readonly Delivery[]): Promise<Delivery[]> {
    let reason: Reason = "sent";
    try {
      await this.senders[group[0].channel](group.map(({ message }) => message));
    } catch {
      reason = "failed"; // a sender is the app's code and may throw anything
    }
    // Where that isn't kept, the record still has `lost`, which counts as sent.
    await this.link.call("setReason", [group.map(({ message }) => message.id), reason]).catch(() => undefined);
    return group.map((each) => ({ ...each, reason }));
  }
}

/**
 * A sender that shows notifications of the browser, with the user's permission, which the app asks for on a click.
 *
 * @param registration - of the app's service worker: notifications then outlive the page, and phones need it.
 */
export function notificationSender(registration?: ServiceWorkerRegistration): Sender {
  return async (messages) => {
    if (typeof Notification === "undefined" || Notification.permission !== "granted") throw new InputError("the user has not permitted notifications");
    for (const { id, title, body, link, item } of messages) {
      const options: NotificationOptions = { body, tag: id, data: { id, link, item } };
      if (registration) await registration.showNotification(title, options);
      else new Notification(title, options);
    }
  };
}
