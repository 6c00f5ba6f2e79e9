/**
 * Panel: the log of a user who shares it openly, for a panel that everybody may read. Palate itself never sends it.
 *
 * It needs the purpose `panel`, which is off until the user agrees, and on which nothing else depends. Nothing in it is clipped
 * or noised: it is public once it is published.
 */

import { SET_CLOCK } from "./clock.js";
import type { Look } from "./recommend/interests.js";

/** What a user should be told before they agree, in English; `{app}` stands for whoever is responsible. */
export const PANEL_WORDS = `\
Share openly what you like

If you agree, {app} makes public which items of its catalogue you looked at, liked or bought, and on which day.

What: one line for each such item that says something about your taste, with the day of the last time (UTC). Not
shared: what you rejected, what isn't in the public catalogue, times of the day, how often and how much, searches,
messages. Your name, your account and the number of this device are not part of it. Still, whoever knows some of what
you did may recognise you by it, and then learns the rest.

With whom: anybody. {app} makes recommendations better with it, for everybody, and may publish it. Anybody may then
read it, copy it and use it for purposes of their own. The noise that protects what this device otherwise sends does
not protect it.

It is your choice: it is off unless you turn it on, nothing else depends on it, and {app} works the same without it.
What else you agreed to, such as training with noise, doesn't change.

You can stop at any time, as easily as you began, without a reason and without a disadvantage. From then on this device
hands over nothing more, and {app} leaves you out of its next panel and of what is made of it. What was published
before can't be called back: copies of it stay, and so do recommendations and models that were made of it.
`;

/** What one user shares openly: items of the public catalogue, each once, and the day of the last time. */
export interface OpenLog {
  /** Ids, in the order of the catalogue. */
  readonly items: readonly string[];
  /** Of each, such as "2026-11-27", UTC; "" where it isn't known. */
  readonly days: readonly string[];
  /** Version of the text that the user agreed to. */
  readonly version: string;
  /** The log as the simulator and `palate serve panel` read it, with the columns item_id and timestamp. */
  readonly csv: string;
}

/** The log of what counts for a user's taste. */
export function openLogOf(look: Look, catalogue: readonly string[], version: string, now: number): OpenLog {
  const items = Array.from(look.history.indices, (row) => catalogue[row]);
  const days = Array.from(look.latest, (time) => (time >= SET_CLOCK && time <= now ? new Date(1000 * time).toISOString().slice(0, 10) : ""));
  const cell = (text: string) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const csv = ["item_id,timestamp", ...items.map((item, place) => `${cell(item)},${days[place]}`)].map((line) => `${line}\n`).join("");
  return { items, days, version, csv };
}
