/** Words: a statement as text; the words are Python's. */

import type { LeftUnder, Said } from "./remains.js";

/** Runs that may go on, which are named one by one in the text. */
const NAMED = 3;
const PURPOSES = { train: "training", analytics: "surveys", panel: "sharing openly" };
/** Modes in which the server sees a contribution before there is noise on it, or without any. */
const SHOWED = ["central", "off"];
const NOISED: Readonly<Record<string, string>> = {
  distributed: "its noise was added here",
  local: "all of its noise was added here",
  central: "the server saw it and added the noise",
  off: "NO NOISE",
};
const NEVER =
  "your events and their times, searches, ratings and amounts; your interests, vector and scores; what you agreed to," +
  " and what you refused. Palate sent what stands above, which was made of them, and nothing else of it. What the app" +
  " did with lists, reasons and messages that it showed you isn't known here";

/** The lines of a statement. */
export function* wordsOf(made: Said): Generator<string> {
  yield `What remains of ${made.app} on this device, ${made.day} (${made.final ? "made to erase it" : "as of now: nothing was erased by making it"})`;
  for (const how of made.simulated) yield `SIMULATED: ${how}`;
  yield* charged(made);
  yield* told(made);
  yield* stillToCome(made);
  for (const each of made.left) yield under(each);
  const strange = made.rounds.filter(({ purpose }) => purpose === null).length;
  if (strange) yield `What ${strange} of them were for isn't known: the ledger is lost`;
  yield `Sent to nobody: ${NEVER}`;
  yield* atServer(made);
  yield inLedger(made);
  yield "It is about this installation alone: not about others of yours, nor about one that was erased before";
}

/** Lines on the rounds and their cost. */
function* charged(made: Said): Generator<string> {
  const runs = new Set(made.rounds.map(({ run }) => run)).size;
  const contributed = made.rounds.filter((each) => each.contributed).length;
  const whose = made.population === null ? "" : ` of '${made.population}'`;
  yield `Rounds${whose}: charged for ${made.rounds.length} attempt(s) of ${runs} run(s); a contribution left in ${contributed}`;
  for (const { purpose, mu2, contributed: left, dp, day, run, round, attempt } of made.rounds) {
    const [what, cost] = [purpose === null ? "not known what for" : PURPOSES[purpose], mu2 === null ? "cost not known" : `mu^2 = ${digits(mu2)}`];
    yield `  ${day}  run ${run}, round ${round}, attempt ${attempt}: ${what}, ${cost}; ${left ? (NOISED[dp] ?? dp) : "nothing of you left"}`;
  }
  const of = `(unit: ${made.unit}; adjacency: ${made.adjacency}; accountant: ${made.accountant})`;
  if (made.problem) yield `Together: not known. ${made.problem}`;
  else if (made.epsilon === null || made.mu2 === null) yield `Together: not bounded, as something left without noise ${of}`;
  else {
    const at = made.delta === null ? "" : ` at δ = ${digits(made.delta, 6)}`;
    yield `Together: mu^2 = ${digits(made.mu2)}, ε = ${digits(made.epsilon)}${at} ${of}`;
    for (const condition of made.conditions) yield `  if ${condition}`;
    const alone = made.epsilonAlone;
    if (made.rounds.length) yield `  if all other devices are the operator's: ${alone === null ? "not bounded, or not known" : `ε = ${digits(alone)} of the same unit, at the same δ`}`;
  }
}

/** Lines on what anybody could still tell. */
function* told(made: Said): Generator<string> {
  if (made.rounds.some(({ contributed }) => contributed)) {
    yield "What anybody can still tell from all releases, and models made of them: whether your history was in, or nothing in its place. The best test there is, by somebody who knows everybody else's history:";
  } else yield "What anybody can still tell from releases and models: nothing, as no contribution left. The bound:";
  for (const { falsePositives, truePositives, alone } of made.bounds) {
    const finds = (share: number | null): string => (share === null ? "not bounded, or not known" : `at most ${percent(share)}`);
    const guessing = Number((100 * falsePositives).toPrecision(6));
    yield `  wrong about ${guessing} in 100 who were not in, it is right about so many in 100 who were: ${finds(truePositives)} if the conditions hold; ${finds(alone)} if they don't; guessing: ${guessing}`;
  }
  if (made.rounds.some(({ dp }) => SHOWED.includes(dp))) yield "  The server itself saw what left before there was noise on it, and nothing bounds what it can tell";
}

/** Lines on what was published, and what is still to come. */
function* stillToCome(made: Said): Generator<string> {
  if (!made.rounds.some(({ contributed }) => contributed)) return;
  yield "What was released with your part in it keeps it, and so do models made of it, by at most that bound: no one can take it out. A later run gets nothing from this device. But it may start from an earlier model, and then has what that had, within the same bound";
  const runs = new Map<string, number[]>();
  for (const { contributed, run, round } of made.rounds) if (contributed && run !== made.ended) runs.set(run, [...(runs.get(run) ?? []), round]);
  const earlier = runs.size - NAMED;
  if (earlier > 0) yield `  ${earlier} earlier run(s) aren't known here to be over either, and what follows holds for them, too`;
  for (const [run, rounds] of [...runs].slice(-NAMED)) {
    const [first, last] = [Math.min(...rounds), Math.max(...rounds)];
    yield `  Run ${run} isn't known here to be over: its releases from round ${first} on are made from what left in rounds ${first} to ${last}, and so is its model, though they may be still to come`;
  }
}

/** A line on a purpose. */
function under(left: LeftUnder): string {
  const agreed = left.agreed ? "agreed" : left.decided === null ? "not agreed" : `revoked on ${left.decided}`;
  const what =
    left.purpose === "panel"
      ? `handed to the app ${left.contributions} time(s), without any protection`
      : `${left.messages} message(s), ${left.bytes.toLocaleString("en-US")} bytes, ${left.contributions} with a contribution`;
  return `For ${PURPOSES[left.purpose]} (${agreed}): ${what}. What stops: ${left.stops}`;
}

/** Lines on what the server has. */
function* atServer({ server, rounds }: Said): Generator<string> {
  if (!server) {
    yield "The server: this device is not enrolled anywhere, or the statement was made anonymous";
    return;
  }
  yield `The server ${server.server} ${server.answered ? "had" : "has"}: device ${server.device}, its identity ${server.identity ?? "(none)"}, when it was enrolled, how often it was invited; and, if somebody there or on the network kept it, from which address it came, and when`;
  if (server.answered) yield "  It was asked to delete that, and has answered that it did. Nobody can check it from here";
  else if (server.asked) yield "  It was asked to delete that, and has not answered: `device.leave()` asks again";
  else yield `  It was not asked to delete anything, and has answered nothing: \`device.leave()\` asks it. Or ask the operator to revoke device ${server.device}`;
  yield `  Number and identity stay in its register, which only grows, and so does a record for which it was named; so do the charges of ${new Set(rounds.map(({ run }) => run)).size} run(s) in its ledger, which name no device. Its backups are not changed`;
}

/** A line on the ledger's state. */
function inLedger({ state }: Said): string {
  if (!state) return "The population's ledger: no state of it was seen here";
  return `The population's ledger as last seen here (size:root), ${state.evidence ? "signed by the operator" : "whose signature was not kept"}: ${state.size}:${state.root}`;
}

/** A share in percent, rounded up to a tenth. */
const percent = (share: number): string => String(Math.min(100, Math.ceil(share * 1000 - 1e-4) / 10));

/** A number of up to four digits, as Python's `g` writes it. */
function digits(value: number, most = 4): string {
  const [mantissa, exponent] = value.toExponential(most - 1).split("e").map(Number);
  if (value === 0 || (exponent >= -4 && exponent < most)) return String(Number(value.toPrecision(most)));
  return `${mantissa}e${exponent < 0 ? "-" : "+"}${String(Math.abs(exponent)).padStart(2, "0")}`;
}
