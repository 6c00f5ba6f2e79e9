/** Survey: the counts that a server asks of devices for one week, and the bound of each device's answers. */

import { InputError } from "../errors.js";
import type { Json } from "../records/canonical.js";
import { Fields } from "../records/fields.js";

export const RETENTION_DAYS = [1, 7, 30] as const;
/** Most messages of one channel that are counted in one week. */
export const MOST_SENT = 5;
/** Most watched items that one device answers for; of more it draws this many. */
export const MOST_ITEMS = 5;

/** Most baskets of one week, days from one purchase to the next, and minutes of plays that are counted. */
export const [MOST_BASKETS, MOST_INTERVAL, MOST_MINUTES] = [5, 90, 1260];
/** Blocks that are asked where a survey names them, and their questions. */
const CHOSEN: Readonly<Record<string, readonly string[]>> = {
  conversion: ["saw", "converted", "bought"],
  repurchase: ["customers", "repeated", "interval"],
  spending: ["spent", "baskets", "revenue"],
  watching: ["watched", "minutes", "played", "finished"],
};
/** What an A/B test may compare, and the answer that it is. */
const OUTCOMES: Readonly<Record<string, string>> = {
  days: "days", conversion: "converted", purchase: "bought", repurchase: "repeated", revenue: "revenue", watch_minutes: "minutes", completion: "finished",
};

/** Questions that share one bound and one share of the budget. */
export interface SurveyBlock {
  readonly name: string;
  readonly questions: readonly string[];
  /** Largest L2 norm of one device's answers. */
  readonly norm: number;
}

/** The questions of one week; public, in the signed plan. */
export interface Survey {
  readonly firstDay: string;
  readonly days: readonly string[];
  readonly channels: readonly string[];
  readonly items: readonly string[];
  readonly experiments: readonly string[];
  /** A/B test -> the answer that it compares; `days` where none is named. */
  readonly outcomes: Readonly<Record<string, string>>;
  /** Most money of one device that is counted in one week. */
  readonly mostSpent: number;
  readonly blocks: readonly SurveyBlock[];
  /** All questions in order: the catalogue of a survey. */
  readonly questions: readonly string[];
}

const NAME = /^[a-z0-9_-]{1,40}$/;

/** The day that is so many days after another, ISO 8601. */
export function dayAfter(day: string, days: number): string {
  return new Date(Date.parse(`${day}T00:00:00Z`) + 86_400_000 * days).toISOString().slice(0, 10);
}

/** Reads a survey from a plan's settings. */
export function readSurvey(settings: { readonly [key: string]: Json }): Survey {
  const fields = Fields.of("a survey", settings, ["first_day"], ["channels", "items", "experiments", "looks", "outcomes", "asks", "most_spent", "shares"]);
  const firstDay = fields.text("first_day");
  if (!/^\d{4}-\d{2}-\d{2}$/.test(firstDay) || Number.isNaN(Date.parse(firstDay)) || new Date(`${firstDay}T00:00:00Z`).getUTCDay() !== 1 || dayAfter(firstDay, 0) !== firstDay) {
    throw new InputError(`first_day must be a Monday, got ${firstDay.slice(0, 80)}`);
  }
  const names = (name: string): readonly string[] => {
    const found = fields.has(name) ? fields.texts(name, 200) : [];
    if (new Set(found).size < found.length || (name !== "items" && !found.every((each) => NAME.test(each)))) throw new InputError(`${name} must be at most 200, each once`);
    return found;
  };
  const [channels, items, experiments, asks] = [names("channels"), names("items"), names("experiments"), names("asks")];
  const mostSpent = fields.has("most_spent") ? fields.real("most_spent") : 100;
  const chosen = fields.has("outcomes") ? Object.entries(fields.object("outcomes")) : [];
  if (!(mostSpent > 0) || !asks.every((each) => Object.hasOwn(CHOSEN, each)) || !chosen.every(([, each]) => Object.hasOwn(OUTCOMES, String(each))))
    throw new InputError("asks, outcomes and most_spent must be what a survey has");
  const outcomes = Object.fromEntries(chosen.map(([name, each]) => [name, OUTCOMES[each as string]]));
  const days = Array.from({ length: 7 }, (_, at) => dayAfter(firstDay, at));
  const both = channels.flatMap((name) => [`sent:${name}`, `answered:${name}`]);
  const retention = RETENTION_DAYS.flatMap((n) => [`eligible:${n}`, `exact:${n}`, `after:${n}`]);
  const blocks: SurveyBlock[] = [
    { name: "active", questions: days.map((day) => `active:${day}`), norm: Math.sqrt(7) },
    { name: "reach", questions: ["week", "month"], norm: Math.sqrt(2) },
    // Day 1 and day 7 after one first day can fall into one week, and day 30 only without them.
    { name: "retention", questions: retention, norm: Math.sqrt(6) },
    { name: "delivery", questions: both, norm: Math.sqrt(Math.max(1, both.length)) },
    { name: "satisfaction", questions: ["rated", "verdict"], norm: Math.sqrt(2) },
    { name: "online", questions: ["shown", "hr@10", "ndcg@10"], norm: Math.sqrt(3) },
    // A user is in one of the two groups.
    { name: "control", questions: ["control", "control_days", "treated", "treated_days"], norm: Math.sqrt(2) },
    { name: "items", questions: items.map((item) => `item:${item}`), norm: Math.sqrt(MOST_ITEMS) },
    ...Object.entries(CHOSEN).map(([name, questions]) => ({ name, questions: asks.includes(name) ? questions : [], norm: Math.sqrt(questions.length) })),
    ...experiments.map((name) => ({
      name: `experiment:${name}`,
      questions: ["a", "b"].flatMap((arm) => ["users", "outcome", "square"].map((what) => `${what}:${name}:${arm}`)),
      norm: Math.sqrt(3), // a user is in one of the two arms
    })),
  ].filter(({ questions }) => questions.length);
  return { firstDay, days, channels, items, experiments, outcomes, mostSpent, blocks, questions: blocks.flatMap(({ questions }) => questions) };
}

/** Answers by question as a history over the survey's catalogue; an answer of 0 is left out. */
export function answersAsHistory(answers: ReadonlyMap<string, number>, { questions }: Survey): { indices: Int32Array; weights: Float32Array; nItems: number } {
  const given = questions.flatMap((question, place) => {
    const answer = answers.get(question) ?? 0;
    return answer > 0 ? [[place, Math.min(answer, 1)] as const] : [];
  });
  return { indices: Int32Array.from(given, ([place]) => place), weights: Float32Array.from(given, ([, answer]) => answer), nItems: questions.length };
}
