import { Interests } from "../../src/recommend/interests.js";
import { Recommender, type RecommendOptions } from "../../src/recommend/recommender.js";
import { expand } from "../../src/models/compact.js";
import { fromBase64 } from "../../src/records/bytes.js";
import type { Rng } from "../../src/recommend/exploration.js";
import { weightingIn } from "../store/events.test.js";
import { environment, equal, ok, test } from "../harness.js";
import { eventOf, type Row } from "../../src/events.js";

const file = async () => JSON.parse(await environment().readRepository("docs/vectors/recommend.json")) as any;
const near = (actual: number, expected: number, why: string) => ok(Math.abs(actual - expected) <= 1e-5 * Math.max(1, Math.abs(expected)), `${why}: ${actual} is not ${expected}`);

async function device(items: string[], domains: string[], given: any, rng?: Rng): Promise<{ made: Recommender; interests: Interests }> {
  const rows: Row[] = given.events.map((each: any, place: number) => ({
    ...eventOf({ kind: each.kind, item: each.item, value: each.value }), id: String(place), seq: place + 1, time: each.at, received: each.at, imported: 0,
  }));
  const store = { rows, generation: 0, reset: 0, clock: () => given.now as number };
  const interests = new Interests(store, items, weightingIn(given.preset), given.recent_half_life_days);
  return { made: await Recommender.of(await expand(fromBase64(given.model), 2 ** 20), items, interests, () => ({}), domains, rng), interests };
}

const NAMES: Record<string, string> = { filter_already_liked_items: "filterAlreadyLikedItems", filter_items: "filterItems" };
const options = (given: any): RecommendOptions => Object.fromEntries(Object.entries(given).filter(([name]) => name !== "n").map(([name, value]) => [NAMES[name] ?? name, value]));

function same(actual: readonly { item: string; score: number; source: string; reason: string }[], expected: any[], why: string): void {
  equal(actual.map(({ item, source, reason }) => [item, source, reason]), expected.map(([item, , source, reason]) => [item, source, reason]), why);
  actual.forEach(({ score }, place) => near(score, expected[place][1], `${why}, ${place}`));
}

test("recommend: the histories, lists, reasons, likenesses and questions of Python's device", async () => {
  const { items, domains, cases } = await file();
  for (const given of cases) {
    const drawn: number[] = [...given.exploring.drawn];
    let recorded = false;
    const next = () => (recorded ? (drawn.shift() as number) : 0.5);
    const { made, interests } = await device(items, domains, given, { random: next, exponential: next, choice: (_, __, count) => Array.from({ length: count }, next) });
    const look = interests.look();
    equal([...look.recent.indices], given.history.rows, given.what);
    look.recent.weights.forEach((weight, place) => near(weight, given.history.weights[place], given.what));
    equal([...look.unwanted], given.unwanted, given.what);
    equal([...look.resting], given.resting, given.what);
    const alike = (found: readonly { item: string; score: number }[], expected: [string, number][]) => {
      equal(found.map((each) => each.item), expected.map(([name]) => name), given.what);
      found.forEach(({ score }, place) => near(score, expected[place][1], given.what));
    };
    await made.ready({ context: ["unknown"] });
    for (const list of given.lists) same(made.recommend(list.options.n, options(list.options)), list.items, `${given.what}, ${JSON.stringify(list.options).slice(0, 80)}`);
    for (const why of given.explained) {
      const found = made.explain(why.item, { context: why.context });
      [found.score, found.rest].forEach((score, place) => near(score, [why.score, why.rest][place], given.what));
      equal(found.text, why.text, given.what);
      equal(found.contributions.map(({ item, kind }) => [item, kind]), why.contributions.map((each: any) => each.slice(0, 2)), given.what);
      found.contributions.forEach(({ score, linked }, place) => [score, linked].forEach((each, at) => near(each, why.contributions[place][2 + at], given.what)));
    }
    for (const { item, like } of given.similar) alike(await made.similarItems(item, 6), like);
    for (const { items: basket, domain, like } of given.goes_with) alike(await made.goesWith(basket, 6, { domain: domain ?? undefined }), like);
    for (const { lists, context, best } of given.rank_lists) alike(await made.rankLists(lists, 4, { context }), best);
    equal(await made.questions(4), given.questions, given.what);
    recorded = true;
    same(made.recommend(10, options(given.exploring.options)), given.exploring.items, `${given.what}, exploring`);
    equal(drawn.length, 0, "all random numbers are used, in their order");
  }
});
