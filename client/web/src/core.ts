/** Taking part: what the device of an app, in `index.ts`, is built on. */

export * from "./errors.js";
export { historyOf, type History } from "./algorithms/history.js";
export { FLOORS, forFew, type Floors } from "./floors.js";
export { DeviceLedger, type Receipt, type Trust } from "./ledger/device_ledger.js";
export { MemoryStorage, type Change, type Storage } from "./ledger/storage.js";
export { expand, expandUnpacked, inflate } from "./models/compact.js";
export { catalogueHash, evidenceOf, readManifest, type Manifest } from "./models/manifest.js";
export { readModel, type GlobalModel } from "./models/model.js";
export { enrolmentOf, type Enrolment } from "./online/enrolment.js";
export { checkTrusted, enroll, readInvitation, type Invitation } from "./online/invitation.js";
export { sync, type ModelSource, type SyncOptions, type SyncResult } from "./online/sync.js";
export { canonicalJson, digest, Float, readCanonical, readJson, type Json } from "./records/canonical.js";
export { SigningKey } from "./records/signing.js";
export { Rounds, type Leaving, type Purpose, type RoundsOptions } from "./rounds/participation.js";
export { ACCOUNTANT, ADJACENCY, spendingOf, UNIT, type Spending } from "./rounds/report.js";
export { readSurvey, type Survey } from "./rounds/survey.js";
export { Service, type ServiceTerms } from "./service.js";
