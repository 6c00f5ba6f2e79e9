import { Calendar } from "../../src/delivery/calendar.js";
import { channelsOf, type Channel } from "../../src/delivery/message.js";
import { messageOf } from "../../src/delivery/message.js";
import { hold } from "../../src/delivery/rules.js";
import type { Delivery } from "../../src/delivery/record.js";
import { eventOf, type Row } from "../../src/events.js";
import { loyalty } from "../../src/loyalty/loyalty.js";
import { pastOf, visitsOf } from "../../src/store/activity.js";
import { tuning } from "../../src/recommend/adaptation/tuning.js";
import { readSurvey } from "../../src/rounds/survey.js";
import { surveyAnswers } from "../../src/rounds/survey_answers.js";
import { environment, equal, ok, test } from "../harness.js";

const file = async () => JSON.parse(await environment().readRepository("docs/vectors/behaviour.json")) as any;
const camel = (name: string) => name.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());

/** Figures as Python has them, numbers to seven digits. */
function same(actual: Record<string, unknown>, expected: Record<string, unknown>, why: string): void {
  for (const [name, value] of Object.entries(expected)) {
    const own = actual[camel(name)];
    if (typeof value === "number") ok(typeof own === "number" && Math.abs(own - value) <= 1e-7 * Math.max(1, Math.abs(value)), `${why}, ${name}: got ${String(own)}, expected ${value}`);
    else equal(own, value, `${why}, ${name}`);
  }
}

const rowsOf = (events: any[]): Row[] =>
  events.map((each, place) => ({ ...eventOf({ kind: each.kind, item: each.item, value: each.value, props: each.props }), id: String(place), seq: place + 1, time: each.time, received: each.time, imported: 0 }));

test("behaviour.json: days, weeks and hours in the user's time zone", async () => {
  for (const [zone, time, day, week, hour] of (await file()).moments) {
    const found = new Calendar(zone).moment(time);
    equal([found.day, found.week], [day, week], `${zone} ${time}`);
    ok(Math.abs(found.hour - hour) < 1e-3, `${zone} ${time}: ${found.hour} is not ${hour}`);
  }
});

test("behaviour.json: loyalty and tuning", async () => {
  const { events, loyalty: cases, visits, tuning: tuned } = await file();
  const past = pastOf(rowsOf(events), "amount");
  equal(visitsOf(past.active).map(([start]) => start), visits);
  for (const { now, zone, first, figures } of cases) same(loyalty(past, now, new Calendar(zone), first) as never, figures, `${zone} ${now}`);
  for (const { usual, lately, now, found } of tuned) same(tuning(visits, usual, lately, now) as never, found, JSON.stringify([usual, lately, now]));
});

test("behaviour.json: caps, quiet hours and pace", async () => {
  const { holds, zone } = await file();
  const calendar = new Calendar(zone);
  for (const { channel, past, now, hold: expected } of holds) {
    const before = past.map(([time, liked]: [number, boolean | null]) => ({ time, settled: time, moment: calendar.moment(time), liked }));
    const held = hold(channelsOf().get(channel) as Channel, before, now, calendar);
    equal(held && [held.reason, Number(held.until.toPrecision(8))], expected && [expected[0], Number(expected[1].toPrecision(8))], `${channel} ${past.length} ${now}`);
  }
});

test("behaviour.json: answers to a survey", async () => {
  const { events, survey, zone } = await file();
  const settings = Object.fromEntries(Object.entries(survey.settings).filter(([name]) => name !== "shares"));
  const deliveries = survey.deliveries.map(({ channel, sent, reaction }: any): Delivery => ({ message: messageOf({ id: "new-1", title: "A book" }), reason: "sent", channel, given: sent, due: null, sent, reaction }));
  const found = surveyAnswers(readSurvey(settings as never), { events: rowsOf(events), deliveries, coins: survey.coins, first: survey.first }, new Calendar(zone), survey.now);
  const given = Object.fromEntries([...found].filter(([, value]) => value).map(([name, value]) => [name, Number(value.toPrecision(8))]));
  equal(Object.fromEntries(Object.entries(given).sort()), Object.fromEntries(Object.entries(survey.answers).sort()));
});
