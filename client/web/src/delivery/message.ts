/** Message: what the app or a campaign wants to send to the user; and the channels on which it may. */

import { InputError } from "../errors.js";
import { checkText, shown } from "../events.js";

const LONGEST = { id: 128, title: 200, body: 4000, item: 512, link: 2000, campaign: 128 } as const;

/** One message to the user. */
export interface Message {
  /** The app's own id; each id is decided on once. */
  readonly id: string;
  /** One line. */
  readonly title: string;
  readonly body: string;
  /** The item of the app's catalogue that it is about; may be empty. */
  readonly item: string;
  /** The address that it links to; may be empty. */
  readonly link: string;
  /** The user waits for it, as for a receipt: it needs consent, but no rule delays it. */
  readonly transactional: boolean;
  /** Time after which it isn't sent, seconds since 1970; null: a week after the app gave it. */
  readonly expires: number | null;
  /** Id of the campaign that it comes from; empty: it comes from the app. */
  readonly campaign: string;
}

export type MessageInput = Pick<Message, "id" | "title"> & Partial<Message>;

/** The message, checked. */
export function messageOf(given: MessageInput): Message {
  const message: Message = { body: "", item: "", link: "", transactional: false, expires: null, campaign: "", ...given };
  for (const [name, most] of Object.entries(LONGEST)) {
    const text = message[name as keyof typeof LONGEST];
    checkText(name, text, name === "id" || name === "title" ? 1 : 0, most);
    // eslint-disable-next-line no-control-regex
    if (name !== "body" && /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/.test(text)) throw new InputError(`\`${name}\` of a message must be printable`);
  }
  if (typeof message.transactional !== "boolean") throw new InputError(`\`transactional\` must be true or false, got ${shown(message.transactional)}`);
  const { expires } = message;
  if (expires !== null && !(typeof expires === "number" && expires > 0 && expires < 1e11)) throw new InputError(`\`expires\` must be seconds since 1970, got ${shown(expires)}`);
  return message;
}

/** Hours of the user's day in which nothing is sent; `end` below `start` is on the next morning. */
export interface Quiet {
  readonly start: number;
  readonly end: number;
}

/** A way to the user. */
export interface Channel {
  readonly name: string;
  /** Messages in one calendar day of the user's; null: any number. */
  readonly perDay: number | null;
  /** Messages in one calendar week of the user's, from Monday; null: any number. */
  readonly perWeek: number | null;
  /** Hours in which nothing is sent on it; null: messages on it never disturb. */
  readonly quiet: Quiet | null;
  /** Whether it collects messages and sends them as one. */
  readonly bundles: boolean;
}

/** What a messenger's decisions depend on, as plain values. */
export interface MessengerTerms {
  readonly senders: readonly string[];
  readonly channels: readonly Channel[];
  readonly control: number;
  readonly expected: Readonly<Record<string, number>>;
}

const NIGHT: Quiet = { start: 21, end: 8 };
const channel = (name: string, perDay: number | null, perWeek: number | null, quiet: Quiet | null = NIGHT, bundles = false): Channel => ({ name, perDay, perWeek, quiet, bundles });

/** The usual ways. */
const CHANNELS = [
  channel("feed", null, null, null),
  channel("notification", 2, 7),
  channel("digest", 1, 7, NIGHT, true),
  channel("email", 1, 3),
  channel("sms", 1, 2),
  channel("chat", 1, 4),
];

/** The usual channels, with others or in the place of them those of the app. */
export function channelsOf(given: readonly Channel[] = []): ReadonlyMap<string, Channel> {
  for (const { name, perDay, perWeek, quiet } of given) {
    if (!/^[A-Za-z_]\w*$/.test(name)) throw new InputError(`\`name\` of a channel must be a word, got ${shown(name)}`);
    for (const cap of [perDay, perWeek]) if (cap !== null && !(Number.isInteger(cap) && cap >= 0)) throw new InputError(`caps must be whole numbers from 0, or null, got ${shown(cap)}`);
    const hour = (at: unknown) => typeof at === "number" && at >= 0 && at < 24;
    if (quiet && !(hour(quiet.start) && hour(quiet.end) && quiet.start !== quiet.end))
      throw new InputError(`quiet hours must be two different hours of a day, got ${quiet.start} to ${quiet.end}`);
  }
  return new Map([...CHANNELS, ...given].map((each) => [each.name, each]));
}

/** Whether an hour of the day is quiet. */
export function quietAt(quiet: Quiet | null, hour: number): boolean {
  if (!quiet) return false;
  const { start, end } = quiet;
  return start < end ? start <= hour && hour < end : hour >= start || hour < end;
}
