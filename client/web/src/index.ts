/** The device of Palate in a browser, and in Node. */

export * from "./errors.js";
export { Consent, Device, erase, hasStore, open, type OpenOptions } from "./device.js";
export { Messenger, notificationSender, type MessengerOptions, type Sender } from "./delivery/messenger.js";
export { newKey } from "./store/keys.js";
export { KINDS, type EventInput, type Kind, type Tracked } from "./events.js";
export { PURPOSES, REMAINS, type ConsentDecision, type Purpose } from "./consent.js";
export { FLOORS, forFew, type Floors } from "./floors.js";
export { PANEL_WORDS, type OpenLog } from "./panel.js";
export { DEFINITIONS, type Loyalty } from "./loyalty.js";
export type { Channel, Message, MessageInput, Quiet } from "./delivery/message.js";
export type { Allowance, Delivery, Reaction } from "./delivery/record.js";
export type { Reason } from "./delivery/rules.js";
export { isCharging, isIdle, isUnmetered, type Hook, type Policy } from "./policy.js";
export type { AtServer, LeftUnder, RoundOf, SeenState, Statement, TellingBound } from "./leaving/remains.js";
export type { Spending } from "./rounds/report.js";
export type { EraseOptions, InterestsNow, ModelInfo } from "./hosting/host.js";
export type { PrivacyReport, StorageReport } from "./hosting/report.js";
export type { Enrolled, SyncOptions, SyncResult } from "./hosting/syncing.js";
export type { ItemFacts } from "./models/item_table.js";
export type { ServiceOptions } from "./service.js";
export type { OwnModelOptions } from "./recommend/own_model.js";
export type { ImportReport } from "./portability.js";
export type { Because, Contribution, Explanation } from "./recommend/explanation.js";
export type { Recommendation, RecommendOptions, ScoreOptions, Similar } from "./recommend/recommender.js";
export type { Tuning } from "./recommend/adaptation/tuning.js";
export type { Limits } from "./store/retention.js";
export type { WeightingOptions } from "./weighting.js";
