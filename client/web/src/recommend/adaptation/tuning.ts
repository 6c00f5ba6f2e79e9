/**
 * Tuning: adapts the explored share of a user's lists to their loyalty and to their recent reactions.
 *
 * If a user reacts less to recommendations than before, they are bored: their lists explore more. If they return after an
 * absence after which most users would have left, their lists explore less. The share is multiplied by 1/2 to 2.
 */

import { DAY } from "../../clock.js";
import { churnRisk, SESSION_GAP } from "../../store/activity.js";

const [LEAST, MOST] = [0.5, 2];
const PRIOR = 30;
const FEW = 3;
const DOUBT = 0.5;

export interface Tuning {
  /** The factor on the explored share. */
  readonly factor: number;
  /** Relative decrease of the rate of liked recommendations; 0 if there is none. */
  readonly boredom: number;
  /** Churn risk before this visit; null if there are too few visits. */
  readonly risk: number | null;
  readonly explanation: string;
}

/**
 * The tuning of one user.
 *
 * @param visits - start of each visit, ascending, seconds since 1970.
 * @param usual - recommendations shown and liked, without explored ones; `lately`: the same for recent ones.
 */
export function tuning(visits: readonly number[], usual: readonly [number, number], lately: readonly [number, number], now: number): Tuning {
  const rate = usual[1] ? usual[1] / Math.max(...usual) : 0;
  const boredom = rate ? Math.min(Math.max(1 - (lately[1] + PRIOR * rate) / (lately[0] + PRIOR) / rate, 0), 1) : 0;
  const before = visits.filter((begun) => begun < now - SESSION_GAP);
  const here = visits.find((begun) => begun >= now - SESSION_GAP) ?? now;
  const risk = before.length >= FEW ? churnRisk(before, here) : null;
  const doubt = risk === null ? 0 : Math.max(risk - DOUBT, 0) / (1 - DOUBT);
  const factor = Math.min(Math.max((1 + (MOST - 1) * boredom) * (1 - (1 - LEAST) * doubt), LEAST), MOST);
  const said: string[] = [];
  const percent = (share: number) => `${Math.round(100 * share)}%`;
  if (boredom > 0.01) said.push(`${percent(boredom)} less than usual is taken of what is recommended lately: more`);
  if (risk !== null && risk > DOUBT) {
    const days = Math.round((now - before[before.length - 1]) / DAY);
    said.push(`back after ${days} days, by which ${percent(risk)} would have left: more of what is sure`);
  }
  return { factor, boredom, risk, explanation: `exploring x ${factor.toFixed(2)}: ${said.join("; ") || "nothing unusual"}` };
}
