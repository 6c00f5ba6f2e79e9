/** Loyalty answers: what a device answers to a survey's blocks about buying and watching. Each is a number from 0 to 1. */

import type { Row } from "../events.js";
import { visitsOf } from "../store/activity.js";
import { dayAfter, MOST_BASKETS, MOST_INTERVAL, MOST_MINUTES, type Survey } from "./survey.js";

/** A play of this share of its item's length is a whole one; days of a year. */
const [FINISHED, YEAR] = [0.9, 365];

/** An event of known time, and its day where the user is. */
export interface Known {
  readonly time: number;
  readonly day: string;
  readonly row: Row;
}

/** The answers to the blocks that a survey may choose, of its week's events and of all, ascending in time. */
export function loyaltyAnswers(survey: Survey, week: readonly Known[], all: readonly Known[]): Map<string, number> {
  return new Map([...conversion(week), ...repurchase(survey, all), ...spending(week, survey.mostSpent), ...watching(week)]);
}

function conversion(week: readonly Known[]): [string, number][] {
  const seen = new Set<string>();
  let [bought, converted] = [false, false];
  for (const { row: { kind, item, props } } of week) {
    if (kind === "impression" && Number.isInteger(props?.position)) seen.add(item);
    if (kind === "purchase") [bought, converted] = [true, converted || seen.has(item)];
  }
  return [["saw", Number(seen.size > 0)], ["converted", Number(converted)], ["bought", Number(bought)]];
}

function repurchase({ days: week }: Survey, all: readonly Known[]): [string, number][] {
  const first = dayAfter(week[6], -YEAR);
  const bought = all.filter(({ row, day }) => row.kind === "purchase" && first < day && day <= week[6]).map(({ day }) => Date.parse(day) / 86_400_000);
  const days = [...new Set(bought)].sort((one, other) => one - other);
  if (days.length < 2) return [["customers", days.length]];
  const apart = (days[days.length - 1] - days[0]) / (days.length - 1);
  return [["customers", 1], ["repeated", 1], ["interval", Math.min(apart, MOST_INTERVAL) / MOST_INTERVAL]];
}

function spending(week: readonly Known[], most: number): [string, number][] {
  let total = 0;
  const times: number[] = [];
  for (const { time, row: { kind, props } } of week) {
    const amount = numberOf(props?.amount);
    if (amount === null || (kind !== "purchase" && kind !== "return")) continue;
    if (kind === "purchase") times.push(time);
    total += kind === "purchase" ? amount : -amount;
  }
  if (!times.length) return [];
  return [["spent", 1], ["baskets", Math.min(visitsOf(times).length, MOST_BASKETS) / MOST_BASKETS], ["revenue", Math.min(Math.max(total, 0), most) / most]];
}

function watching(week: readonly Known[]): [string, number][] {
  const played = week.filter(({ row }) => row.kind === "play" && row.value);
  if (!played.length) return [];
  const minutes = played.reduce((sum, { row }) => sum + (row.value as number), 0) / 60;
  const whole = played.flatMap(({ row }) => {
    const length = numberOf(row.props?.length);
    return length ? [Number((row.value as number) >= FINISHED * length)] : [];
  });
  const finished: [string, number][] = whole.length ? [["played", 1], ["finished", whole.reduce((sum, each) => sum + each, 0) / whole.length]] : [];
  return [["watched", 1], ["minutes", Math.min(minutes, MOST_MINUTES) / MOST_MINUTES], ...finished];
}

function numberOf(value: unknown): number | null {
  return typeof value === "number" ? value : null;
}
