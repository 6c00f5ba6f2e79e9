"""An app that embeds Palate, as its type checker sees it: nothing here may be an error, and nothing `Any`."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, assert_type

import numpy as np
import numpy.typing as npt

import palate


def on_read(device: palate.Device, book: str, seconds: float) -> bool:
    outcome = device.track("view", book, value=seconds, props={"chapter": 3})
    assert_type(outcome, palate.Tracked)
    return bool(outcome)


def on_receipt(device: palate.Device, lines: list[tuple[str, datetime]]) -> int:
    events = [palate.Event("purchase", item, time=at, source="offline") for item, at in lines]
    outcomes = device.track_many(events)
    assert_type(outcomes, list[palate.Tracked])
    return outcomes.count(palate.Tracked.STORED)


def settings(device: palate.Device, *, agreed: bool) -> str:
    decision = device.consent.grant("train", version="2") if agreed else device.consent.revoke("train", version="2")
    assert_type(decision, palate.Decision)
    assert_type(device.consent.get("store"), bool)
    assert_type(device.consent.history(), tuple[palate.Decision, ...])
    return decision.remains


def main(home: Path, key: bytes | None) -> None:
    limits = palate.Limits(keep_days=365, max_events=50_000)
    with palate.open(home / "palate", app="shelf", key=key, preset="shop", limits=limits) as device:
        assert_type(device, palate.Device)
        on_read(device, "book-7", 40.5)
        on_receipt(device, [("book-8", datetime.now(UTC))])
        interests = device.interests(["book-7", "book-8"])
        assert_type(interests, palate.Interests)
        assert_type(interests.interactions(), palate.Interactions)
        assert_type(interests.unwanted(), npt.NDArray[np.int32])
        assert_type(device.import_jsonl(home / "receipts.jsonl"), palate.ImportReport)
        assert_type(device.export("mine.jsonl"), int)
        assert_type(device.items(), palate.ItemTable | None)
        films = palate.ItemTable.of([palate.ItemFacts("f1", "Heat", 1995)])
        preview = device.import_history("ratings.csv", table=films)
        assert_type(preview, palate.HistoryPreview)
        assert_type(preview.to_confirm, tuple[palate.Suggestion, ...])
        report = preview.store(confirmed=preview.to_confirm)
        assert_type(report, palate.HistoryReport)
        assert_type(device.imports(), tuple[palate.Import, ...])
        assert_type(device.forget_import(device.imports()[0].id), int)
        assert_type(device.problem, str)
        device.flush()
        assert_type(device.consent, palate.Consent)
        device.erase()


def begin_anew(home: Path) -> str:
    try:
        palate.erase(home / "palate")
    except palate.PalateError as error:
        assert_type(error.code, str)
        return error.code
    return ""


def problems(report: palate.ImportReport) -> list[str]:
    assert_type(report.problems, tuple[palate.Problem, ...])
    return [f"{each.line}: {each.reason}" for each in report.problems]


def why(told: palate.Explanation) -> list[str]:
    assert_type(told.contributions, tuple[palate.Contribution, ...])
    return [each.item for each in told.contributions]


def on_home(device: palate.Device, model: palate.GlobalModel, items: list[str]) -> list[str]:
    device.use_model(model, items, domains=["books"] * len(items), fuse=True)
    shown = device.recommend(n=5, domain="books", filter_items={"book-7"}, discovery=0.4, explore=0.2, tuned=False)
    assert_type(device.tuning(), palate.Tuning)
    assert_type(shown, list[palate.Recommendation])
    assert_type(device.feedback(shown, {shown[0].item: "click"}), list[palate.Tracked])
    device.feedback(shown, {shown[0].item: palate.Event("rate", shown[0].item, value=5)})
    told = device.explain("book-7", domain="books", discovery=0.4)
    assert_type(told, palate.Explanation)
    assert_type((told.domain, told.elsewhere), tuple[str | None, float])
    assert_type(device.similar_items("book-7", 3, domain="books"), list[palate.Similar])
    assert_type(device.recommend(3, context=["book-7"]), list[palate.Recommendation])
    assert_type(device.goes_with(("book-7", "book-8"), 3, domain="books"), list[palate.Similar])
    assert_type(device.rank_lists({"sea": ["book-7"]}, context=["book-8"]), list[palate.Similar])
    assert_type(device.less_of("book-8"), palate.Tracked)
    assert_type(device.like_to_start(["book-7"]), list[palate.Tracked])
    assert_type(device.questions(3, domain="books"), list[str])
    assert_type(device.open_log(), palate.OpenLog)
    device.reset_taste()
    device.forget_model()
    return [f"{each.item}: {each.reason}" for each in shown]


def own_weights() -> palate.Weighting:
    return palate.Weighting(kinds={"view": 0.1, "purchase": 1.0}, combine="sum", cap=3.0)


def opened(path: str) -> palate.Device | None:
    try:
        return palate.open(path, app="shelf", key=palate.new_key())
    except palate.WrongKeyError as error:
        print(error)
        return None


def trusted(public_key: str) -> palate.Service:
    floors = palate.Floors(min_cohort=1000, allow_central=False)
    service = palate.Service(
        public_key=public_key, population="readers", epsilon=4.0, delta=1e-6, participations=100, floors=floors
    )
    assert_type(service.limit_mu2, float)
    assert_type(service.loosened, tuple[str, ...])
    return service


def on_new_model(device: palate.Device, downloads: Path, fetch: Callable[[str], bytes]) -> str:
    for name in ("manifest.json", "signature"):
        (downloads / name).write_bytes(fetch(name))
    names = device.files_to_download(downloads)
    assert_type(names, tuple[str, ...])
    for name in names:
        (downloads / name).write_bytes(fetch(name))
    try:
        changed = device.update_model(downloads)
    except (palate.IntegrityError, palate.RefusedError) as error:
        return str(error)
    assert_type(changed, bool)
    found = device.model()
    assert_type(found, palate.Published | None)
    if found is None:
        return "no model"
    assert_type(found.items, tuple[str, ...])
    assert_type(found.domains, tuple[str, ...] | None)
    assert_type(found.version, int)
    return found.manifest.population


def on_round(device: palate.Device, plan: bytes, model: bytes, send: Callable[[bytes], None]) -> str:
    answer = device.contribute(plan, model)
    assert_type(answer, bytes)
    send(answer)
    assert_type(device.refusal, str)
    return device.refusal


def on_masked_round(
    device: palate.Device, plan: bytes, model: bytes, directory: bytes, requests: Iterable[bytes]
) -> Iterator[bytes]:
    assert_type(device.identity, str)
    taking_part = device.join(plan, model, directory, number=7)
    assert_type(taking_part, palate.Masked | None)
    if taking_part is None:
        return
    for request in requests:
        yield taking_part.answer(request)
    assert_type(taking_part.refusal, str)
    taking_part.close()


def on_invitation(device: palate.Device, invitation: str) -> str:
    try:
        enrolled = device.enroll(invitation)
    except (palate.UnreachableError, palate.RefusedError, palate.InputError) as error:
        return str(error)
    assert_type(enrolled, palate.Enrolment)
    assert_type(device.enrolment, palate.Enrolment | None)
    return str(enrolled)


def on_idle(
    device: palate.Device, charging: Callable[[], bool], invitation: palate.Invitation | None = None
) -> palate.Syncing:
    policy = palate.Policy(charging=charging)
    done = device.sync(seconds=60, policy=policy)
    if not device.consent.get("train"):
        done = device.sync(models_only=True, invitation=invitation)
    assert_type(done, palate.SyncResult)
    background = device.sync_in_background(policy=policy)
    assert_type(background.wait(0.0), palate.SyncResult | None)
    return background


def on_settings_page(device: palate.Device) -> str:
    report = device.privacy_report()
    assert_type(report, palate.PrivacyReport)
    assert_type(report.consents, dict[str, bool])
    if report.spending is not None:
        assert_type(report.spending, palate.Spending)
        assert_type(report.spending.epsilon, float | None)
        assert_type(report.spending.remaining, float)
        assert_type(report.spending.receipts, tuple[palate.Receipt, ...])
        assert_type(report.spending.seen, palate.Checkpoint | None)
    for sent in report.sent:
        assert_type(sent.bytes, int)
    for refusal in report.refusals:
        assert_type(refusal.reason, str)
    assert_type(report.problem, str)
    assert_type(report.sent, tuple[palate.Sent, ...])
    assert_type(report.refusals, tuple[palate.Refusal, ...])
    assert_type(report.opened, tuple[palate.Opened, ...])
    assert_type(report.models, tuple[palate.Edition, ...])
    assert_type(report.contacts, tuple[palate.Contact, ...])
    assert_type(report.as_dict(), dict[str, Any])
    assert_type(device.consent.get("analytics"), bool)
    return str(report)


def on_my_data(device: palate.Device, titles: dict[str, str]) -> str:
    assert_type(device.recommend(1)[0].told("de", titles=titles), str)
    assert_type(device.page(language=Path("fr.json"), titles=titles, tags={"book-7": ["Novel"]}), str)
    return device.page(language="de", actions="/palate", token=palate.new_key().hex())


def in_a_cart(device: palate.Device, cart: list[str]) -> list[palate.Similar]:
    shown = device.recommend(5, where="price < 20", pin=["tea-1"], boost={"sale": 0.1})
    assert_type(shown, list[palate.Recommendation])
    assert_type(device.buy_again() + device.unfinished(3), list[palate.Recommendation])
    assert_type(device.rank_lists({"evening": cart}, context=cart), list[palate.Similar])
    return device.goes_with(cart, 3)


def to_a_new_phone(device: palate.Device, file: Path, key: bytes) -> None:
    kinds: tuple[palate.Kind, palate.OwnKind] = ("view", palate.OwnKind("unboxed"))
    device.track_many(palate.Event(kind, "book-7") for kind in kinds)
    assert_type(device.profile({"kinds": ["Comedy"], "age": "25-34"}), dict[str, list[str]])
    device.export_portable(file, key=key)
    with palate.open("new", app="shelf", key=key, user="anna") as device:
        device.import_portable(file, key=key)


def tested() -> palate.SyncResult:
    clock = palate.testing.Clock()
    with palate.testing.device(consents=("store",), clock=clock) as alone:
        assert_type(alone, palate.Device)
    clock.advance(days=1.5, hours=2)
    with palate.testing.Server({"tea-1": "Green"}, clock=clock) as server, server.device() as device:
        assert_type(device.enroll(server.invitation()), palate.Enrolment)
        server.clock.advance(hours=1)
        return device.sync()


def on_leave(device: palate.Device) -> list[str]:
    lines = list(device.export_lines())
    assert_type(lines, list[str])
    assert_type(device.more_of("book-1"), palate.Tracked)
    assert_type(device.hide("book-2"), palate.Tracked)
    assert_type(device.statement(), palate.Statement)
    try:
        if device.enrolment is not None:
            device.leave(seconds=10.0)
        left = device.erase(statement=Path("what-remains.json"))
        assert_type(left, palate.Statement)
        assert_type(left.anonymous(), palate.Statement)
    except palate.LockedError:
        return []
    except palate.PalateError as error:
        return [str(error)]
    device.close()
    return lines


def on_price_drop(device: palate.Device, address: str) -> str:
    channels = [palate.Channel(name="email", per_day=1, per_week=3, quiet=palate.Quiet(21, 8))]
    messenger = device.messenger({"email": palate.apprise_sender(address)}, channels=channels)
    assert_type(messenger, palate.Messenger)
    told = messenger.deliver(palate.Message(id="drop-7", title="Book 7 is cheaper", item="book-7"))
    assert_type(told, palate.Delivery)
    assert_type(told.reason, palate.Reason)
    assert_type(device.arm("letters"), Literal["a", "b"])
    assert_type(device.loyalty(), palate.Loyalty)
    return ", ".join(messenger.allowed())


def by_parts(device: palate.Device) -> palate.Published | None:
    assert_type(device.recommendations.tuning(), palate.Tuning)
    assert_type(device.messages.arm("letters"), Literal["a", "b"])
    assert_type(device.rounds.refusal, str)
    assert_type(device.online.enrolment, palate.Enrolment | None)
    return device.models.current()


def all_purposes(device: palate.Device, purposes: Iterable[palate.Purpose]) -> list[bool]:
    return [device.consent.get(purpose) for purpose in purposes]


def failures() -> tuple[type[palate.PalateError], ...]:
    return (
        palate.ClosedError, palate.ErasedError, palate.InputError, palate.IntegrityError, palate.LockedError,
        palate.RefusedError, palate.WrongKeyError,
    )  # fmt: skip


def at_a_desk() -> float:
    return float(palate.simulate("my.csv", epsilon=5).metrics["recall_capped@20"])


def in_a_notebook() -> list[str]:
    recommender = palate.Recommender(epsilon=5).fit("my.csv")
    assert_type(recommender, palate.Recommender)
    found = recommender.recommend(["book-7"])
    assert_type(found, palate.ScoredItems)
    assert_type(found[0], palate.ScoredItem)
    return found.ids


def noised(data: list[float]) -> float:
    return sum(data) + random.gauss(0.0, 1.0)


def audited() -> str:
    return str(palate.audit(noised, epsilon=3, delta=1e-6).verdict)


def first_page(home: Path) -> list[palate.Recommendation]:
    sample = palate.sample()
    assert_type(sample, palate.Starter)
    assert_type(palate.starter("films"), palate.Starter)
    with palate.open(home / "palate", app="shelf", key=palate.new_key(), service=sample.service) as device:
        device.update_model(sample.folder)
        return device.recommend(5)
