/**
 * Page: the user's own page, as one HTML file in their language: what they did here, what is recommended and why, what has left, what may
 * still leave, what they agreed to, which messages came and why, and what happens if they leave. It is Python's `Device.page`, with the
 * same words and the same style, made of what the device tells anyway.
 *
 *     import { page, showPage } from "@palate/web/page";
 *     frame.srcdoc = await page(device, { language: "de", titles: { "book-7": "Der Zauberberg" } });
 *     await showPage(frame, device, { language: "de" }); // the same with buttons that work: turn off, save, leave, erase
 *
 * **Guarantees:** the page loads nothing, and runs nothing; whatever a title, an id or a reason holds, it is text.
 */

import style from "../../../palate_client/page/style.css";
import { PURPOSES, type Purpose } from "../consent.js";
import type { Device } from "../device.js";
import { InputError } from "../errors.js";
import { worstCaseCosts } from "../ledger/device_ledger.js";
import { deltaOf, muOf, totalMu2 } from "../mechanism/accounting.js";
import type { Recommendation } from "../recommend/recommender.js";
import type { PrivacyReport } from "../hosting/report.js";
import type { RoundOf, Statement } from "../leaving/remains.js";
import type { Spending } from "../rounds/report.js";
import { columns, gauge, shares } from "./charts.js";
import { built, clean, e, titleElement, toHtml, type Child, type Element } from "./html.js";
import { languageOf, type Catalogue, type Language } from "./language.js";

const [EVENTS, SHOWN, ROUNDS, MESSAGES, TASTES, WEEKS, WEEK] = [12, 8, 12, 8, 8, 26, 7 * 86_400_000];
const WAITING = ["better later", "bundled", "quiet hours", "day's cap", "week's cap", "pace"];
const HANDED = ["sent", "failed", "lost"];

export interface PageOptions {
  /** A BCP 47 tag: English, German and Chinese are there. Or a catalogue of the app's own. By default the browser's first language. */
  readonly language?: string | Catalogue;
  /** Item -> its title, in the place of the item table's; an item without one is named by its id. */
  readonly titles?: Readonly<Record<string, string>>;
  /** Item -> its tags, such as genres; left out: the kinds of the item table. */
  readonly tags?: Readonly<Record<string, string | readonly string[]>>;
}

/** What a button of the page does. */
export type Action = "revoke" | "export" | "leave" | "erase";

export interface ShowOptions extends PageOptions {
  /** Told after a button has done what it says. After `erase` the device is closed. */
  readonly done?: (what: Action) => void;
}

interface Row {
  readonly kind: string;
  readonly item: string;
  readonly time?: number;
  readonly id: string;
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
  /** The time of the first event, if it was deleted since. */
  readonly first: number | null;
  /** Channel -> the latest decision. */
  readonly channels: ReadonlyMap<string, { readonly granted: boolean; readonly time: number }>;
  readonly shown: readonly Recommendation[];
  /** Of how many other people the model knows, where too few have taken part: see `ModelInfo`. */
  readonly learned: number | null;
  /** Why nothing is, if that is an error. */
  readonly unranked: string;
  readonly tastes: readonly (readonly [string, number])[];
  /** Of the items above, by the item table. */
  readonly titles: Readonly<Record<string, string>>;
}

/** The page of a device. Making it changes nothing. */
export async function page(device: Device, options: PageOptions = {}): Promise<string> {
  const { language, body, title } = await told(device, options, false);
  return `<!DOCTYPE html>\n${toHtml(e("html", { lang: language.tag, dir: language.direction }, await headOf(title), body))}\n`;
}

/** The page with its buttons, and what one of them did above everything. */
async function told(device: Device, options: PageOptions, acts: boolean, said: Child = null): Promise<{ language: Language; body: Element; title: string }> {
  const language = await languageOf(options.language ?? globalThis.navigator?.language ?? "en");
  const facts = await factsOf(device, options.tags);
  const telling = new Telling(facts, language, { ...facts.titles, ...options.titles }, acts);
  const sections = { did: telling.did, shown: telling.shown, left: telling.left, budget: telling.budget, agreed: telling.agreed, messages: telling.messages, leave: telling.leave };
  const links = Object.keys(sections).map((name) => e("li", {}, e("a", { href: `#${name}` }, language.text(`${name}.heading`))));
  const body = e(
    "body",
    {},
    e(
      "header",
      {},
      e("a", { class: "skip", href: "#main" }, language.text("page.skip")),
      e("h1", {}, language.say("page.title", { app: titleElement(facts.report.app) })),
      e("p", {}, language.text("page.lead")),
      e("nav", { "aria-label": language.text("page.sections") }, e("ul", {}, links)),
    ),
    e(
      "main",
      { id: "main", tabindex: "-1" },
      said,
      Object.entries(sections).map(([name, tell]) =>
        e("section", { id: name, "aria-labelledby": `${name}-heading` }, e("h2", { id: `${name}-heading` }, language.text(`${name}.heading`)), [...tell.call(telling)]),
      ),
    ),
    e("footer", {}, e("p", {}, language.text("page.lead")), e("p", {}, language.text("page.made", { when: language.moment(facts.report.time) }))),
  );
  return { language, body, title: language.text("page.title", { app: clean(facts.report.app) }) };
}

async function headOf(title: string): Promise<Element> {
  const hash = btoa(String.fromCharCode(...new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(style)))));
  const policy = `default-src 'none'; style-src 'sha256-${hash}'; form-action 'none'; base-uri 'none'`;
  return e(
    "head",
    {},
    e("meta", { charset: "utf-8" }),
    e("meta", { "http-equiv": "Content-Security-Policy", content: policy }),
    e("meta", { name: "viewport", content: "width=device-width, initial-scale=1" }),
    e("title", {}, title),
    e("style", {}, style),
  );
}

/**
 * Shows the page in a frame, with buttons that work: to turn a purpose off, to save all data, to leave the server, and to erase everything.
 *
 * The frame is the app's, empty, and of its own origin. The page is built in it node by node, and no script is in it: what a button does is
 * done here. So it works where the app's Content-Security-Policy allows neither inline scripts nor inline styles.
 */
export async function showPage(frame: HTMLIFrameElement, device: Device, options: ShowOptions = {}): Promise<void> {
  const inside = await emptied(frame);
  const language = await languageOf(options.language ?? globalThis.navigator?.language ?? "en");
  const show = (body: Element, title: string): void => {
    inside.documentElement.lang = language.tag;
    inside.documentElement.dir = language.direction;
    [inside.title, frame.title] = [title, title];
    inside.body.replaceWith(...built(body, inside));
  };
  const notice = (key: string, made?: Statement): void => {
    const rest = made ? e("section", {}, [...remains(language, made)]) : null;
    show(e("body", {}, e("header", {}, e("h1", {}, language.text(key)), p(language.text(`${key}.lead`))), e("main", { id: "main", tabindex: "-1" }, rest)), language.text(key));
  };
  const render = async (said: Child = null): Promise<void> => {
    try {
      const { body, title } = await told(device, options, true, said);
      show(body, title);
    } catch (error) {
      if (!["erased", "closed"].includes((error as { code?: string }).code ?? "")) throw error;
      notice("done.closed");
    }
  };
  const act = async (what: Action, given: FormData): Promise<void> => {
    if (what === "revoke") await device.consent.revoke(given.get("purpose") as Purpose, { version: "page" });
    if (what === "leave") await device.leave();
    if (what === "export") save(await device.export(), `${(await device.privacyReport()).app.replace(/[^A-Za-z0-9-]+/g, "-").replace(/^-|-$/g, "") || "palate"}.jsonl`);
    if (what === "erase") return notice("done.erased", await device.erase({ statement: true }));
    if (what !== "export") await render(e("p", { class: "said", role: "status", tabindex: "-1" }, language.text(`done.${what}`)));
  };
  inside.addEventListener("submit", async (event) => {
    event.preventDefault();
    const form = event.target as HTMLFormElement;
    if (inside.querySelector("[aria-busy]")) return; // one after the other
    const given = new FormData(form);
    const what = given.get("do") as Action;
    form.setAttribute("aria-busy", "true");
    try {
      await act(what, given);
      options.done?.(what);
    } catch (error) {
      const why = e("span", { lang: "en" }, titleElement((error as Error).message));
      await render(e("p", { class: "said bad", role: "status", tabindex: "-1" }, language.say("done.failed", { why })));
    } finally {
      form.removeAttribute("aria-busy");
    }
    if (what !== "export") (inside.querySelector<HTMLElement>("[role=status]") ?? inside.querySelector<HTMLElement>("main"))?.focus();
  });
  inside.addEventListener("click", (event) => {
    const link = (event.target as HTMLElement).closest("a");
    if (!link) return;
    event.preventDefault(); // the frame's address is the app's
    const place = inside.getElementById(link.hash.slice(1));
    place?.scrollIntoView();
    place?.focus();
  });
  await render();
}

/** The document of a frame, with nothing in it but the page's style. */
async function emptied(frame: HTMLIFrameElement): Promise<Document> {
  const loaded = new Promise((resolve) => frame.addEventListener("load", resolve, { once: true }));
  // Under Trusted Types no text will do, not even this.
  frame.srcdoc = (globalThis as { trustedTypes?: { emptyHTML: string } }).trustedTypes?.emptyHTML ?? "";
  await loaded;
  const [inside, view] = [frame.contentDocument, frame.contentWindow as (Window & typeof globalThis) | null];
  if (!inside || !view) throw new InputError("`frame` must be in the page, and of its origin: one with `sandbox` must allow `allow-same-origin`, `allow-forms` and `allow-scripts`");
  const sheet = new view.CSSStyleSheet();
  sheet.replaceSync(style);
  inside.adoptedStyleSheets = [sheet];
  return inside;
}

function save(data: Blob, name: string): void {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(data), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** What a page tells, by what the device tells anyway. */
async function factsOf(device: Device, tags: PageOptions["tags"]): Promise<Facts> {
  const report = await device.privacyReport();
  const lines = (await (await device.export()).text()).split("\n").filter(Boolean).map((line) => JSON.parse(line) as { type?: string });
  let [statement, unstated]: [Statement | null, string] = [null, ""];
  try {
    statement = await device.statement();
  } catch (error) {
    unstated = (error as Error).message;
  }
  let [shown, learned, tastes, unranked]: [readonly Recommendation[], number | null, Facts["tastes"], string] = [[], null, [], ""];
  try {
    shown = await device.recommend(SHOWN, { explore: 0 });
    tastes = await tastesOf(device, tags);
    learned = (await device.model())?.elsewhere ?? null;
  } catch (error) {
    const { code, message } = error as { code?: string; message: string };
    if (code === "integrity") unranked = message;
    else if (code !== "input") throw error; // of input: there is no model
  }
  const of = <T>(wanted: string): readonly T[] => lines.filter(({ type }) => type === wanted) as unknown as T[];
  const channels = of<{ channel: string; granted: boolean; time: number }>("channel").map((each) => [each.channel, each] as const);
  const first = of<{ time: number }>("first")[0]?.time ?? null;
  const events = of<Row>("event");
  const told = new Set([...events, ...shown, ...shown.flatMap(({ because }) => because)].map(({ item }) => item));
  const titles = Object.fromEntries((await device.items([...told])).map(({ item, label }) => [item, label]));
  return { report, statement, unstated, titles, events, deliveries: of("delivery"), first, channels: new Map(channels), shown, learned, unranked, tastes };
}

/** The parts of the taste with their shares: an item's weight is shared among its tags. */
async function tastesOf(device: Device, given: PageOptions["tags"]): Promise<(readonly [string, number])[]> {
  const items = await device.catalogue();
  const { indices, weights } = await device.interests(items);
  const kinds = async () => (await device.items(Array.from(indices, (place) => items[place]))).map((each) => [each.item, each.kinds] as const);
  const tags = given ?? Object.fromEntries(await kinds());
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
    private readonly acts: boolean,
  ) {}

  *did(): Generator<Child> {
    const { language, facts } = this;
    const { events } = facts;
    if (!events.length) return yield p(language.text("did.none"));
    yield p(language.text("did.events", { n: events.length }));
    // What was done with another service, as an imported history says, was not done here.
    const active = events.filter(({ id, kind, time }) => kind !== "impression" && time !== undefined && !id.startsWith("history-")).map(({ time }) => new Date(1000 * time!));
    if (active.length) {
      const first = active.reduce((one, other) => (other < one ? other : one));
      yield p(language.text("did.days", { n: new Set(active.map((date) => date.toDateString())).size, first: language.day(first) }));
    }
    if (facts.first !== null) yield p(language.say("did.deleted", { app: titleElement(facts.report.app) }));
    if (facts.tastes.length) {
      yield e("h3", {}, language.text("did.interests"));
      const most = Math.max(...facts.tastes.map(([, share]) => share));
      yield shares(facts.tastes.map(([tag, share]) => [tag.trim() ? titleElement(tag) : language.text("did.other"), share / most, language.percent(share)]));
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
    const { shown, learned, unranked } = this.facts;
    if (unranked) return yield this.problem(unranked);
    if (!shown.length) return yield p(this.language.text("shown.none"));
    yield p(this.language.text("shown.lead"));
    if (learned !== null) yield e("p", { class: "said" }, this.language.text(learned ? "shown.few" : "shown.nobody", { n: learned }));
    yield e("ul", { class: "list" }, shown.map((each) => this.entry(this.title(each.item), this.reason(each))));
    yield note(this.language.text("shown.also"));
  }

  private reason({ source, because, reason }: Recommendation): Child {
    if (source === "exploration") return this.language.text("reason.new");
    if (source === "promoted") return this.language.text("reason.promoted");
    if (because[0]?.kind === "profile") return this.language.text("reason.profile");
    if (!because.length) return this.language.text(source === "popularity" ? "reason.popular" : source === "content:new" ? "reason.new" : "reason.taste");
    const told = because.filter(({ kind }) => kind !== "profile");
    const what = told.map(({ item, kind, domain, title }) => {
      const named = reason.includes(`${title || item} (`) && domain !== null ? this.language.say("reason.domain", { item: this.title(item), domain }) : this.title(item);
      return this.language.say(`reason.${kind}`, { item: named });
    });
    const together = /: people who have (it|them) often have this too$/.test(reason);
    return this.language.say(together ? "reason.together" : "reason.because", { n: told.length, what: this.language.listParts(what) });
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
    if (report.opened.length) yield p(language.say("left.opened", { n: report.opened.length, app: titleElement(report.app) }));
    const last = report.contacts[report.contacts.length - 1];
    if (last) yield p(language.text("left.contacts", { n: report.contacts.length, when: language.moment(last.time) }));
    if (report.refusals.length) yield p(language.text("left.refused", { n: report.refusals.length }));
    if (rounds.length) yield* this.rounds(rounds);
    yield note(language.text("left.never"), language.writing("space"), language.say("left.app", { app: titleElement(report.app) }));
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
      yield* this.relies(spending);
    }
    const rounds = { rounds: spending.participations, most: spending.participationLimit };
    const exact = { epsilon: digits(spending.epsilon ?? 0), limit: digits(spending.limit), delta: String(spending.delta), ...rounds };
    const terms = { unit: report.unit, adjacency: report.adjacency, accountant: report.accountant, population: titleElement(spending.population) };
    yield e(
      "details",
      {},
      e("summary", {}, language.text("budget.small")),
      note(bounded ? language.text("budget.exact", exact) : language.text("budget.exact.unbounded", rounds)),
      spending.participations && spending.epsilonAlone !== null ? note(language.text("budget.exact.alone", { epsilon: digits(spending.epsilonAlone) })) : null,
      note(language.say("budget.exact.terms", terms)),
    );
  }

  /** What the cost of rounds relies on, and what it is without. */
  private *relies({ receipts, delta }: Spending): Generator<Child> {
    const { language } = this;
    const trusts = receipts.map(({ trust }) => trust);
    const shared = trusts.flatMap(({ corrupt, cohort }) => (cohort === null ? [] : [{ n: corrupt ?? 0, of: cohort }]));
    const lines: string[] = [];
    if (shared.length) {
      const least = shared.reduce((one, other) => (other.n / other.of < one.n / one.of ? other : one));
      const several = new Set(shared.map(({ n, of }) => `${n}/${of}`)).size > 1;
      lines.push(language.text(`budget.relies.${several ? "several" : "cohort"}`, least));
    }
    if (trusts.some(({ cohort, aloneMu2 }) => cohort === null && aloneMu2 === null)) lines.push(language.text("budget.relies.central"));
    if (lines.length) yield p(language.text("budget.relies"));
    if (lines.length) yield e("ul", { class: "plain" }, lines.map((each) => e("li", {}, each)));
    const costs = worstCaseCosts(trusts);
    yield p(costs ? language.text("budget.alone", { right: this.rightOf(totalMu2(costs), delta) }) : language.text("budget.alone.unbounded"));
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
    const { language } = this;
    const { consents, decisions } = this.facts.report;
    const rows = PURPOSES.map((purpose: Purpose) => {
      const [agreed, last] = [consents[purpose], decisions.filter((each) => each.purpose === purpose).pop()];
      const name = language.text(`purpose.${purpose}`);
      const off = agreed ? this.form("revoke", language.text("agreed.off"), "quiet", { purpose }, `${language.text("agreed.off")}: ${name}`) : null;
      return this.row(name, agreed, last && last.granted === agreed ? last.time : null, off);
    });
    for (const [channel, { granted, time }] of this.facts.channels) rows.push(this.row(language.say("channel", { channel: titleElement(channel) }), granted, time, null));
    yield e("ul", { class: "list" }, rows);
    if (this.acts) yield note(language.text("agreed.again"));
  }

  private row(name: Child, agreed: boolean, since: number | null, button: Child): Child {
    const { language } = this;
    const day = since === null ? "" : language.day(new Date(1000 * since));
    const state = day ? language.text(agreed ? "agreed.yes" : "agreed.no.since", { day }) : language.text(agreed ? "agreed.yes.plain" : "agreed.no");
    return e("li", {}, e("div", { class: "row" }, e("span", {}, name), e("span", { class: agreed ? "yes" : "muted" }, state), button));
  }

  /** A form of one button, as Python's; null on a page without. */
  private form(what: Action, button: string, look: string, fields: Readonly<Record<string, string>> = {}, label: string | null = null, ...more: readonly Child[]): Child {
    if (!this.acts) return null;
    const hidden = Object.entries({ do: what, ...fields }).map(([name, value]) => e("input", { type: "hidden", name, value }));
    return e("form", { method: "post" }, hidden, more, e("button", { type: "submit", class: look, "aria-label": label }, button));
  }

  *messages(): Generator<Child> {
    const { deliveries } = this.facts;
    if (!deliveries.length) return yield p(this.language.text("messages.none"));
    const many = (reasons: readonly string[]) => deliveries.filter(({ reason }) => reasons.includes(reason)).length;
    const [sent, waiting] = [many(HANDED), many(WAITING)];
    yield p(this.language.text("messages.sum", { sent, waiting, not: deliveries.length - sent - waiting }));
    const rows = deliveries.slice(-MESSAGES).reverse().map(({ message, reason, channel, given, sent: at }) => {
      const what = this.language.text(`message.${reason}`);
      return this.entry(titleElement(message.title), [channel ? this.language.say("messages.by", { what, channel: titleElement(channel) }) : what, ` · ${this.language.moment(at ?? given)}`]);
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
      yield* remains(language, statement);
      if (statement.server && !statement.server.answered) yield this.form("leave", language.text("leave.leave.do"), "quiet");
    }
    yield e("h3", {}, language.text("leave.erase"));
    yield p(language.text("leave.erase.key"), language.writing("space"), language.text("leave.erase.copies"));
    if (report.spending?.participations) yield p(language.text("leave.again"));
    if (!this.acts) return;
    yield e("div", {}, this.form("export", language.text("leave.export"), "quiet"), note(language.text("leave.export.note")));
    const sure = e("label", {}, e("input", { type: "checkbox", name: "sure", value: "yes", required: "" }), language.text("leave.sure"));
    yield e("details", {}, e("summary", {}, language.text("leave.erase.do")), this.form("erase", language.text("leave.erase.do"), "bad", {}, null, sure));
  }

  private title(item: string): Child {
    return titleElement((Object.hasOwn(this.titles, item) && this.titles[item]) || item);
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
    return e("p", { class: "said bad" }, this.language.say("page.problem", { why: e("span", { lang: "en" }, titleElement(why)) }));
  }
}

/** What remains elsewhere, by a statement. */
function* remains(language: Language, { rounds, server }: Statement): Generator<Child> {
  yield e("h3", {}, language.text("leave.leave"));
  const answered = rounds.filter(({ contributed }) => contributed);
  yield p(answered.length ? language.text("leave.remains", { n: answered.length }) : language.text("leave.remains.none"));
  if (answered.some(({ dp }) => dp === "central" || dp === "off")) yield p(language.text("leave.remains.seen"));
  if (!server) yield p(language.text("leave.nowhere"));
  else if (server.answered) yield p(language.text("leave.answered"));
  else {
    yield p(language.say("leave.server", { server: titleElement(server.server) }));
    if (server.asked) yield p(language.text("leave.asked"));
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
