/**
 * Judge: decides what to do with a message now, by consent, rules and choice. It records that and sends nothing.
 *
 *     consent -> expiry -> control group -> the user's channels -> rules -> choice of channel and hour -> record
 */

import { DAY } from "../clock.js";
import type { Calendar } from "./calendar.js";
import { chooseChannel, choosePart, partOf } from "./choice.js";
import { quietAt, type Channel } from "./message.js";
import type { Delivery, DeliveryRecord } from "./record.js";
import { hold, type Hold, type Reason } from "./rules.js";

const HOURS = Array.from({ length: 24 }, (_, hour) => hour);

/** What decisions on messages depend on, beside the record. */
export interface Terms {
  /** The channels that the app can send on. */
  readonly senders: readonly string[];
  readonly channels: ReadonlyMap<string, Channel>;
  /** The share of devices, the control group, that get only transactional messages. */
  readonly control: number;
  /** Channel -> the share of deliveries that users react to, where the app knows it. */
  readonly expected: Readonly<Record<string, number>>;
}

export class Judge {
  constructor(
    private readonly record: DeliveryRecord,
    private readonly terms: Terms,
    /** Whether the user has agreed to `messaging`. */
    private readonly agreed: boolean,
    private readonly calendar: Calendar,
    private readonly random: () => number = Math.random,
  ) {}

  /** The channels that the user allows and the app can send on, sorted. */
  open(): string[] {
    return this.record.channels().filter((name) => this.terms.senders.includes(name));
  }

  /** Decides on one message and records it. If `sent` is set, the caller has to hand the message over now. */
  decide(delivery: Delivery, now: number): Delivery {
    const made = this.decision(delivery, now);
    this.record.put(made, made.sent === null ? null : this.calendar.moment(now));
    return made;
  }

  /** Decides on the due messages of one channel's bundle: all go now as one delivery, or all wait. */
  bundle(ready: readonly Delivery[], now: number): Delivery[] {
    const { channel } = ready[0];
    const ways = this.open().filter((name) => name === channel);
    const held = ways.length ? this.held(channel, now) : null;
    return ready.map((each) => {
      const barred = this.whyNever(each, ways, now);
      const made = barred ? decideNever(each, barred) : held ? decideLater(each, channel, { reason: "bundled", until: held.until }) : decideNow(each, channel, now);
      this.record.put(made, made.sent === null ? null : this.calendar.moment(now), `${channel}/${now}`);
      return made;
    });
  }

  /** Why a message will never be sent; null if it may be. */
  private whyNever({ message }: Delivery, ways: readonly string[], now: number): Reason | null {
    if (!this.agreed) return "no consent";
    if (message.expires !== null && now >= message.expires) return "expired";
    if (!message.transactional && this.record.control(this.terms.control)) return "control group";
    return ways.length ? null : "no channel";
  }

  private decision(delivery: Delivery, now: number): Delivery {
    const hurried = delivery.message.transactional;
    const ways = this.open().filter((name) => !(hurried && this.channel(name).bundles));
    const barred = this.whyNever(delivery, ways, now);
    if (barred) return decideNever(delivery, barred);
    if (hurried) return decideNow(delivery, this.best(ways, now), now);
    const holds = ways.map((name) => ({ name, held: this.held(name, now) }));
    const free = holds.filter(({ held }) => !held).map(({ name }) => name);
    if (free.length) return this.sendOrWait(delivery, this.best(free, now), now);
    const first = holds.reduce((one, other) => ((other.held as Hold).until < (one.held as Hold).until ? other : one));
    return decideLater(delivery, first.name, first.held as Hold);
  }

  /** Sends now, or waits for a part of the day in which this user reacts more; once, in the message's first day. */
  private sendOrWait(delivery: Delivery, channel: string, now: number): Delivery {
    const { expires } = delivery.message;
    const waited = delivery.reason === "better later" || now - delivery.given >= DAY;
    let later = waited ? now : this.better(channel, now);
    if (expires !== null && later >= expires) later = now;
    if (this.channel(channel).bundles) {
      const due = this.record.bundledUntil(channel) ?? later;
      // The bundle is due after the message expires: this one message doesn't wait for it.
      return decideLater(delivery, channel, { reason: "bundled", until: expires !== null && due >= expires ? later : due });
    }
    return later <= now ? decideNow(delivery, channel, now) : decideLater(delivery, channel, { reason: "better later", until: later });
  }

  /** When the part of the day begins in which this user should react most; `now` if it is the present one. */
  private better(channel: string, now: number): number {
    const { quiet } = this.channel(channel);
    const here = partOf(this.calendar.hour(now));
    const others = new Set(HOURS.filter((hour) => !quietAt(quiet, hour)).map(partOf));
    others.delete(here);
    const part = choosePart([here, ...[...others].sort()], this.record.trials(now), this.random);
    return part === here ? now : this.calendar.first((hour) => partOf(hour) === part && !quietAt(quiet, hour), now);
  }

  private best(channels: readonly string[], now: number): string {
    return chooseChannel(channels, this.record.trials(now), this.terms.expected, this.random);
  }

  private held(name: string, now: number): Hold | null {
    return hold(this.channel(name), this.record.past(name), now, this.calendar);
  }

  private channel(name: string): Channel {
    return this.terms.channels.get(name) as Channel;
  }
}

function decideNever(delivery: Delivery, reason: Reason): Delivery {
  return { ...delivery, reason, due: null, sent: null };
}

function decideLater(delivery: Delivery, channel: string, { reason, until }: Hold): Delivery {
  const { expires } = delivery.message;
  return { ...delivery, reason, channel, due: expires === null ? until : Math.min(until, expires), sent: null };
}

/** Until the channel has taken it, its reason is `lost`. */
function decideNow(delivery: Delivery, channel: string, now: number): Delivery {
  return { ...delivery, reason: "lost", channel, due: null, sent: now };
}
