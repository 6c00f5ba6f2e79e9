/**
 * Statement: what remains once this device's data is erased, or its user takes part no longer, in words and numbers.
 *
 *     own ledger, journal, consent, enrolment -> Statement -> the caller
 *
 * It is made while the store is there, which keeps nothing of it, and is all that is left afterwards: no item, no event and no secret
 * is in it. Its file is that of Python's device. It isn't signed: the person trusts their own device.
 */

import type { Purpose } from "../consent.js";
import { mostTruePositives, totalMu2 } from "../mechanism/accounting.js";
import { worstCaseCosts, type Receipt } from "../ledger/device_ledger.js";
import { textOf, utf8 } from "../records/bytes.js";
import { canonicalJson, Float, readCanonical, type Json } from "../records/canonical.js";
import { MOST_KEPT, shownBy } from "../records/consistency.js";
import type { PrivacyReport } from "../hosting/report.js";
import type { Service } from "../service.js";
import type { Sent } from "../store/journal.js";
import type { AtServer, LeftUnder, RoundOf, Said, SeenState, Statement } from "./remains.js";
import { wordsOf } from "./words.js";

/** False-positive rates at which the bound is said. */
const SHOWN = [0.01, 0.1];
/** Messages that a user's behaviour is in, noised or not. Those of other steps of a masked attempt have none of it. */
const VECTORS = ["contribution", "input"];
const ACCOUNTANT_VERSION = "1";

/** Purpose -> what stops, and when; the words are Python's. */
const STOPS = {
  train:
    "from a revocation or an erasure on, no message of a round leaves, in an attempt that runs now either. A contribution that has left before is in that attempt's sum, if the server releases it",
  analytics:
    "from a revocation or an erasure on, no answer to a survey leaves, in an attempt that runs now either. An answer that has left before is in that attempt's sum, if the server releases it",
  panel:
    "from a revocation or an erasure on, nothing is handed to the app. What was handed over before is the app's to leave out of its next panel; copies, and models made of it, stay, and no noise protects it",
} as const;

/** What a statement is made of, beside the report. */
export interface Facts {
  readonly report: PrivacyReport;
  readonly service: Service | null;
  /** The signed bytes that showed the ledger's last state. */
  readonly evidence: Uint8Array | null;
  /** The manifest of the model in use. */
  readonly manifest: Uint8Array | null;
  readonly server: AtServer | null;
  /** Whether the store is erased next. */
  readonly final: boolean;
}

/** Makes a statement. */
export function statementOf({ report, service, evidence, manifest, server, final }: Facts): Statement {
  const { spending } = report;
  const [receipts, rounds] = [spending?.receipts ?? [], roundsOf(report)];
  const [alone, known] = [worstCaseCosts(receipts.map(({ trust }) => trust)), !report.problem];
  const mu2 = known ? (spending?.mu2 ?? 0) : null;
  const epsilon = known ? (spending ? spending.epsilon : 0) : null;
  const reserved = service ? service.delta - service.noiseDelta : 0;
  const most = (rate: number, cost: number | null): number | null => (cost === null ? null : mostTruePositives(rate, Math.sqrt(cost), reserved));
  const said: Said = {
    app: report.app,
    day: dayOf(report.time),
    final,
    population: service?.population ?? null,
    publicKey: service?.publicKey ?? null,
    unit: report.unit,
    adjacency: report.adjacency,
    accountant: `${report.accountant} ${ACCOUNTANT_VERSION}`,
    delta: service?.delta ?? null,
    problem: report.problem,
    simulated: service?.loosened ?? [],
    rounds,
    mu2,
    epsilon,
    conditions: spending?.conditions ?? [],
    epsilonAlone: known && spending ? spending.epsilonAlone : null,
    bounds: SHOWN.map((rate) => ({
      falsePositives: rate,
      truePositives: most(rate, epsilon === null ? null : mu2),
      alone: most(rate, alone === null || !known ? null : totalMu2(alone)),
    })),
    left: (["train", "analytics", "panel"] as const).map((purpose) => leftUnder(purpose, report, rounds)),
    state: spending?.seen ? stateOf(spending.seen, evidence) : null,
    ended: runOf(manifest),
    server,
  };
  return { ...said, text: [...wordsOf(said)].join("\n"), file: textOf(canonicalJson(fileOf(said))) };
}

/** All attempts that were charged, and those that something left in although the ledger lacks them. */
function roundsOf(report: PrivacyReport): RoundOf[] {
  const sent = new Map<string, Sent[]>();
  const placed = (each: { readonly run: string; readonly round: number; readonly attempt: number }): string => JSON.stringify([each.run, each.round, each.attempt]);
  for (const each of report.sent) sent.set(placed(each), [...(sent.get(placed(each)) ?? []), each]);
  const found: RoundOf[] = [];
  for (const receipt of report.spending?.receipts ?? []) {
    found.push(roundOf(receipt, receipt.time, sent.get(placed(receipt)) ?? [], receipt));
    sent.delete(placed(receipt));
  }
  for (const left of sent.values()) found.push(roundOf(left[0], left[0].time, left, null));
  return found;
}

function roundOf({ run, round, attempt }: { readonly run: string; readonly round: number; readonly attempt: number }, time: number, left: readonly Sent[], receipt: Receipt | null): RoundOf {
  const vectors = left.filter(({ what }) => VECTORS.includes(what));
  const [{ mu2 = null, planHash = null, purpose = null }, dp] = [receipt ?? ({} as Partial<Receipt>), vectors[0]?.dp ?? ""];
  return { run, round, attempt, day: dayOf(time), mu2, planHash, purpose, contributed: vectors.length > 0, dp };
}

function leftUnder(purpose: "train" | "analytics" | "panel", report: PrivacyReport, rounds: readonly RoundOf[]): LeftUnder {
  const decided = report.decisions.filter((each) => each.purpose === (purpose as Purpose)).at(-1);
  const ours = rounds.filter((each) => each.purpose === purpose);
  const sent = report.sent.filter(({ run, round, attempt }) => ours.some((each) => each.run === run && each.round === round && each.attempt === attempt));
  const opened = purpose === "panel";
  return {
    purpose,
    agreed: report.consents[purpose],
    decided: decided ? dayOf(decided.time) : null,
    contributions: opened ? report.opened.length : ours.filter(({ contributed }) => contributed).length,
    messages: opened ? report.opened.length : sent.length,
    bytes: opened ? 0 : sent.reduce((total, { bytes }) => total + bytes, 0),
    stops: STOPS[purpose],
  };
}

/** The last state that was seen and that the operator has signed, else the last one that was seen. */
function stateOf({ size, root }: { readonly size: number; readonly root: string }, evidence: Uint8Array | null): SeenState {
  const shown = shownBy(evidence);
  if (!shown || !evidence) return { size, root, evidence: null };
  return { size: shown.checkpoint.size, root: shown.checkpoint.root, evidence: textOf(evidence) };
}

function runOf(manifest: Uint8Array | null): string | null {
  const value = manifest && (readCanonical(manifest, MOST_KEPT) as { readonly run?: Json });
  return typeof value?.run === "string" ? value.run : null;
}

const dayOf = (time: number): string => new Date(1000 * time).toISOString().slice(0, 10);

/** The file as Python's device writes it. */
function fileOf(said: Said): Json {
  const real = (value: number | null): Json => (value === null ? null : new Float(value));
  const { server } = said;
  return {
    palate: "statement",
    format: server?.asked ? 2 : 1,
    app: said.app,
    day: said.day,
    final: said.final,
    population: said.population,
    public_key: said.publicKey,
    unit: said.unit,
    adjacency: said.adjacency,
    accountant: said.accountant,
    delta: real(said.delta),
    problem: said.problem,
    simulated: [...said.simulated],
    rounds: said.rounds.map(({ planHash, mu2, ...each }) => ({ ...each, mu2: real(mu2), plan_hash: planHash })),
    mu2: real(said.mu2),
    epsilon: real(said.epsilon),
    conditions: [...said.conditions],
    epsilon_alone: real(said.epsilonAlone),
    bounds: said.bounds.map((each) => ({ false_positives: new Float(each.falsePositives), true_positives: real(each.truePositives), alone: real(each.alone) })),
    left: said.left.map((each) => ({ ...each })),
    state: said.state && { ...said.state, evidence: said.state.evidence === null ? null : readCanonical(utf8(said.state.evidence), MOST_KEPT) },
    ended: said.ended,
    server: server && { ...server },
  };
}
