"""Devices judge a model before it is published: a charged verdict on the real road, and what it lets through."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest
from judged import DEVICES, EPSILON, HONEST, ITEMS, PUSHED, card, histories, train

from palate_audit.run.ledger import audit_ledger
from palate_common.algorithms import verdict
from palate_core.accounting import epsilon_of, mu_of
from palate_core.errors import InputError, RefusedError
from palate_server.folder.events import EventLog
from palate_server.folder.server_folder import Site
from palate_server.operation import releases
from palate_server.operation.judging import Verdicts, awaited, question
from palate_server.operation.outlook import read_outlook
from palate_server.operation.releases import UnjudgedError, latest, publish, verdict_of, verdicts_on
from palate_server.rounds.terms import noise_delta
from palate_server.service.status import unpublished
from palate_server.service.supervisor import Supervisor

pytestmark = pytest.mark.slow

Maker = Callable[..., Any]


@pytest.fixture(params=["central"])
def service(make_judged: Maker, request: pytest.FixtureRequest) -> Any:
    """A site whose models are judged."""
    return make_judged(dp=request.param)


def spent(service: Any) -> float:
    with service.site.ledger(read_only=True) as ledger:
        return ledger.spent()


@pytest.mark.parametrize("service", ["distributed"], indirect=True)
def test_no_model_is_published_before_its_verdict_which_is_charged_and_sealed(service: Any) -> None:
    start = latest(service.site)
    run = train(service)
    with pytest.raises(UnjudgedError, match="devices judge it first"):
        publish(service.site, run, card)
    training = spent(service)
    with Supervisor(service.site, card=lambda extract: b"{}", dev=True) as supervisor:
        supervisor._publish()
        assert latest(service.site).version == start.version, "it waits, and holds nothing"
        service.operate()
        assert audit_ledger(service.site.folder).alarms == ()
        supervisor._publish()
    with service.site.ledger(read_only=True) as ledger:
        (judging,) = verdicts_on(ledger, run).tried
        assert [entry.kind for entry in ledger.entries(judging)] == ["open", "charge", "seal", "close"]
        said = verdict_of(service.site, ledger, run)
    assert (said.devices, said.pushed, said.worse) == (DEVICES, (), False)
    assert said.lost < -0.5, "it gains more than no model at all"
    delta = noise_delta(service.site.config.privacy.dp, service.site.config.privacy.delta)
    assert spent(service) - training == pytest.approx(mu_of(epsilon=EPSILON, delta=delta) ** 2, rel=1e-4)
    assert all(service.devices.ledger.spent(device) == pytest.approx(spent(service)) for device in range(DEVICES))
    assert latest(service.site).version > start.version
    assert (len(service.events("published")), service.events("held")) == (1, [])
    assert unpublished_now(service) is None, "a verdict is no model"
    opened = service.events("opened")
    assert [event.get("judges") for event in opened] == [None, run]
    (judged,) = service.events("judged")
    assert (judged["run"], judged["devices"], judged["words"]) == (run, DEVICES, "")


def unpublished_now(service: Any) -> str | None:
    with service.site.ledger(read_only=True) as ledger:
        return unpublished(ledger)


def test_a_model_that_is_worse_or_pushes_an_item_is_never_published(service: Any) -> None:
    publish(service.site, train(service, steps=2), card)
    good = latest(service.site).version
    worse = train(service, histories(without=2, items=tuple(range(6))), steps=2)
    with Supervisor(service.site, card=lambda extract: b"{}", dev=True) as supervisor:
        supervisor._publish()
    (held,) = service.events("held")
    assert (held["run"], "worse than the model in use" in held["reason"]) == (worse, True)
    with pytest.raises(RefusedError, match=r"worse than the model in use: .* more of them lose"):
        publish(service.site, worse, card)
    pushed = train(service, PUSHED, steps=2)
    assert pushed != worse
    with pytest.raises(RefusedError, match=r"devices have 'item-0' in .* of their lists") as refused:
        publish(service.site, pushed, card)
    assert "item-9" not in str(refused.value)
    assert latest(service.site).version == good
    publish(service.site, train(service, steps=2), card)
    assert latest(service.site).version > good, "the next run starts from what is in use, and is judged by itself"


def test_new_items_wait_until_a_verdict_is_over_and_both_models_of_the_next_one_have_them(service: Any) -> None:
    run = train(service)
    file = service.site.folder / "items"
    file.write_text(file.read_text() + "new\n")
    service.site = Site.at(service.site.folder)
    train(service)
    assert (service.events("verdict refused"), len(service.events("judged"))) == ([], 1)
    assert len(publish(service.site, run, card).items) == ITEMS
    service.operate()
    in_use, wider = latest(service.site), replace(HONEST, n_items=ITEMS + 1)
    assert in_use.items == service.site.catalogue.items
    run = train(service, wider, steps=2, judges=wider)
    with service.site.ledger(read_only=True) as ledger:
        judged, state, catalogue = question(service.site, ledger, run)
        said = verdict_of(service.site, ledger, run)
    assert (verdict.ROWS in state, catalogue.items) == (False, in_use.items)
    assert (judged.in_use.model, said.worse) == (in_use.model.hash, False)
    assert said.lost > -0.3, "beside a model that knows nothing it would win everybody"


def test_without_a_verdict_it_stays_unpublished_unless_the_operator_says_otherwise(service: Any, clock: Any) -> None:
    run = train(service)
    service.devices.away = set(range(DEVICES))
    clock.now += 71 * 3600
    service.operate()
    with pytest.raises(UnjudgedError):
        publish(service.site, run, card)
    later = clock.now + 2 * 3600
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(releases.time, "time", lambda: later)
        with pytest.raises(RefusedError, match=r"no verdict came about: `judging.unjudged` is hold"):
            publish(service.site, run, card)
        file = service.site.config_file
        file.write_text(file.read_text() + 'unjudged = "publish"\n')
        assert publish(Site.at(service.site.folder), run, card).version
    assert math.isfinite(spent(service))


@pytest.mark.parametrize(("size", "epsilon", "told"), [(100, 0.3, "or at least 1[0-9]"), (20, 5.0, "with so few")])
def test_what_could_tell_nothing_is_refused_before_anybody_is_asked(
    make_service: Maker, size: int, epsilon: float, told: str
) -> None:
    with pytest.raises(InputError, match=rf"`judging.epsilon` must be 0, .* {told}"):
        make_service(size=size, extra=f"[judging]\nepsilon = {epsilon}\n")


def test_a_model_that_can_not_be_judged_is_told_of_and_ends_nothing(service: Any) -> None:
    run = train(service)
    (file,) = (service.site.run(run) / "releases").iterdir()
    file.write_bytes(b"x" + file.read_bytes()[1:])
    before = spent(service)
    service.operate()
    (told,) = service.events("verdict refused")
    assert told["run"] == run
    assert "sealed" in told["reason"]
    assert (spent(service), len(service.events("opened"))) == (before, 1)
    service.operate(2)
    assert [event.get("judges") for event in service.events("opened")] == [None, None], "it trains again, and goes on"


def test_a_verdict_holds_where_nothing_is_judged_any_more(service: Any) -> None:
    publish(service.site, train(service, steps=2), card)
    good = latest(service.site).version
    pushed = train(service, PUSHED, steps=2)
    unjudged(service)
    with Supervisor(service.site, card=lambda extract: b"{}", dev=True) as supervisor:
        supervisor._publish()
    with pytest.raises(RefusedError, match="'item-0' in"):
        publish(service.site, pushed, card)
    assert latest(service.site).version == good
    assert publish(service.site, train(service), card).version > good, "the next model is published without a verdict"


def unjudged(service: Any) -> None:
    """From now on no model is judged."""
    file = service.site.config_file
    file.write_text(file.read_text().replace(f"[judging]\nepsilon = {EPSILON}", "[judging]\nepsilon = 0.0"))
    service.site = Site.at(service.site.folder)


@pytest.mark.parametrize("clip_norm", [0.25, 4.0])
def test_a_vote_has_norm_1_whatever_the_clip_norm_of_training(make_judged: Maker, clip_norm: float) -> None:
    made = make_judged(privacy=f"clip_norm = {clip_norm}")
    run = train(made, steps=2)
    with made.site.ledger(read_only=True) as ledger:
        said = verdict_of(made.site, ledger, run)
        (judging,) = verdicts_on(ledger, run).tried
        noise = releases.candidate(made.site, ledger, judging).model.state[verdict.NOISE]
    mu = mu_of(epsilon=EPSILON, delta=made.site.config.privacy.delta)
    assert noise[0] == pytest.approx(1 / (mu * math.sqrt(verdict.BLOCKS[verdict.VOTES])), rel=0.01)
    assert said.lost == pytest.approx(-1.0, abs=0.15), "each vote counts in full"


def test_with_noise_of_each_device_a_verdict_needs_more(make_service: Maker) -> None:
    for size, told in ((100, "with so few devices"), (2000, "or at least 34")):
        with pytest.raises(InputError, match=rf"`judging.epsilon` must be 0, .* {told}"):
            make_service(size=size, epsilon='1.0\ndp = "local"', extra="[judging]\nepsilon = 1.0\n")


def monthly(make_judged: Maker) -> Any:
    """A site that trains once a month, and whose models are judged."""
    return make_judged(every_hours=720.0)


def test_those_who_trained_judge_at_once_long_before_the_next_training(make_judged: Maker, clock: Any) -> None:
    made, clock.ticks = monthly(make_judged), 1e-6
    run = train(made)
    assert made.devices.home == {}, "nobody is sent home, as they are needed now"
    clock.now += 90.0
    made.operate()
    assert [event.get("judges") for event in made.events("opened")] == [None, run]
    assert [event["run"] for event in made.events("judged")] == [run]
    made.operate()
    assert set(made.devices.home.values()) == {60}, "they come back for the model, which is published now"
    assert len(made.events("opened")) == 2


def test_the_outlook_says_that_a_verdict_is_waited_for(make_judged: Maker) -> None:
    made = monthly(make_judged)
    train(made)
    now = time.time()
    assert read_outlook(made.site, now=now).next_run["why"].endswith("they judge the last model")
    assert read_outlook(made.site, now=now + 73 * 3600).next_run["why"] == "`training.every_hours` after the last"
    EventLog(made.site.events).tell("verdict refused", reason="the period budget")
    assert read_outlook(made.site, now=now).next_run["why"] == "`training.every_hours` after the last"


def test_a_verdict_that_fails_is_held_again_but_not_for_ever(service: Any) -> None:
    run = train(service)
    service.devices.silent = set(range(DEVICES // 2))
    service.operate()
    with pytest.raises(UnjudgedError):
        publish(service.site, run, card)
    config, now = service.site.config, time.time()
    once = config.model_copy(update={"cohort": config.cohort.model_copy(update={"attempts": 1})})
    with service.site.ledger(read_only=True) as ledger:
        assert [awaited(each, ledger, now=now) for each in (config, once)] == [run, None]
        assert awaited(config, ledger, now=now + 73 * 3600) is None
        mu2, delta = ledger.spent(), config.privacy.delta
        told = EventLog(service.site.events)
        for room, due in ((0.49, None), (0.51, run)):  # half of what was spent is this verdict's
            period = epsilon_of(mu=math.sqrt(mu2 * (1 + room)), delta=delta)
            poorer = config.model_copy(update={"privacy": config.privacy.model_copy(update={"period_epsilon": period})})
            with patch.dict(vars(service.site), config=poorer), Verdicts(service.site, told) as verdicts:
                assert verdicts.due(ledger, now=now) == due
        assert [event["run"] for event in service.events("verdict refused")] == [run]
    service.devices.silent = set()
    service.operate()
    with service.site.ledger(read_only=True) as ledger:
        failed, judging = verdicts_on(ledger, run).tried
        assert [entry.kind for entry in ledger.entries(failed)] == ["open", "charge", "close"]
        assert [entry.kind for entry in ledger.entries(judging)] == ["open", "charge", "seal", "close"]
    assert publish(service.site, run, card).manifest.model_dump()["run"] == run
