/** Loyalty definitions: what each figure of `loyalty.ts` is; apart, as a page may show them before it asks for any. */

/** Definition of each figure. */
export const DEFINITIONS = {
  recencyDays: "days since the last event that the user made; impressions are none",
  frequency: "visits that began in the last 30 days",
  monetary: "sum of the amounts of purchases in the last 365 days, or of their numbers where no amount is known",
  visits: "visits in all: events no more than 30 minutes apart are one",
  activeDays: "calendar days of the user's with a visit, in all",
  visitMinutes: "mean minutes from a visit's first event to its last; a visit of one event counts 0",
  stickiness: "calendar days with a visit in the last 30, divided by 30, or by those since the first visit",
  retentionExact: "whether there was a visit on the n-th calendar day after the first; unknown before its end",
  retentionAfter: "whether there was a visit on the n-th calendar day after the first, or later; unknown before",
  churnRisk: "1 - P(alive) of the BG/NBD model (Fader, Hardie and Lee 2005), visits as purchases, in weeks",
} as const;
