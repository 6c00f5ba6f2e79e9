/**
 * Taking: this device's part in rounds, and being online: what the host has, given to the core, and what leaves, noted in the journal.
 *
 *     consent, model in use, interests, answers -> Rounds -> sync -> journal
 */

import type { Purpose } from "../consent.js";
import type { Calendar } from "../delivery/calendar.js";
import type { Messages } from "../delivery/messages.js";
import { RefusedError } from "../errors.js";
import type { AtServer } from "../leaving/remains.js";
import type { Models } from "../models/models.js";
import { askedToDelete, enrolmentOf, leave, serverOf, type Enrolment } from "../online/enrolment.js";
import { sync } from "../online/sync.js";
import { Interests } from "../recommend/interests.js";
import { Rounds } from "../rounds/participation.js";
import { spendingOf, type Spending } from "../rounds/report.js";
import type { Forbids } from "../policy.js";
import type { Service, ServiceOptions } from "../service.js";
import type { Journal } from "../store/journal.js";
import type { Sealed } from "../store/sealed.js";
import type { EventStore } from "../store/store.js";
import type { Weighting } from "../weighting.js";
import { loaded } from "./loaded.js";
import { checkSeconds, NOTHING, SECONDS, type Enrolled, type SyncOptions, type SyncResult } from "./syncing.js";

/** Taking part in rounds, enrolment and sync. */
export interface Part {
  enroll(invitation: string): Promise<Enrolled>;
  enrolment(): Promise<Enrolled | null>;
  sync(options: SyncOptions, signal: AbortSignal, forbids?: Forbids): Promise<SyncResult>;
  spending(): Promise<Spending>;
  leave(seconds: number, signal: AbortSignal): Promise<void>;
  /** What the server has of this installation, and the signed bytes that showed the ledger's last state. */
  standing(): Promise<{ readonly server: AtServer | null; readonly evidence: Uint8Array | null }>;
}

/** What a part that takes part needs of the device. */
export interface PartContext {
  readonly storage: Sealed;
  readonly store: EventStore;
  readonly journal: Journal;
  readonly models: Models;
  readonly service: Service;
  readonly terms: ServiceOptions;
  readonly weighting: Weighting;
  readonly calendar: Calendar;
  readonly granted: (purpose: Purpose) => boolean;
  readonly messages: () => Promise<Messages>;
}

export async function makePart({ storage, store, journal, models, service, weighting, calendar, granted, messages, terms }: PartContext): Promise<Part> {
  const rounds = new Rounds({
    storage,
    service,
    clock: store.clock,
    consents: async (purpose) => !(await askedToDelete(storage)) && store.agreed(purpose),
    catalogue: async () => (await models.current())?.items ?? null,
    history: async () => new Interests(store, (await models.current())?.items ?? [], weighting).look().history,
    answers: async (survey) => {
      const { surveyAnswers } = await import("../rounds/seldom.js"); // it came with the survey, before it was charged
      const { deliveries, coins } = await (await messages()).record((record) => ({ deliveries: record.all(), coins: record.tossed() }));
      return surveyAnswers(survey, { events: store.rows, deliveries, coins, first: store.first }, calendar, store.clock());
    },
    note: (leaving) => journal.record(leaving),
    refused: (what, reason) => journal.refuse({ what, reason, time: store.clock() }),
  });
  let busy = false;

  const online = async (options: SyncOptions, signal: AbortSignal, policy?: Forbids): Promise<SyncResult> => {
    if (busy) return { ...NOTHING, ended: "busy", reason: "another sync of this device is running" };
    busy = true;
    try {
      await store.tidy();
      const { seconds = SECONDS, modelsOnly = false, pollSeconds } = options;
      checkSeconds(seconds);
      const result = await sync({
        storage, service, rounds, seconds, modelsOnly, signal, pollSeconds, policy,
        modelInUse: async () => (await models.current())?.id ?? null,
        takeModel: (_, source) => models.update(source),
      });
      const { ended, reason, rounds: taken, refused, sent, received, requests } = result;
      if (requests) await journal.meet({ time: store.clock(), ended, reason, rounds: taken, refused, sent, received });
      return result;
    } finally {
      busy = false;
    }
  };

  return {
    enroll: async (invitation) => {
      if (!granted("train") && !granted("analytics")) throw new RefusedError("the user has not agreed to take part in training or surveys");
      const { checkTrusted, enroll, readInvitation } = await loaded(import("../rounds/seldom.js"));
      const invited = readInvitation(invitation);
      checkTrusted(invited, service, [terms.witnesses ?? [], terms.nextWitnesses ?? []], terms.quorum ?? 0);
      return shown(await enroll(storage, invited, service, await rounds.identity()));
    },
    enrolment: async () => {
      const found = await enrolmentOf(storage);
      return found && shown(found);
    },
    sync: online,
    spending: () => spendingOf(rounds.ledger, service),
    leave: async (seconds, signal) => leave(storage, await rounds.identity(), seconds, signal),
    standing: async () => {
      const [enrolled, asked, identity] = [await enrolmentOf(storage, true), await askedToDelete(storage), await rounds.kept()];
      const server = enrolled && { server: serverOf(enrolled), device: enrolled.device, identity, asked: asked !== null, answered: asked?.answered ?? false };
      return { server, evidence: (await rounds.ledger.seen(service.population)).evidence };
    },
  };
}

/** An enrolment without its secrets. */
function shown({ origin, population, device }: Enrolment): Enrolled {
  return { server: origin, population, device };
}

