/** Report: what has left this browser, what that cost, all refusals, decisions and models, in words and as values. */

import type { ConsentDecision, Purpose } from "../consent.js";
import { ACCOUNTANT, ADJACENCY, type Spending } from "../rounds/report.js";
import type { Contact, Edition, Opened, Refusal, Sent } from "../store/journal.js";

/** Where the store is, and how long the browser promises to keep it. */
export interface StorageReport {
  /** "browser": IndexedDB; "file": Node; "memory": it is gone with the page. */
  readonly kind: "browser" | "file" | "memory";
  /** Whether the browser has promised not to evict it by itself; null: it doesn't say. */
  readonly persisted: boolean | null;
  /** Bytes that the site uses, and may use; null: it isn't known. */
  readonly usage: number | null;
  readonly quota: number | null;
}

/** What has left this browser, what that cost, and what the user agreed to. */
export interface PrivacyReport {
  readonly app: string;
  readonly time: number;
  /** Of the spending: whom it protects, and between which two worlds. */
  readonly unit: string;
  readonly adjacency: string;
  readonly accountant: string;
  /** Null without a service, or where the ledger is damaged, which `problem` says. */
  readonly spending: Spending | null;
  readonly problem: string;
  readonly sent: readonly Sent[];
  readonly refusals: readonly Refusal[];
  readonly consents: Readonly<Record<Purpose, boolean>>;
  readonly decisions: readonly ConsentDecision[];
  readonly models: readonly Edition[];
  readonly contacts: readonly Contact[];
  readonly opened: readonly Opened[];
  readonly storage: StorageReport;
  /** The report in words. */
  readonly text: string;
}

const UNIT = "user (this installation)";

/** `Sent.dp` -> what that means for the message. */
const NOISED: Readonly<Record<string, string>> = {
  distributed: "its noise was added here",
  local: "all of its noise was added here",
  central: "the server saw it and added the noise",
  off: "NO NOISE",
};

/** The report with its words. */
export function reported(given: Omit<PrivacyReport, "unit" | "adjacency" | "accountant" | "text">): PrivacyReport {
  const report = { ...given, unit: UNIT, adjacency: ADJACENCY, accountant: ACCOUNTANT };
  return { ...report, text: [...lines(report)].join("\n") };
}

function* lines(report: Omit<PrivacyReport, "text">): Generator<string> {
  const { spending, sent, opened, refusals, models, contacts, storage } = report;
  yield `Privacy report of ${report.app}, ${date(report.time)}`;
  const agreed = Object.entries(report.consents).filter(([, granted]) => granted).map(([purpose]) => purpose);
  yield `You agreed to: ${agreed.join(", ") || "nothing"}`;
  if (report.problem) yield `Spent: not known. ${report.problem}`;
  else if (!spending) yield storage.kind === "memory" ? "Spent: nothing, as a device of this page alone takes part in no round" : "This app has no server to take part with.";
  else yield* spent(spending);
  yield `Left this browser: ${sent.length} message(s), ${sent.reduce((total, { bytes }) => total + bytes, 0)} bytes`;
  for (const { time, what, bytes, round, attempt, run, dp } of sent) yield `  ${date(time)}  ${what}, ${bytes} bytes, round ${round}, attempt ${attempt} of ${run}; ${NOISED[dp] ?? dp}`;
  if (opened.length) yield `Shared openly: ${opened.length} time(s), handed to the app, without any protection`;
  for (const { time, items, version } of opened) yield `  ${date(time)}  ${items} item(s), as agreed in version ${version}`;
  yield `Refused: ${refusals.length}`;
  for (const { time, what, reason } of refusals) yield `  ${date(time)}  ${what}: ${reason}`;
  yield `Models taken into use: ${models.length}`;
  for (const { time, version, population } of models) yield `  ${date(time)}  version ${version} of ${population}`;
  if (contacts.length) {
    const total = (of: "sent" | "received") => contacts.reduce((sum, each) => sum + each[of], 0);
    const last = contacts[contacts.length - 1];
    yield `At the server: ${contacts.length} time(s), ${total("sent")} bytes out and ${total("received")} in`;
    yield `  ${date(last.time)}  ${last.ended}${last.reason ? `: ${last.reason}` : ""}`;
  }
  if (storage.kind === "memory") yield "Kept: in this page alone; it is forgotten when the page is closed";
  else if (storage.kind === "browser") yield `Kept: in this browser, encrypted; ${storage.persisted ? "the browser keeps it until you erase it" : "the browser may delete it when it needs room"}`;
}

function* spent(spending: Spending): Generator<string> {
  const { epsilon, limit, remaining, delta, conditions, participations, participationLimit, epsilonAlone, population, seen } = spending;
  if (epsilon === null) yield "Spent: not bounded, as something left without noise";
  else {
    yield `Spent: ε = ${digits(epsilon)} of at most ${limit}, ${digits(remaining ?? 0)} left, at δ = ${delta} (unit: ${UNIT}; adjacency: ${ADJACENCY}; accountant: ${ACCOUNTANT})`;
    for (const condition of conditions) yield `  if ${condition}`;
    const alone = epsilonAlone === null ? "not bounded, or not known" : `ε = ${digits(epsilonAlone)} of the same unit, at the same δ`;
    if (participations) yield `  if all other devices are the operator's: ${alone}`;
  }
  yield `Rounds: ${participations} of at most ${participationLimit}, in '${population}'`;
  if (seen) yield `Its ledger, as last seen here (size:root): ${seen.size}:${seen.root}`;
}

function digits(value: number): string {
  return String(Number(value.toPrecision(4)));
}

function date(time: number): string {
  return `${new Date(1000 * time).toISOString().slice(0, 16).replace("T", " ")} UTC`;
}
