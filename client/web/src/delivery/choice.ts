/**
 * Choice: the channel and the part of the day at which this user reacts most, learned from their own reactions.
 *
 * A rate has a Beta prior; older deliveries count less. The value of a channel is its estimated rate plus the value of trying
 * it, which ends after 45 deliveries. Sources: Frazier and Powell, Paradoxes in Learning and the Marginal Value of Information
 * (2010), for the value of k trials; Thompson (1933) and Chapelle and Li (2011) for parts of the day.
 */

const [HALF_LIFE, KNOWN, PARTS, AHEAD, SETTLED, CURIOSITY, SURE] = [120, 5, 6, 50, 45, 30, 40];
const PRIOR = [0.5, 1.5] as const;
const SHARPNESS = [2, 20] as const;

/** A delivery whose outcome is known. */
export interface DeliveryTrial {
  readonly channel: string;
  /** Hour of the user's day. */
  readonly hour: number;
  readonly answered: boolean;
}

type Belief = readonly [yes: number, no: number];

/** The part of the day, from 0, that contains an hour: each has four hours. */
export function partOf(hour: number): number {
  return Math.floor((hour * PARTS) / 24) % PARTS;
}

/** The channel of the highest value, of at least one; a random one of several with the same value. */
export function chooseChannel(channels: readonly string[], tried: readonly DeliveryTrial[], expected: Readonly<Record<string, number>>, random: () => number): string {
  const beliefs = channels.map((name) => {
    const own = expected[name];
    return rate(tried, (trial) => trial.channel === name, own === undefined ? PRIOR : [own * KNOWN, (1 - own) * KNOWN]);
  });
  const means = beliefs.map(([yes, no]) => yes / (yes + no));
  const curious = CURIOSITY * Math.max(1 - tried.length / SETTLED, 0);
  const worth = means.map((mean, place) => {
    const others = means.filter((_, at) => at !== place);
    return mean + (curious ? curious * teaches(beliefs[place], others.length ? Math.max(...others) : mean) : 0);
  });
  const best = channels.filter((_, place) => worth[place] === Math.max(...worth));
  return best[Math.floor(random() * best.length)];
}

/** The part of the day with the highest rate drawn from its posterior (Thompson sampling). */
export function choosePart(parts: readonly number[], tried: readonly DeliveryTrial[], random: () => number): number {
  const [first, last] = SHARPNESS;
  const sharp = first + (last - first) * Math.min(tried.length / SURE, 1);
  let [best, highest] = [parts[0], -1];
  for (const part of parts) {
    const [yes, no] = rate(tried, (trial) => partOf(trial.hour) === part, PRIOR);
    const [one, other] = [gamma(yes * sharp, random), gamma(no * sharp, random)];
    const drawn = one / (one + other);
    if (drawn > highest) [best, highest] = [part, drawn];
  }
  return best;
}

/** The two parameters of the Beta posterior of one rate. */
function rate(tried: readonly DeliveryTrial[], isIts: (trial: DeliveryTrial) => boolean, prior: Belief): Belief {
  let [yes, no] = prior;
  tried.forEach((trial, place) => {
    if (!isIts(trial)) return;
    const weight = 0.5 ** ((tried.length - 1 - place) / HALF_LIFE);
    if (trial.answered) yes += weight;
    else no += weight;
  });
  return [yes, no];
}

/** The value of trying a channel, per delivery: the most over k = 1, 2, 4, ... trials of the next `AHEAD`. */
function teaches([yes, no]: Belief, others: number): number {
  const weight = yes + no;
  const mean = yes / weight;
  const variance = (mean * (1 - mean)) / (weight + 1);
  let most = 0;
  for (let trials = 1; trials < AHEAD; trials *= 2) {
    // Standard deviation of the estimate after so many trials, around the present one.
    const spread = Math.sqrt((variance * trials) / (trials + weight));
    if (!spread) continue;
    const away = -Math.abs(mean - others) / spread;
    const gain = spread * (away * below(away) + Math.exp((-away * away) / 2) / Math.sqrt(2 * Math.PI));
    most = Math.max(most, ((AHEAD - trials) / trials) * gain);
  }
  return most;
}

/** The normal distribution function: Abramowitz and Stegun (1964), 26.2.17, for z <= 0; within 1e-7. */
function below(z: number): number {
  const t = 1 / (1 - 0.2316419 * z);
  const series = t * (0.31938153 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))));
  return (Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI)) * series;
}

/** A draw from Gamma(shape): Marsaglia and Tsang, A Simple Method for Generating Gamma Variables (2000). */
function gamma(shape: number, random: () => number): number {
  if (shape < 1) return gamma(shape + 1, random) * (1 - random()) ** (1 / shape);
  const d = shape - 1 / 3;
  for (;;) {
    const normal = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
    const v = (1 + normal / Math.sqrt(9 * d)) ** 3;
    if (v > 0 && Math.log(1 - random()) < normal ** 2 / 2 + d - d * v + d * Math.log(v)) return d * v;
  }
}
