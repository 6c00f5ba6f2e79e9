import { open, type Device, type Message } from "../../src/index.js";
import { Calendar } from "../../src/delivery/calendar.js";
import { channelsOf, messageOf } from "../../src/delivery/message.js";
import { Messages } from "../../src/delivery/messages.js";
import { MemoryStorage } from "../../src/ledger/storage.js";
import { equal, ok, refused, test } from "../harness.js";
import { place } from "../sample.js";

const TERMS = { senders: ["notification", "digest", "feed"], channels: [], control: 0, expected: {} };
const NOON = 1_790_000_000 - (1_790_000_000 % 86_400) + 12 * 3600;

/** Decisions at times of the test's own. */
function decisions(agreed = true): { messages: Messages; at: (time: number) => void } {
  let now = NOON;
  const messages = new Messages(new MemoryStorage(), () => agreed, () => now, new Calendar("UTC"));
  return { messages, at: (time) => (now = time) };
}

test("messages: caps of a day and a week hold, and messages wait for their time", async () => {
  const { messages, at } = decisions();
  await messages.allow("notification", true, "1");
  const only = { ...TERMS, senders: ["notification"] };
  const sent: number[] = [];
  for (let hour = 0; hour < 24 * 9; hour += 5) {
    at(NOON + 3600 * hour);
    const { delivery } = await messages.decide({ id: `m${hour}`, title: "A book", expires: NOON + 1e6 * 10 }, only);
    ok(delivery.sent !== null || delivery.due !== null, "sent, or waiting");
    if (delivery.sent !== null) sent.push(delivery.sent);
    for (let next = await messages.next(only); next.hand.length; next = await messages.next(only)) sent.push(...next.hand.map((each) => each.sent as number));
  }
  const days = new Map<number, number>();
  for (const time of sent) {
    const hour = (time % 86_400) / 3600;
    ok(hour >= 8 && hour < 21, `no message in quiet hours, got one at ${hour}`);
    days.set(Math.floor(time / 86_400), (days.get(Math.floor(time / 86_400)) ?? 0) + 1);
  }
  ok(sent.length > 6 && [...days.values()].every((count) => count <= 2), "at most two a day");
  const weeks = new Map<string, number>();
  for (const time of sent) weeks.set(new Calendar("UTC").moment(time).week, (weeks.get(new Calendar("UTC").moment(time).week) ?? 0) + 1);
  ok([...weeks.values()].every((count) => count <= 7), "at most seven a week");
});

test("messages: an id is decided on once, a bundle is one delivery, and expired messages are not sent", async () => {
  const { messages, at } = decisions();
  await messages.allow("digest", true, "1");
  const first = await messages.decide({ id: "one", title: "A" }, TERMS);
  equal([first.delivery.reason, first.hand], ["bundled", false]);
  equal((await messages.decide({ id: "one", title: "Another" }, TERMS)).delivery.message.title, "A");
  await messages.decide({ id: "two", title: "B" }, TERMS);
  await messages.decide({ id: "old", title: "C", expires: NOON + 10 }, TERMS);
  at(NOON + 86_400);
  const { hand } = await messages.next(TERMS);
  equal(hand.map(({ message }) => message.id), ["one", "two"]);
  equal((await messages.record((record) => record.find("old")?.reason)), "expired");
  equal(await messages.record((record) => record.past("digest").length), 1);
});

test("messages: nothing without consent, without a channel, or in the control group", async () => {
  equal((await decisions(false).messages.decide({ id: "a", title: "A" }, TERMS)).delivery.reason, "no consent");
  const { messages } = decisions();
  equal((await messages.decide({ id: "a", title: "A" }, TERMS)).delivery.reason, "no channel");
  await messages.allow("feed", true, "1");
  equal((await messages.decide({ id: "b", title: "B" }, { ...TERMS, control: 0.9999999 })).delivery.reason, "control group");
  equal((await messages.decide({ id: "c", title: "C", transactional: true }, { ...TERMS, control: 0.9999999 })).delivery.channel, "feed");
  await refused(() => messages.decide({ id: "", title: "C" }, TERMS), /`id` must be text/);
  ok(channelsOf().has("email") && messageOf({ id: "x", title: "y" }).transactional === false);
});

test("messenger: hands over in the page, notes what became of it, and learns of reactions", async () => {
  const device: Device = await open(await place());
  const shown: (readonly Message[])[] = [];
  await device.consent.grant("messaging");
  const messenger = device.messenger({ feed: (messages) => void shown.push(messages), notification: () => Promise.reject(new Error("not permitted")) }, { control: 0 });
  await messenger.allow("feed");
  // Another message may wait for the part of the day at which this user reacts more.
  equal((await messenger.deliver({ id: "new-7", title: "A new book", item: "book-7", transactional: true })).reason, "sent");
  equal(shown.map((group) => group.map(({ id }) => id)), [["new-7"]]);
  equal((await messenger.deliver({ id: "new-7", title: "Again" })).message.title, "A new book");
  equal([await messenger.reacted("new-7", "clicked"), await messenger.reacted("other", "clicked")], [true, false]);
  await messenger.disallow("feed");
  await messenger.allow("notification");
  equal((await messenger.deliver({ id: "receipt", title: "Your receipt", transactional: true })).reason, "failed");
  await messenger.reacted("receipt", "unsubscribed");
  equal(await messenger.allowed(), []);
  equal((await messenger.deliveries()).map(({ reason, reaction }) => [reason, reaction]), [["sent", "clicked"], ["failed", "unsubscribed"]]);
  await device.consent.revoke("messaging");
  equal((await messenger.deliver({ id: "late", title: "Too late" })).reason, "no consent");
  ok(["a", "b"].includes(await device.arm("spring")) && (await device.arm("spring")) === (await device.arm("spring")));
  await device.erase();
});
