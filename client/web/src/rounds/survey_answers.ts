/**
 * Survey answers: this device's answers to a survey, from its own events and messages.
 *
 * Each answer is a number from 0 to 1, whatever the user did. They leave this device clipped and noised, as in training.
 */

import type { Calendar } from "../delivery/calendar.js";
import type { Delivery } from "../delivery/record.js";
import type { Row } from "../events.js";
import { isAnswer } from "../kinds.js";
import { loyaltyAnswers, type Known } from "./loyalty_answers.js";
import { dayAfter, MOST_ITEMS, MOST_SENT, RETENTION_DAYS, type Survey } from "./survey.js";

const GOOD: readonly string[] = ["opened", "clicked", "bought"];
/** Seconds after an impression within which a reaction counts; the length of lists; days of a month. */
const [TAKEN_WITHIN, CUTOFF, MONTH] = [86_400, 10, 30];

/** The data that answers are computed from. */
export interface Behaviour {
  readonly events: readonly Row[];
  readonly deliveries: readonly Delivery[];
  /** Random numbers that were tossed, by name: of the control group, and of arms of experiments. */
  readonly coins: Readonly<Record<string, number>>;
  /** Time of the user's first event, if it was deleted since. */
  readonly first: number | null;
}

/** The answers by question; a missing one is 0. */
export function surveyAnswers(survey: Survey, { events, deliveries, coins, first }: Behaviour, calendar: Calendar, now: number): Map<string, number> {
  const known = events
    .flatMap((row): Known[] => (row.time === null ? [] : [{ time: Math.min(row.time, now), day: calendar.moment(Math.min(row.time, now)).day, row }]))
    .sort((one, other) => one.time - other.time);
  const week = new Set(survey.days);
  const thisWeek = known.filter(({ day }) => week.has(day));
  const days = [...new Set(known.filter(({ row }) => row.kind !== "impression").map(({ day }) => day))].sort();
  const active = days.filter((day) => week.has(day));
  const last = survey.days[6];
  const found = new Map(active.map((day) => [`active:${day}`, 1]));
  found.set("week", Number(active.length > 0));
  found.set("month", Number(days.some((day) => dayAfter(last, -MONTH) < day && day <= last)));
  retention(survey, [...new Set([...(first === null ? [] : [calendar.moment(first).day]), ...days])].sort(), found);
  const brought = deliveries.filter(({ reason, message, sent }) => reason === "sent" && !message.transactional && sent !== null && week.has(calendar.moment(sent).day));
  for (const channel of survey.channels) {
    const sent = brought.filter((each) => each.channel === channel).slice(0, MOST_SENT);
    found.set(`sent:${channel}`, sent.length / MOST_SENT);
    found.set(`answered:${channel}`, sent.filter(({ reaction }) => GOOD.includes(reaction)).length / MOST_SENT);
  }
  online(thisWeek, known, found);
  const verdicts = thisWeek.flatMap(({ row }) => (row.kind === "rate" && row.value !== null ? [row.value] : []));
  if (verdicts.length) {
    found.set("rated", 1);
    found.set("verdict", Math.min(Math.max((verdicts.reduce((sum, each) => sum + each, 0) / verdicts.length - 1) / 4, 0), 1));
  }
  const share = active.length / 7;
  if ("control share" in coins && "control" in coins) {
    const group = coins.control < coins["control share"] ? "control" : "treated";
    found.set(group, 1);
    found.set(`${group}_days`, share);
  }
  for (const item of itemsOf(survey, thisWeek)) found.set(`item:${item}`, 1);
  const chosen = loyaltyAnswers(survey, thisWeek, known);
  for (const [question, value] of chosen) if (survey.questions.includes(question)) found.set(question, value);
  chosen.set("days", share);
  for (const name of survey.experiments) {
    const outcome = chosen.get(survey.outcomes[name] ?? "days") ?? 0;
    const coin = coins[`arm:${name}`];
    if (coin === undefined) continue;
    const arm = coin < 0.5 ? "a" : "b";
    for (const [what, value] of [["users", 1], ["outcome", outcome], ["square", outcome ** 2]] as const) found.set(`${what}:${name}:${arm}`, value);
  }
  return found;
}

/** Answers for days 1, 7 and 30 after the first that fall into the week; two of them at most. */
function retention(survey: Survey, days: readonly string[], found: Map<string, number>): void {
  if (!days.length) return;
  const [start, end] = [survey.firstDay, dayAfter(survey.firstDay, 7)];
  const due = RETENTION_DAYS.filter((n) => start <= dayAfter(days[0], n) && dayAfter(days[0], n) < end).slice(0, 2);
  for (const n of due) {
    const wanted = dayAfter(days[0], n);
    found.set(`eligible:${n}`, 1);
    found.set(`exact:${n}`, Number(days.includes(wanted)));
    found.set(`after:${n}`, Number(days.some((day) => wanted <= day && day < end)));
  }
}

/** HR and NDCG of the week's lists of recommendations. A list begins with the impression at position 0. */
function online(thisWeek: readonly Known[], all: readonly Known[], found: Map<string, number>): void {
  const taken = new Map<string, number[]>();
  for (const { time, row } of all) if (isAnswer(row.kind, row.value)) taken.set(row.item, [...(taken.get(row.item) ?? []), time]);
  const lists: { position: number; good: boolean }[][] = [];
  for (const { time, row } of thisWeek) {
    const position = row.kind === "impression" ? row.props?.position : undefined;
    if (typeof position !== "number" || !Number.isInteger(position)) continue;
    if (position === 0 || !lists.length) lists.push([]);
    const next = taken.get(row.item)?.find((at) => at >= time);
    lists[lists.length - 1].push({ position, good: next !== undefined && next - time <= TAKEN_WITHIN });
  }
  if (!lists.length) return;
  const gain = (place: number) => 1 / Math.log2(place + 2);
  let [hits, gains] = [0, 0];
  for (const each of lists) {
    const ranks = each.filter(({ position, good }) => good && position >= 0 && position < CUTOFF).map(({ position }) => position);
    const relevant = Math.min(each.filter(({ good }) => good).length, CUTOFF);
    const ideal = Array.from({ length: relevant }, (_, place) => gain(place)).reduce((sum, value) => sum + value, 0);
    hits += Number(ranks.length > 0);
    gains += ideal ? ranks.reduce((sum, place) => sum + gain(place), 0) / ideal : 0;
  }
  found.set("shown", 1);
  found.set(`hr@${CUTOFF}`, hits / lists.length);
  found.set(`ndcg@${CUTOFF}`, Math.min(gains / lists.length, 1));
}

/** The survey's items on which the user has events; if there are too many, a random choice. */
function itemsOf(survey: Survey, thisWeek: readonly Known[]): string[] {
  const asked = new Set(survey.items);
  const did = [...new Set(thisWeek.filter(({ row }) => row.kind !== "impression" && asked.has(row.item)).map(({ row }) => row.item))];
  while (did.length > MOST_ITEMS) {
    // An even choice: a word of 32 bits among at most 200 items is uneven by less than one in ten million.
    did.splice(crypto.getRandomValues(new Uint32Array(1))[0] % did.length, 1);
  }
  return did;
}
