/**
 * Page: the user's own page, as one HTML file in their language: what they did here, what is recommended and why, what has left, what may
 * still leave, what they agreed to, which messages came and why, and what happens if they leave. It is Python's `Device.page`, with the
 * same words and the same style, made of what the device tells anyway.
 *
 *     import { page } from "@palate/web/page";
 *     frame.srcdoc = await page(device, { language: "de", titles: { "book-7": "Der Zauberberg" } });
 *
 * **Guarantees:** the page loads nothing, and runs nothing; whatever a title, an id or a reason holds, it is text.
 */

import style from "../../../palate_client/page/style.css";
import { PURPOSES, type Purpose } from "../consent.js";
import type { Device } from "../device.js";
import { muOf, deltaOf } from "../mechanism/accounting.js";
import type { Recommendation } from "../recommend/recommender.js";
import type { PrivacyReport } from "../hosting/host.js";
import type { RoundOf, Statement } from "../leaving/statement.js";
import { columns, gauge, shares } from "./charts.js";
import { clean, e, titled, written, type Child } from "./html.js";
import { languageOf, type Catalogue, type Language } from "./language.js";

const [EVENTS, SHOWN, ROUNDS, MESSAGES, TASTES, WEEKS, WEEK] = [12, 8, 12, 8, 8, 26, 7 * 86_400_000];
const WAITING = ["better later", "bundled", "quiet hours", "day's cap", "week's cap", "pace"];
const HANDED = ["sent", "failed", "lost"];

export interface PageOptions {
  /** A BCP 47 tag: English, German and Chinese are there. Or a catalogue of the app's own. By default the browser's first language. */
  readonly language?: string | Catalogue;
  /** Item -> its title; an item without one is named by its id. */
  readonly titles?: Readonly<Record<string, string>>;
  /** Item -> its tags, such as genres. */
  readonly tags?: Readonly<Record<string, string | readonly string[]>>;
}

interface Row {
  readonly kind: string;
  readonly item: string;
  readonly time?: number;
}

interface Told {
  readonly message: { readonly title: string };
  readonly reason: string;
  readonly channel?: string;
  readonly given: number;
  readonly sent?: number | null;
}

interface Facts {
  readonly report: PrivacyReport;
  readonly statement: Statement | null;
  readonly unstated: string;
  readonly events: readonly Row[];
  readonly deliveries: readonly Told[];
  readonly shown: readonly Recommendation[];
  readonly tastes: readonly (readonly [string, number])[];
}

/** The page of a device. Making it changes nothing. */
export async function page(device: Device, options: PageOptions = {}): Promise<string> {
  const language = await languageOf(options.language ?? globalThis.navigator?.language ?? "en");
  const facts = await factsOf(device, options.tags ?? {});
  const telling = new Telling(facts, language, options.titles ?? {});
  const sections = { did: telling.did, shown: telling.shown, left: telling.left, budget: telling.budget, agreed: telling.agreed, messages: telling.messages, leave: telling.leave };
  const links = Object.keys(sections).map((name) => e("li", {}, e("a", { href: `#${name}` }, language.text(`${name}.heading`))));
  const title = language.say("page.title", { app: titled(facts.report.app) });
  const body = e(
    "body",
    {},
    e(
      "header",
      {},
      e("a", { class: "skip", href: "#main" }, language.text("page.skip")),
      e("h1", {}, title),
      e("p", {}, language.text("page.lead")),
      e("nav", { "aria-label": language.text("page.sections") }, e("ul", {}, links)),
    ),
    e(
      "main",
      { id: "main", tabindex: "-1" },
      Object.entries(sections).map(([name, tell]) =>
        e("section", { id: name, "aria-labelledby": `${name}-heading` }, e("h2", { id: `${name}-heading` }, language.text(`${name}.heading`)), [...tell.call(telling)]),
      ),
    ),
    e("footer", {}, e("p", {}, language.text("page.lead")), e("p", {}, language.text("page.made", { when: language.moment(facts.report.time) }))),
  );
  const hash = btoa(String.fromCharCode(...new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(style)))));
  const policy = `default-src 'none'; style-src 'sha256-${hash}'; form-action 'none'; base-uri 'none'`;
  const head = e(
    "head",
    {},
    e("meta", { charset: "utf-8" }),
    e("meta", { "http-equiv": "Content-Security-Policy", content: policy }),
    e("meta", { name: "viewport", content: "width=device-width, initial-scale=1" }),
    e("title", {}, language.text("page.title", { app: clean(facts.report.app) })),
    e("style", {}, style),
  );
  return `<!DOCTYPE html>\n${written(e("html", { lang: language.tag, dir: language.direction }, head, body))}\n`;
}

/** What a page tells, by what the device tells anyway. */
async function factsOf(device: Device, tags: Readonly<Record<string, string | readonly string[]>>): Promise<Facts> {
  const report = await device.privacyReport();
  const lines = (await (await device.export()).text()).split("\n").filter(Boolean).map((line) => JSON.parse(line) as { type?: string });
  let [statement, unstated]: [Statement | null, string] = [null, ""];
  try {
    statement = await device.statement();
  } catch (error) {
    unstated = (error as Error).message;
  }
  let [shown, tastes]: [readonly Recommendation[], Facts["tastes"]] = [[], []];
  try {
    shown = await device.recommend(SHOWN, { explore: 0 });
    tastes = await tastesOf(device, tags);
  } catch (error) {
    if ((error as { code?: string }).code !== "input") throw error; // there is no model
  }
  const events = lines.filter(({ type }) => type === "event") as unknown as Row[];
  return { report, statement, unstated, events, deliveries: lines.filter(({ type }) => type === "delivery") as unknown as Told[], shown, tastes };
}

/** The parts of the taste with their shares: an item's weight is shared among its tags. */
async function tastesOf(device: Device, tags: Readonly<Record<string, string | readonly string[]>>): Promise<(readonly [string, number])[]> {
  const items = await device.catalogue();
  const { indices, weights } = await device.interests(items);
  const found = new Map<string, number>();
  indices.forEach((place, number) => {
    const own = Object.hasOwn(tags, items[place]) ? tags[items[place]] : [];
    const named = typeof own === "string" ? [own] : own;
    for (const tag of named) found.set(tag, (found.get(tag) ?? 0) + weights[number] / named.length);
  });
  const total = [...found.values()].reduce((sum, each) => sum + each, 0);
  if (!(total > 0)) return [];
  const best = [...found].map(([tag, weight]) => [tag, weight / total] as const).sort(([, one], [, other]) => other - one);
  const rest = best.slice(TASTES).reduce((sum, [, share]) => sum + share, 0);
  return rest > 0 ? [...best.slice(0, TASTES), ["", rest]] : best;
}

class Telling {
  constructor(
    private readonly facts: Facts,
    private readonly language: Language,
    private readonly titles: Readonly<Record<string, string>>,
  ) {}

  *did(): Generator<Child> {
    const { language, facts } = this;
    const { events } = facts;
    if (!events.length) return yield p(language.text("did.none"));
    yield p(language.text("did.events", { n: events.length }));
    const active = events.filter(({ kind, time }) => kind !== "impression" && time !== undefined).map(({ time }) => new Date(1000 * time!));
    if (active.length) {
      const first = active.reduce((one, other) => (other < one ? other : one));
      yield p(language.text("did.days", { n: new Set(active.map((date) => date.toDateString())).size, first: language.day(first) }));
    }
    if (facts.tastes.length) {
      yield e("h3", {}, language.text("did.interests"));
      const most = Math.max(...facts.tastes.map(([, share]) => share));
      yield shares(facts.tastes.map(([tag, share]) => [tag.trim() ? titled(tag) : language.text("did.other"), share / most, language.percent(share)]));
      yield note(language.text("did.interests.note"));
    }
    yield* this.weeks(active);
    yield e("h3", {}, language.text("did.kinds"));
    const counts = new Map<string, number>();
    for (const { kind } of events) counts.set(kind, (counts.get(kind) ?? 0) + 1);
    const sorted = [...counts].sort(([, one], [, other]) => other - one);
    yield shares(sorted.map(([kind, n]) => [this.kind(kind), n / sorted[0][1], language.number(n)]));
    yield e("h3", {}, language.text("did.latest"));
    const latest = events.slice(-EVENTS).sort((one, other) => (other.time ?? 0) - (one.time ?? 0));
    const rows = latest.map(({ item, kind, time }) => this.entry(this.title(item), [this.kind(kind), time === undefined ? null : ` · ${language.moment(time)}`]));
    yield e("ul", { class: "list" }, rows, this.earlier(events.length - EVENTS));
  }

  private *weeks(active: readonly Date[]): Generator<Child> {
    const monday = new Date(1000 * this.facts.report.time);
    monday.setHours(12, 0, 0, 0);
    monday.setDate(monday.getDate() - ((monday.getDay() + 6) % 7));
    const counts = Array.from({ length: WEEKS }, () => 0);
    for (const date of active) {
      const back = Math.ceil((monday.getTime() - new Date(date).setHours(12, 0, 0, 0)) / WEEK - 1e-3);
      if (back < WEEKS) counts[WEEKS - 1 - Math.max(back, 0)] += 1;
    }
    const since = counts.findIndex(Boolean);
    if (since < 0) return;
    const [drawn, begin] = [counts.slice(since), new Date(monday)];
    begin.setDate(begin.getDate() - 7 * (drawn.length - 1));
    yield e("h3", {}, this.language.text("did.weeks"));
    const label = this.language.text("did.weeks.picture", { n: drawn.length, most: Math.max(...drawn), latest: drawn[drawn.length - 1] });
    yield columns(drawn, label, [this.language.day(begin), this.language.day(monday)]);
  }

  *shown(): Generator<Child> {
    const { shown } = this.facts;
    if (!shown.length) return yield p(this.language.text("shown.none"));
    yield p(this.language.text("shown.lead"));
    yield e("ul", { class: "list" }, shown.map((each) => this.entry(this.title(each.item), this.reason(each))));
    yield note(this.language.text("shown.also"));
  }

  private reason({ source, because, reason }: Recommendation): Child {
    if (source === "exploration") return this.language.text("reason.new");
    if (!because.length) return this.language.text("reason.popular");
    const what = because.map(({ item, kind, domain }) => {
      const named = reason.includes(`${item} (`) && domain !== null ? this.language.say("reason.domain", { item: this.title(item), domain }) : this.title(item);
      return this.language.say(`reason.${kind}`, { item: named });
    });
    const together = /: people who have (it|them) often have this too$/.test(reason);
    return this.language.say(together ? "reason.together" : "reason.because", { n: because.length, what: this.language.listed(what) });
  }

  *left(): Generator<Child> {
    const { language } = this;
    const { report, statement, unstated } = this.facts;
    const rounds = statement?.rounds ?? [];
    if (unstated) yield this.problem(unstated);
    if (rounds.length) {
      const size = `${language.number(report.sent.reduce((sum, { bytes }) => sum + bytes, 0) / 1000, 1)} kB`;
      yield p(language.text("left.rounds", { n: rounds.length }), language.writing("space"), language.text("left.bytes", { n: report.sent.length, size }));
    } else if (!report.sent.length) yield p(language.text("left.nothing"));
    if (report.opened.length) yield p(language.say("left.opened", { n: report.opened.length, app: titled(report.app) }));
    const last = report.contacts[report.contacts.length - 1];
    if (last) yield p(language.text("left.contacts", { n: report.contacts.length, when: language.moment(last.time) }));
    if (report.refusals.length) yield p(language.text("left.refused", { n: report.refusals.length }));
    if (rounds.length) yield* this.rounds(rounds);
    yield note(language.text("left.never"), language.writing("space"), language.say("left.app", { app: titled(report.app) }));
  }

  private *rounds(rounds: readonly RoundOf[]): Generator<Child> {
    const { language } = this;
    const names = ["page.day", "left.for", "left.how", "left.cost"].map((key) => language.text(key));
    const limit = this.limitMu2();
    const rows = rounds.slice(-ROUNDS).reverse().map((each) =>
      e(
        "tr",
        { role: "row" },
        e("td", { class: "day", role: "cell" }, language.day(new Date(`${each.day}T12:00`))),
        e("td", { role: "cell" }, language.text(`left.${each.purpose ?? "unknown"}`)),
        e("td", { class: "how", role: "cell" }, language.text(each.contributed ? `left.dp.${each.dp}` : "left.dp.none")),
        e("td", { class: "number", role: "cell", "data-name": names[3] }, each.mu2 && limit ? language.percent(each.mu2 / limit) : language.text("left.unknown")),
      ),
    );
    const head = names.map((name, place) => e("th", { scope: "col", role: "columnheader", class: place === 3 ? "number" : null }, name));
    const table = e("table", { role: "table" }, e("thead", { role: "rowgroup" }, e("tr", { role: "row" }, head)), e("tbody", { role: "rowgroup" }, rows));
    yield e("div", { class: "scroll rounds" }, table);
    if (rounds.length > ROUNDS) yield note(language.text("page.earlier", { n: rounds.length - ROUNDS }));
  }

  *budget(): Generator<Child> {
    const { language } = this;
    const { report } = this.facts;
    const { spending } = report;
    if (report.problem) return yield this.problem(report.problem);
    const limit = this.limitMu2();
    if (!spending || !limit) return yield p(language.text("budget.none"));
    const bounded = spending.epsilon !== null;
    if (bounded) {
      const spent = Math.min(1, spending.mu2 / limit);
      const left = language.percent(1 - spent);
      const label = language.text("budget.gauge", { spent: language.percent(spent), left });
      yield gauge(spent, label, left, language.text("budget.left"));
      yield p(label);
    }
    yield p(language.text("budget.lead"));
    const atEnd = { right: this.rightOf(limit, spending.delta) };
    if (!spending.participations) yield p(language.text("budget.guess.most", atEnd));
    else if (!bounded) yield p(language.text("budget.guess.unbounded"));
    else {
      const right = this.rightOf(spending.mu2, spending.delta);
      yield p(language.text("budget.guess", { right }), language.writing("space"), language.text("budget.guess.end", atEnd));
      if (spending.conditions.length) {
        yield p(language.text("budget.relies"));
        yield e("ul", { class: "plain", lang: "en" }, spending.conditions.map((each) => e("li", {}, each)));
      }
    }
    const rounds = { rounds: spending.participations, most: spending.participationLimit };
    const exact = { epsilon: digits(spending.epsilon ?? 0), limit: digits(spending.limit), delta: String(spending.delta), ...rounds };
    const terms = { unit: report.unit, adjacency: report.adjacency, accountant: report.accountant, population: titled(spending.population) };
    yield e(
      "details",
      {},
      e("summary", {}, language.text("budget.small")),
      note(bounded ? language.text("budget.exact", exact) : language.text("budget.exact.unbounded", rounds)),
      spending.participations && spending.epsilonAlone !== null ? note(language.text("budget.exact.alone", { epsilon: digits(spending.epsilonAlone) })) : null,
      note(language.say("budget.exact.terms", terms)),
    );
  }

  /** The limit in mu^2, in which the costs of rounds add up; null without one. */
  private limitMu2(): number | null {
    const { spending } = this.facts.report;
    return spending ? muOf(spending.limit, spending.delta) ** 2 : null;
  }

  /** The most right answers of 100: half of one and the largest gap of mu-GDP, which is its delta at epsilon 0; what delta reserves is added. */
  private rightOf(mu2: number, delta: number): string {
    const gap = mu2 > 0 ? deltaOf(0, Math.sqrt(mu2)) * (1 + 1e-9) : 0;
    const right = Math.ceil(Math.min(1, (1 + gap + delta) / 2) * 1000 - 1e-3) / 10;
    return this.language.number(right, Number.isInteger(right) ? 0 : 1);
  }

  *agreed(): Generator<Child> {
    const { consents, decisions } = this.facts.report;
    const rows = PURPOSES.map((purpose: Purpose) => {
      const [agreed, last] = [consents[purpose], decisions.filter((each) => each.purpose === purpose).pop()];
      const since = last && last.granted === agreed ? this.language.day(new Date(1000 * last.time)) : null;
      const state = since === null ? this.language.text(agreed ? "agreed.yes.plain" : "agreed.no") : this.language.text(agreed ? "agreed.yes" : "agreed.no.since", { day: since });
      return e("li", {}, e("div", { class: "row" }, e("span", {}, this.language.text(`purpose.${purpose}`)), e("span", { class: agreed ? "yes" : "muted" }, state)));
    });
    yield e("ul", { class: "list" }, rows);
  }

  *messages(): Generator<Child> {
    const { deliveries } = this.facts;
    if (!deliveries.length) return yield p(this.language.text("messages.none"));
    const many = (reasons: readonly string[]) => deliveries.filter(({ reason }) => reasons.includes(reason)).length;
    const [sent, waiting] = [many(HANDED), many(WAITING)];
    yield p(this.language.text("messages.sum", { sent, waiting, not: deliveries.length - sent - waiting }));
    const rows = deliveries.slice(-MESSAGES).reverse().map(({ message, reason, channel, given, sent: at }) => {
      const what = this.language.text(`message.${reason}`);
      return this.entry(titled(message.title), [channel ? this.language.say("messages.by", { what, channel: titled(channel) }) : what, ` · ${this.language.moment(at ?? given)}`]);
    });
    yield e("ul", { class: "list" }, rows, this.earlier(deliveries.length - MESSAGES));
  }

  *leave(): Generator<Child> {
    const { language } = this;
    const { statement, unstated, report } = this.facts;
    yield e("h3", {}, language.text("leave.off"));
    yield e("ul", { class: "plain" }, PURPOSES.map((purpose) => e("li", {}, language.text(`remains.${purpose}`))));
    if (!statement) yield this.problem(unstated);
    else {
      yield e("h3", {}, language.text("leave.leave"));
      const rounds = statement.rounds.filter(({ contributed }) => contributed);
      yield p(rounds.length ? language.text("leave.remains", { n: rounds.length }) : language.text("leave.remains.none"));
      if (rounds.some(({ dp }) => dp === "central" || dp === "off")) yield p(language.text("leave.remains.seen"));
      const { server } = statement;
      if (!server) yield p(language.text("leave.nowhere"));
      else if (server.answered) yield p(language.text("leave.answered"));
      else {
        yield p(language.say("leave.server", { server: titled(server.server) }));
        if (server.asked) yield p(language.text("leave.asked"));
      }
    }
    yield e("h3", {}, language.text("leave.erase"));
    yield p(language.text("leave.erase.key"), language.writing("space"), language.text("leave.erase.copies"));
    if (report.spending?.participations) yield p(language.text("leave.again"));
  }

  private title(item: string): Child {
    return titled((Object.hasOwn(this.titles, item) && this.titles[item]) || item);
  }

  private kind(kind: string): string {
    return this.language.has(`kind.${kind}`) ? this.language.text(`kind.${kind}`) : kind;
  }

  private entry(title: Child, why: Child): Child {
    return e("li", {}, e("span", { class: "title" }, title), e("span", { class: "why" }, why));
  }

  private earlier(n: number): Child {
    return n > 0 ? e("li", { class: "muted" }, this.language.text("page.earlier", { n })) : null;
  }

  private problem(why: string): Child {
    return e("p", { class: "said bad" }, this.language.say("page.problem", { why: e("span", { lang: "en" }, titled(why)) }));
  }
}

function p(...said: readonly Child[]): Child {
  return e("p", {}, ...said);
}

function note(...said: readonly Child[]): Child {
  return e("p", { class: "note" }, ...said);
}

function digits(value: number): string {
  return String(Number(value.toPrecision(4)));
}
