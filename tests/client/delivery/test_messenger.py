"""Messenger: every message has one decision with a reason, and none is sent against consent, rules or twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import palate
from palate_client.delivery.channel import Channel
from palate_client.delivery.message import Message
from palate_client.delivery.messenger import Messenger
from palate_client.delivery.rules import DAY, Reason
from palate_common.campaign import Campaign, sign_campaign
from palate_core.errors import InputError, IntegrityError
from palate_core.log.signing import SigningKey

NOON = 1_772_452_800.0  # Monday 2026-03-02 12:00 UTC
KEY = SigningKey.generate()


@dataclass
class Mailbox:
    """A channel that keeps what it gets."""

    got: list[list[str]] = field(default_factory=list)
    down: bool = False

    def __call__(self, messages: Sequence[Message]) -> None:
        if self.down:
            raise OSError("down")
        self.got.append([each.id for each in messages])


@pytest.fixture
def mail() -> Mailbox:
    return Mailbox()


@pytest.fixture
def device(open_device: Callable[..., palate.Device], clock: Any) -> palate.Device:
    clock.now = NOON
    device = open_device(zone="UTC")
    device.consent.grant("messaging")
    return device


def messenger_of(device: palate.Device, mail: Mailbox, *, channel: str = "email", **changes: Any) -> Messenger:
    """One channel, no control group, and never a better hour: every draw falls alike."""
    messenger = device.messenger({channel: mail}, control=0.0, **changes)
    messenger.allow(channel)
    return messenger


def at_once(messenger: Messenger, message: Message) -> Any:
    """Deliver, and wait for the better hour if there is one."""
    made = messenger.deliver(message)
    if made.reason is Reason.BETTER_LATER:
        messenger.clock.now = made.due  # type: ignore[attr-defined]  # the test's clock
        (made,) = messenger.deliver_waiting()
    return made


def test_a_message_is_sent_once(device: palate.Device, mail: Mailbox) -> None:
    messenger = messenger_of(device, mail)
    assert at_once(messenger, Message("one", title="One")).reason is Reason.SENT
    assert messenger.deliver(Message("one", title="One again")).reason is Reason.SENT
    assert mail.got == [["one"]]


def test_without_consent_nothing_is_sent(device: palate.Device, mail: Mailbox) -> None:
    messenger = messenger_of(device, mail)
    device.consent.revoke("messaging")
    for number, transactional in enumerate((False, True)):
        made = messenger.deliver(Message(f"m{number}", title="t", transactional=transactional))
        assert made.reason is Reason.NO_CONSENT
    assert mail.got == []


def test_a_channel_needs_its_own_consent(device: palate.Device, mail: Mailbox) -> None:
    messenger = device.messenger({"email": mail}, control=0.0)
    assert messenger.deliver(Message("a", title="t")).reason is Reason.NO_CHANNEL
    messenger.allow("email", version="2026-03")
    assert messenger.allowed() == ("email",)
    messenger.disallow("email")
    assert messenger.deliver(Message("b", title="t", transactional=True)).reason is Reason.NO_CHANNEL
    assert mail.got == []


def test_consent_that_is_taken_back_holds_for_what_waits(device: palate.Device, mail: Mailbox, clock: Any) -> None:
    clock.now = NOON + 12 * 3600
    messenger = messenger_of(device, mail)
    assert messenger.deliver(Message("a", title="t")).reason is Reason.QUIET
    device.consent.revoke("messaging")
    clock.now = NOON + DAY
    assert [each.reason for each in messenger.deliver_waiting()] == [Reason.NO_CONSENT]
    assert mail.got == []


def test_a_receipt_is_held_back_by_no_rule(device: palate.Device, mail: Mailbox, clock: Any) -> None:
    messenger = device.messenger({"email": mail}, control=0.999999)
    messenger.allow("email")
    clock.now = NOON + 12 * 3600  # midnight
    for number in range(3):
        assert messenger.deliver(Message(f"r{number}", title="Receipt", transactional=True)).reason is Reason.SENT
    assert mail.got == [["r0"], ["r1"], ["r2"]]


def test_receipts_do_not_use_up_a_cap(device: palate.Device, mail: Mailbox) -> None:
    messenger = messenger_of(device, mail)
    messenger.deliver(Message("r", title="Receipt", transactional=True))
    assert at_once(messenger, Message("a", title="t")).reason is Reason.SENT


def test_the_second_of_a_day_waits_for_the_next(device: palate.Device, mail: Mailbox, clock: Any) -> None:
    messenger = messenger_of(device, mail)
    at_once(messenger, Message("a", title="t"))
    made = messenger.deliver(Message("b", title="t"))
    assert made.reason is Reason.CAP_DAY
    assert messenger.deliver_waiting() == []
    clock.now += DAY
    assert made.waiting
    while [each.reason for each in messenger.deliver_waiting()] != [Reason.SENT]:
        clock.now += 3600
    assert mail.got == [["a"], ["b"]]


def test_a_message_that_waited_too_long_is_not_sent(device: palate.Device, mail: Mailbox, clock: Any) -> None:
    clock.now = NOON + 12 * 3600
    messenger = messenger_of(device, mail)
    made = messenger.deliver(Message("a", title="t", expires=clock.now + 60))
    assert (made.reason, made.due) == (Reason.QUIET, clock.now + 60)
    clock.now += 60
    assert [each.reason for each in messenger.deliver_waiting()] == [Reason.EXPIRED]
    assert mail.got == []


def test_the_control_group_is_a_coin_that_is_tossed_once(device: palate.Device, mail: Mailbox) -> None:
    messenger = device.messenger({"email": mail}, control=0.999999999)
    messenger.allow("email")
    assert messenger.in_control()
    assert messenger.deliver(Message("a", title="t")).reason is Reason.CONTROL
    tossed = device.messenger({"email": mail}, control=0.5).in_control()
    assert {device.messenger({"email": mail}, control=0.5).in_control() for _ in range(20)} == {tossed}


def test_a_channel_that_is_down_costs_the_message(device: palate.Device, mail: Mailbox) -> None:
    mail.down = True
    messenger = messenger_of(device, mail)
    assert at_once(messenger, Message("a", title="t")).reason is Reason.FAILED
    mail.down = False
    assert messenger.deliver(Message("b", title="t")).reason is Reason.CAP_DAY
    assert mail.got == []


def test_a_kill_while_handing_over_loses_the_message_and_sends_it_never_twice(
    device: palate.Device, mail: Mailbox
) -> None:
    class Killed(BaseException):
        pass

    def kill(_: Sequence[Message]) -> None:
        raise Killed

    messenger = device.messenger({"email": kill}, control=0.0)
    messenger.allow("email")
    with pytest.raises(Killed):
        messenger.deliver(Message("a", title="t", transactional=True))
    after = messenger_of(device, mail)
    assert after.deliver(Message("a", title="t", transactional=True)).reason is Reason.LOST
    assert mail.got == []


def test_a_digest_collects(device: palate.Device, mail: Mailbox, clock: Any) -> None:
    messenger = messenger_of(device, mail, channel="digest")
    made = [messenger.deliver(Message(name, title=name)) for name in "abc"]
    assert [each.reason for each in made] == [Reason.BUNDLED] * 3
    assert len({each.due for each in made}) == 1
    clock.now = made[0].due or NOON
    assert [each.reason for each in messenger.deliver_waiting()] == [Reason.SENT] * 3
    assert mail.got == [["a", "b", "c"]]
    later = messenger.deliver(Message("d", title="d"))
    assert later.reason in (Reason.BUNDLED, Reason.CAP_DAY)


def test_unsubscribing_takes_the_channel_away(device: palate.Device, mail: Mailbox) -> None:
    messenger = messenger_of(device, mail)
    at_once(messenger, Message("a", title="t"))
    assert messenger.reacted("a", "unsubscribed")
    assert messenger.allowed() == ()
    assert messenger.deliver(Message("b", title="t")).reason is Reason.NO_CHANNEL


def test_reactions_are_to_what_was_sent(device: palate.Device, mail: Mailbox) -> None:
    messenger = messenger_of(device, mail)
    assert not messenger.reacted("never", "clicked")
    with pytest.raises(InputError, match="`reaction` must be one of"):
        messenger.reacted("never", "loved")


def test_what_the_user_did_first_is_not_undone_by_what_they_did_last(device: palate.Device, mail: Mailbox) -> None:
    messenger = messenger_of(device, mail)
    at_once(messenger, Message("one", title="One"))
    kept = []
    for reaction in ("dismissed", "opened", "bought", "clicked", "dismissed", "unsubscribed", "opened"):
        assert messenger.reacted("one", reaction)
        kept.append(messenger.deliveries()[0].reaction)
    assert kept == ["dismissed", "opened", "bought", "bought", "bought", "unsubscribed", "unsubscribed"]
    assert messenger.allowed() == ()


def test_an_export_with_messages_can_be_imported(
    device: palate.Device, mail: Mailbox, tmp_path: Path, open_device: Callable[..., palate.Device]
) -> None:
    at_once(messenger_of(device, mail), Message("one", title="One"))
    device.export(tmp_path / "export.jsonl")
    other = open_device(path=tmp_path / "other")
    assert other.import_jsonl(tmp_path / "export.jsonl").problems == ()


def test_the_channel_that_is_answered_is_used(device: palate.Device, clock: Any) -> None:
    boxes = {"chat": Mailbox(), "email": Mailbox()}
    free = [Channel(name=name, per_day=None, per_week=None, quiet=None) for name in boxes]
    messenger = device.messenger(boxes, channels=free, control=0.0)
    for name in boxes:
        messenger.allow(name)
    for number in range(40):
        made = at_once(messenger, Message(f"m{number}", title="t"))
        if made.channel == "chat":
            messenger.reacted(f"m{number}", "clicked")
        clock.now += 3 * DAY
    used = [made.channel for made in messenger.deliveries()][-20:]
    assert used.count("chat") >= 16


def test_every_message_has_its_reason_in_the_record_and_the_export(
    device: palate.Device, mail: Mailbox, tmp_path: Path
) -> None:
    messenger = messenger_of(device, mail)
    at_once(messenger, Message("a", title="t"))
    messenger.deliver(Message("b", title="t"))
    assert [each.reason for each in messenger.deliveries()] == [Reason.SENT, Reason.CAP_DAY]
    device.export(tmp_path / "mine.jsonl")
    text = (tmp_path / "mine.jsonl").read_text()
    assert '"type": "delivery"' in text
    assert '"type": "channel"' in text


def test_erasing_takes_the_record(device: palate.Device, mail: Mailbox, folder: Path) -> None:
    messenger = messenger_of(device, mail)
    at_once(messenger, Message("a", title="t"))
    assert list(folder.glob("*.deliveries"))
    device.erase()
    assert not list(folder.glob("*.deliveries*"))
    with pytest.raises(palate.PalateError):
        messenger.deliver(Message("b", title="t"))


def test_nothing_readable_is_in_the_file(device: palate.Device, mail: Mailbox, folder: Path) -> None:
    messenger = messenger_of(device, mail)
    at_once(messenger, Message("marked-id", title="marked-title", item="marked-item"))
    for file in folder.iterdir():
        assert b"marked" not in file.read_bytes()


def test_two_messengers_share_one_record(device: palate.Device, mail: Mailbox) -> None:
    first, second = messenger_of(device, mail), messenger_of(device, mail)
    at_once(first, Message("a", title="t"))
    assert second.deliver(Message("b", title="t")).reason is Reason.CAP_DAY


def test_a_campaign_without_a_service_is_refused(device: palate.Device, mail: Mailbox) -> None:
    messenger = messenger_of(device, mail)
    campaign = Campaign(id="c", population="readers", title="t", item="book-1", expires=NOON + DAY)
    with pytest.raises(InputError, match="campaigns come from one"):
        messenger.offer(sign_campaign(campaign, KEY))


def test_a_campaign_is_for_those_whom_their_own_device_says_it_fits(
    open_device: Callable[..., palate.Device], mail: Mailbox, clock: Any
) -> None:
    clock.now = NOON
    device = open_device(zone="UTC", service=palate.Service(public_key=KEY.public, population="readers"))
    device.consent.grant("messaging")
    messenger = messenger_of(device, mail)
    campaign = Campaign(id="c", population="readers", title="t", item="book-1", expires=NOON + DAY)
    made = messenger.offer(sign_campaign(campaign, KEY))
    assert made.reason is Reason.NOT_FOR_THEM  # no model yet
    assert messenger.offer(sign_campaign(campaign, KEY)).reason is Reason.NOT_FOR_THEM
    fitting = campaign.model_copy(update={"id": "d"})
    assert at_offer(messenger, fitting, fits=True).reason is Reason.SENT
    with pytest.raises(IntegrityError):
        messenger.offer(sign_campaign(fitting, SigningKey.generate()))


def at_offer(messenger: Messenger, campaign: Campaign, *, fits: bool) -> Any:
    """Offer a campaign to a messenger whose user it fits, or doesn't, and wait for its hour."""
    from dataclasses import replace

    judged = replace(messenger, fits=lambda _: fits, rng=np.random.default_rng(0))
    made = judged.offer(sign_campaign(campaign, KEY))
    if made.reason is Reason.BETTER_LATER:
        judged.clock.now = made.due  # type: ignore[attr-defined]  # the test's clock
        (made,) = judged.deliver_waiting()
    return made


@pytest.mark.parametrize(
    "wrong",
    [{"id": ""}, {"title": ""}, {"title": "two\nlines"}, {"expires": -1}, {"transactional": 1}, {"body": "x" * 4001}],
)
def test_what_is_no_message_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="must be"):
        Message(**{"id": "a", "title": "t", **wrong})


def test_what_is_no_messenger_is_refused(device: palate.Device, mail: Mailbox) -> None:
    with pytest.raises(InputError, match="`channel` must be one of"):
        device.messenger({"pigeon": mail})
    with pytest.raises(InputError, match="`control` must be a share"):
        device.messenger({"email": mail}, control=1.0)
    with pytest.raises(InputError, match="`channel` must be one of"):
        device.messenger({"email": mail}).allow("pigeon")
