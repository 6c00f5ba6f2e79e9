/**
 * Messages: the part of a device that decides on messages to its user. The `Messenger` in the page hands them over.
 *
 *     Message -> Judge (consent, rules, choice, record) -> decision -> Messenger -> sender
 */

import { DAY } from "../clock.js";
import { InputError } from "../errors.js";
import type { Storage } from "../ledger/storage.js";
import { textOf, utf8 } from "../records/bytes.js";
import type { Calendar } from "./calendar.js";
import { shown } from "../events.js";
import { Judge, type Terms } from "./judge.js";
import { channelsOf, messageOf, type MessageInput, type MessengerTerms } from "./message.js";
import { DeliveryRecord, tossed, type Allowance, type Delivery, type Messages as Kept, type Reaction } from "./record.js";
import type { Reason } from "./rules.js";

const NAME = "deliveries";
/** Seconds after which a message without an expiry expires. */
const LASTS = 7 * DAY;

export { openCampaign } from "./campaign.js";

export class Messages {
  constructor(
    private readonly storage: Storage,
    private readonly agreed: () => boolean,
    private readonly clock: () => number,
    private readonly calendar: Calendar,
  ) {}

  /** Runs work on the record; what it changes is on the disk when this resolves. */
  async record<T>(work: (record: DeliveryRecord) => T): Promise<T> {
    return this.storage.transaction([NAME], (read) => {
      const before = read.get(NAME);
      const record = new DeliveryRecord(before && (JSON.parse(textOf(before)) as Kept));
      const result = work(record);
      const after = utf8(JSON.stringify(record.kept()));
      const same = before !== undefined && textOf(before) === textOf(after);
      return { write: same ? new Map() : new Map([[NAME, after]]), result };
    });
  }

  /** Decides on a message; an id that was given before is not decided on again. `fits`: whether a campaign is for this user. */
  async decide(input: MessageInput, terms: MessengerTerms, fits = true): Promise<{ delivery: Delivery; hand: boolean }> {
    const [now, given, on] = [this.clock(), messageOf(input), termsOf(terms)];
    return this.record((record) => {
      record.settle(now);
      const known = record.find(given.id);
      if (known) return { delivery: known, hand: false };
      const message = given.expires === null ? { ...given, expires: now + LASTS } : given;
      const first: Delivery = { message, reason: "lost", channel: "", given: now, due: null, sent: null, reaction: "" };
      if (!fits) {
        const refused: Delivery = { ...first, reason: "not for them" };
        record.put(refused, null);
        return { delivery: refused, hand: false };
      }
      const delivery = this.judge(record, on).decide(first, now);
      return { delivery, hand: delivery.sent !== null };
    });
  }

  /** Decides again on waiting messages that are due, until some are to be sent: those, and the other decisions so far. */
  async next(terms: MessengerTerms): Promise<{ hand: Delivery[]; others: Delivery[] }> {
    const [now, on] = [this.clock(), termsOf(terms)];
    return this.record((record) => {
      record.settle(now);
      const judge = this.judge(record, on);
      const together = (each: Delivery) => each.reason === "bundled" && judge.open().includes(each.channel);
      const others: Delivery[] = [];
      const [alone, bundles] = [[] as Delivery[][], new Map<string, Delivery[]>()];
      for (const each of record.due(now)) {
        if (together(each)) bundles.set(each.channel, [...(bundles.get(each.channel) ?? []), each]);
        else alone.push([each]);
      }
      for (const group of [...alone, ...[...bundles.keys()].sort().map((name) => bundles.get(name) as Delivery[])]) {
        const made = group.some(together) ? judge.bundle(group, now) : group.map((each) => judge.decide(each, now));
        others.push(...made.filter((each) => each.sent === null));
        const hand = made.filter((each) => each.sent !== null);
        if (hand.length) return { hand, others };
      }
      return { hand: [], others };
    });
  }

  async setReason(ids: readonly string[], reason: Reason): Promise<void> {
    await this.record((record) => record.setReason(ids, reason));
  }

  /** Records what the user did with a message; false if no message of this id was sent. */
  async reacted(id: string, reaction: Reaction): Promise<boolean> {
    return this.record((record) => {
      const known = record.react(id, reaction);
      const channel = record.find(id)?.channel;
      if (known && channel && reaction === "unsubscribed") record.allow({ channel, granted: false, version: "unsubscribed", time: this.clock() });
      return known;
    });
  }

  async allow(channel: string, granted: boolean, version: string): Promise<Allowance> {
    const made = { channel, granted, version, time: this.clock() };
    await this.record((record) => record.allow(made));
    return made;
  }

  /** This device's arm of an A/B test, drawn at the first call and never sent. */
  async arm(experiment: string): Promise<"a" | "b"> {
    if (!/^[a-z0-9_-]{1,40}$/.test(experiment)) throw new InputError(`\`experiment\` must be a name of a-z, 0-9, - and _, got ${String(experiment).slice(0, 80)}`);
    return (await this.record((record) => record.coin(`arm:${experiment}`, tossed()))) < 0.5 ? "a" : "b";
  }

  private judge(record: DeliveryRecord, terms: Terms): Judge {
    return new Judge(record, terms, this.agreed(), this.calendar);
  }
}

function termsOf({ senders, channels, control, expected }: MessengerTerms): Terms {
  const known = channelsOf(channels);
  for (const name of [...senders, ...Object.keys(expected)]) if (!known.has(name)) throw new InputError(`\`channel\` must be one of ${[...known.keys()].join(", ")}, got ${shown(name)}`);
  if (!(control >= 0 && control < 1)) throw new InputError(`\`control\` must be a share from 0 and below 1, got ${shown(control)}`);
  for (const rate of Object.values(expected)) if (!(rate > 0 && rate < 1)) throw new InputError(`\`expected\` must be shares above 0 and below 1, got ${shown(rate)}`);
  return { senders, channels: known, control, expected };
}
