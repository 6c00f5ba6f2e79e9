"""Publication: which models are published, judged, held, and which items are left out."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.made.pasts import asked_of_any_past
from palate_audit.answers.made.servers import MadeServer, MadeWitnesses, shown_items
from palate_audit.answers.made.sites import DAY, HandingOn, made_folder, made_links, made_settings, made_site, steady_mu
from palate_audit.answers.seam import Seam
from palate_audit.answers.still import NOW
from palate_audit.harness.probe_algorithm import NAME, performing
from palate_common.algorithms import PublicFacts, State, analytics, lent, verdict
from palate_common.algorithms.als.algorithm import FEATURES
from palate_common.algorithms.parts.panel import panel_inputs
from palate_common.algorithms.popularity import COUNTS
from palate_common.errors import PalateError
from palate_common.mechanism.cohort import CohortTerms
from palate_common.models.model import GlobalModel, ModelHeader
from palate_common.records.canonical import canonical_json
from palate_common.records.checkpoints import sign_checkpoint
from palate_common.records.consistency import SPENT
from palate_common.records.merkle import Checkpoint
from palate_common.records.signing import SigningKey
from palate_common.secagg.agreement import KeyPair
from palate_common.secagg.directory import Directory
from palate_common.secagg.evidence import FaultEvidence
from palate_common.secagg.transcript import ADVERT, advert_payload
from palate_common.survey import Survey
from palate_server.folder import quarantine, server_folder
from palate_server.folder.config import CohortSettings, ServerConfig
from palate_server.folder.enrolments import Enrolments
from palate_server.folder.events import EventLog
from palate_server.folder.presence import SeenByQuarter
from palate_server.folder.quarantine import Quarantine, QuarantinedItem
from palate_server.folder.server_folder import Site, format_of, owner_only, read_cosigned, site_signs, write_format
from palate_server.ledger import witnesses
from palate_server.ledger.ledger import Ledger
from palate_server.operation import (
    absences,
    dismissals,
    outlook,
    releases,
    rotation,
    survey_results,
    surveys,
    terms,
)
from palate_server.operation.absences import Absences
from palate_server.operation.dismissals import Dismissals
from palate_server.operation.gathering import CohortGathering, draw_cohort
from palate_server.operation.releases import signal_of
from palate_server.operation.schedule import directory_of
from palate_server.operation.strikes import strike
from palate_server.operation.terms import (
    check_config,
    check_judging,
    cost_of,
    counting,
    next_terms,
    period_of,
)
from palate_server.rounds import terms as rounds
from palate_server.rounds.coordinator import Coordinator
from palate_server.rounds.progress import ActivityFile, Exchanged
from palate_server.rounds.registry import pack_inputs
from palate_server.rounds.terms import RunTerms
from palate_server.secagg.conduct import Conduct
from palate_server.surveys import accusation, intervals
from palate_server.surveys import analytics as analytics_figures
from palate_server.surveys import verdict as judged
from palate_server.surveys.accusation import proven, seen
from palate_server.surveys.analytics import comparisons, cost, figures
from palate_server.surveys.intervals import Arm, Noised, compare, quantile, ratio_interval
from palate_server.surveys.verdict import hidden, judgement, least_loss


def _ticks(dice: Dice, start: float, *steps: float) -> Callable[[], float]:
    """A clock that goes on by one of these steps, or back a little, each time it is looked at."""
    now = [start]

    def read() -> float:
        now[0] += dice.one_of(steps)
        return now[0]

    return read


def _quarantined(dice: Dice, answer: CaseAnswer) -> None:
    """Items come, stay for the longer of two times, are lifted, and come again; a file that is read by two."""
    with made_folder(answer) as folder, mock.patch.object(quarantine, "KEPT", dice.one_of((2, 100))):
        file, spoilt = folder / "quarantine.json", False
        for number in range(12):
            place, items = Quarantine(file), dice.some_of("abcd", 0.4)
            if spoilt:
                file.unlink()
                spoilt = False
            match dice.one_of(("read", "read", "read", "add", "add", "lift", "lift", dice.mostly("read", "spoilt"))):
                case "read":
                    named = [
                        QuarantinedItem(item=each, by=f"run-{number}", until=dice.whole(0, 5), proved=dice.chance(0.5))
                        for each in dice.shuffled(items)
                    ]
                    answer.tried(place.read, f"verdict-{dice.whole(0, 5)}", iter(named) if dice.chance(0.5) else named)
                case "add":
                    answer.tried(place.add, items, until=dice.whole(0, 5))
                case "lift":
                    there = [each.item for each in place.items(trainings=number // 4)]
                    chosen = dice.mostly(dice.some_of(there), items)
                    answer.tried(place.lift, iter(chosen) if dice.chance(0.3) else chosen, trainings=number // 4)
                case "spoilt":
                    spoilt = True
                    file.write_bytes(dice.one_of((b"", b"{}", b'{"items": [{}]}', b"[1]", b'{"lifted":["a"]}')))
            answer.of(lambda place=place: shown_items(place.items(trainings=dice.whole(0, 4))))
            answer.of(lambda place=place: place.lifted)
            answer.of(place.was_read, f"verdict-{dice.whole(0, 5)}")
        answer.tell(file.read_bytes() if file.exists() else None)


def _waiting(dice: Dice, answer: CaseAnswer) -> None:
    """Devices that are away, sent home, gathered, and drawn."""
    clock = _ticks(dice, 0.0, 0.0, 1.0, 900.0, 1800.0, 1799.0, 86400.0)
    away, devices = Absences(clock=clock), list(range(6))
    for _ in range(10):
        invited = dice.shuffled(dice.some_of(devices, 0.7))
        heard = dice.some_of(dice.mostly(invited, devices), dice.one_of((0.0, 0.5, 0.5, 0.9)))
        answer.tell(away.note(invited, heard=heard))
        answer.tell(away.present({10 + device: device for device in dice.shuffled(devices)}))
    later, sent = _ticks(dice, 0.0, 0.0, 5.0, 15.0, 60.0, 59.0), list[Any]()
    home = Dismissals(lambda nodes: sent.append(list(nodes.items())), lambda: sent.append("purge"))
    with mock.patch("time.monotonic", later):
        for _ in range(10):
            if dice.chance(0.7):
                home.send(
                    dice.some_of(devices), seconds=dice.one_of((0.0, 59.9, 60.0, 61.7, 86400.0, 90000.0, math.inf))
                )
            else:
                home.tidy()
            answer.tell(sent[-2:], len(sent))
    size, least = dice.whole(1, 5), dice.whole(1, 4)
    soon = _ticks(dice, 3.0, 0.0, 4.0, 10.0)
    gathering = CohortGathering(size=size, least=least, seconds=dice.one_of((8.0, 20.0, 0.0)), clock=soon)
    for _ in range(5):
        present = {10 + device: device for device in dice.some_of(devices, dice.one_of((0.1, 0.5, 0.9)))}
        cohort = answer.tried(gathering.look, present, enough=dice.one_of((None, None, 1, 3)))
        if not isinstance(cohort, PalateError):
            answer.tell(None if cohort is None else list(cohort.items()), gathering.begun)
    answer.tell(list(draw_cohort({10 + device: device for device in devices}, most=dice.whole(0, 7)).items()))


def _told(dice: Dice, answer: CaseAnswer) -> None:
    """How far a server says it is, also after a restart; and in which quarter devices were there."""
    with made_folder(answer) as folder, Enrolments(":memory:") as register:
        file, clock = folder / "progress.json", _ticks(dice, NOW, 0.0, 1.5, 60.0)
        told = ActivityFile(file, clock=clock)
        for step in range(10):
            match dice.one_of(
                ("gathering", "gathering", "gathered", "begin", "exchange", "exchange", "end", "restart")
            ):
                case "gathering":
                    told.gathering(here=dice.whole(0, 2), least=2, enough=dice.whole(2, 3), seconds=30.0)
                case "gathered":
                    told.gathered()
                case "begin":
                    told.begin(
                        run=f"{step}", round_=step, survey=dice.chance(0.5), invited=dice.whole(1, 9), seconds=7.0
                    )
                case "exchange":
                    for first in (True, *dice.some_of((False, True) * 35, dice.one_of((0.02, 0.02, 1.0)))):
                        made = Exchanged(
                            step=step, since=1.0, asked=4, answered=dice.whole(0, 4), over=dice.chance(0.5)
                        )
                        told.exchange(made, first=first)
                case "end":
                    told.end(
                        dice.one_of(("released", "void")), users=dice.one_of((None, 4)), reason=dice.one_of(("", "x"))
                    )
                case "restart":
                    if dice.chance(0.3):
                        file.write_bytes(dice.one_of((b"", b"{}", b'{"gathering":7}')))
                    told = ActivityFile(file, clock=clock)
                    told.take_over()
            answer.tell(file.read_bytes() if file.exists() else None, told.read().model_dump_json())
        for number in range(4):
            register.enrol(
                register.invite(now=0.0, hours=1e6), node_key=f"{number}", identity=f"{number:064x}", now=1.0
            )
            register.registered(number, 10 + number)
        when = _ticks(dice, NOW, 0.0, 0.0, 20 * DAY, 91 * DAY, -95 * DAY)
        for _ in range(6):
            presence = SeenByQuarter(register, clock=when)
            for _ in range(3):
                presence.note(iter(dice.some_of((9, 10, 11, 12, 13), 0.4)))
            answer.tell(register.noted_since(), [each.seen for each in register.listed(now=NOW)])


def _noised(dice: Dice, high: float) -> Noised:
    """A noised number."""
    return Noised(dice.one_of((dice.real(-5.0, high), 0.0, high)), dice.one_of((dice.real(0.0, 9.0), 0.0, high / 6)))


def _intervals(dice: Dice, answer: CaseAnswer) -> None:
    """Sums, ratios and tests with noise."""
    high, confidence = dice.one_of((10.0, 400.0, 5000.0)), dice.one_of((0.95, 0.5, 0.99, 0.0, 1.0, 1e-9))
    one, other = _noised(dice, high), _noised(dice, high)
    answer.tell(one + other, one * dice.real(-3.0, 3.0))
    answer.of(quantile, confidence)
    answer.of(one.interval, confidence=confidence)
    answer.of(ratio_interval, one, other, confidence=confidence)
    answer.tell(ratio_interval(one, other), one.interval())
    arms = [Arm(_noised(dice, high), _noised(dice, high / 2), _noised(dice, high / 3)) for _ in range(2)]
    quiet = replace(arms[0], users=Noised(0.0, 0.0), outcome=Noised(1.0, 0.0), square=Noised(0.0, 0.0))
    for a, b in (arms, (quiet, arms[0]), (replace(quiet, outcome=Noised(0.0, 0.0)), quiet), (quiet, quiet)):
        found = answer.of(compare, a, b, confidence=dice.real(0.5, 0.999))
        answer.tell(a.mean(), found and found.different)


def _surveyed(dice: Dice) -> GlobalModel:
    """A released survey, or something like it."""
    tests = dice.some_of(("new", "old", "more"), 0.6)
    looks = {name: ("2025-10-06", "2025-10-13", "2025-10-20")[: dice.whole(1, 3)] for name in dice.some_of(tests)}
    survey = Survey(
        first_day="2025-10-06",
        channels=tuple(dice.some_of(("email", "push"))),
        items=tuple(dice.some_of(("x", "y", "z"))),
        experiments=tuple(tests),
        looks=looks,
    )
    size, scale = len(survey.questions()), dice.one_of((4.0, 30.0, 300.0, 3000.0))
    noise = dice.floats(size, low=0.0, high=dice.one_of((1.0, 6.0, scale / 3)))
    totals = dice.floats(size, low=-0.2, high=1.0) * scale
    edge = dice.wholes(0, size - 1, 5)
    totals[edge], noise[edge] = np.maximum(20.0, 4 * noise[edge]), noise[edge]  # just large enough
    name, releases = dice.mostly((analytics.NAME, 1), (analytics.NAME, 0), (analytics.NAME, 2), ("popularity", 1))
    header = ModelHeader(
        algorithm=name,
        settings=survey.model_dump(mode="json") if name == analytics.NAME else {},
        facts=PublicFacts(n_users=9, n_items=size, mu=1.0),
        releases=releases,
        catalogue="ab" * 32,
    )
    return GlobalModel(header, {analytics.TOTALS: totals, analytics.NOISE: noise})


def _figures(dice: Dice, answer: CaseAnswer) -> None:
    """The figures of a survey."""
    model, confidence = _surveyed(dice), dice.one_of((0.95, 0.8))
    answer.of(figures, model, confidence=confidence)
    answer.of(comparisons, model, confidence=confidence)
    noise = dice.mostly({"noise": dice.floats(2, low=0.1, high=9.0)}, {"noise": np.zeros(1)}, {})
    counts = dice.mostly({COUNTS: dice.floats(5, low=-3.0, high=30.0).astype(np.float32)}, {})
    answer.tell(signal_of({**noise, **counts}))
    answer.tell(cost(mu=dice.real(0.1, 3.0), delta=10.0 ** -dice.whole(5, 8)))


def _verdict(dice: Dice) -> tuple[GlobalModel, int]:
    """A released verdict, and how many have judged: some items are pushed, some borne, some hardly shown."""
    n, devices = dice.whole(1, 24), dice.one_of((20, 400, 400, 3000))
    length = min(20, n)
    mu = dice.one_of((0.5, 3.0, 12.0))
    shares = np.minimum(1.0, dice.floats(n, low=0.0, high=2.0) * length / n)
    found = shares * devices * dice.one_of((0.3, 0.1, 0.1, 0.0)) * dice.floats(n, low=0.6, high=1.3)
    for row in dice.some_of(range(n), 0.15):
        shares[row], found[row] = dice.real(0.04, 1.0), dice.real(-0.02, 0.06) * devices
    noise = np.array([1 / (mu * math.sqrt(part)) for part in verdict.BLOCKS.values()])
    noise[-1] *= math.sqrt(length)
    votes = dice.floats(2, low=0.0, high=0.5) * devices
    if dice.chance(0.3):
        votes[1] = votes[0] + devices * 0.09 + dice.real(0.0, 9.0) * math.sqrt(votes.sum())
    of = {
        "algorithm": "popularity",
        "settings": {},
        "facts": PublicFacts(n_users=9, n_items=n, mu=1.0),
        "model": "ab" * 32,
    }
    pair = verdict.JudgedPair(
        run=f"run-{dice.whole(0, 3)}",
        candidate=verdict.JudgedModel.model_validate(of),
        in_use=verdict.JudgedModel.model_validate(of),
    )
    name, releases = dice.mostly((verdict.NAME, 1), (verdict.NAME, 0), (verdict.NAME, 2), ("popularity", 1))
    facts = PublicFacts(n_users=devices, n_items=n, mu=mu)
    settings = pair.model_dump(mode="json") if name == verdict.NAME else {}
    header = ModelHeader(algorithm=name, settings=settings, facts=facts, releases=releases, catalogue="cd" * 32)
    state = {verdict.VOTES: votes, verdict.FOUND: found, verdict.SHOWN: shares * devices, verdict.NOISE: noise}
    return GlobalModel(header, state), devices


def _judged(dice: Dice, answer: CaseAnswer) -> None:
    """What a verdict says, which of the items are proven pushed, and which are seen."""
    model, devices = _verdict(dice)
    with mock.patch.object(judged, "DRAWS", dice.one_of((20, 20, 100))), mock.patch.object(accusation, "SPLITS", 4):
        said = answer.of(judgement, model, devices=devices)
        if said is None:
            return
        items = tuple(f"item-{row}" for row in range(len(model.state[verdict.FOUND])))
        answer.tell(said.held, said.worse, [json.dumps(each) for each in said.reasons(dice.mostly(items, ()))])
        for accusers in (dice.one_of((0.0, 0.001, 0.01, 0.01)), dice.one_of((0.003, 0.02, 0.05, 0.3))):
            answer.tell([each.row for each in proven(model, said, accusers=accusers)])
        answer.tell(seen(model, devices=devices), seen(model, devices=dice.one_of((devices // 2, devices * 2))))
        edge = np.where(dice.floats(len(items)) > 0, judged.EXPOSED * devices, 0.0)
        quiet = {verdict.SHOWN: edge, verdict.NOISE: np.zeros(3)}
        answer.tell(seen(replace(model, state={**model.state, **quiet}), devices=devices))
    for many in dice.some_of((2, 10, 25, 60, 150, 700)):
        mu = 10 ** dice.real(-0.6, 0.8) / math.sqrt(many / 60)
        answer.tell(least_loss(mu=mu, devices=many), hidden(mu=mu, devices=many, n_items=dice.one_of((1, 8, 30, 5000))))
    mu, many = dice.one_of((0.05, 0.5, 2.0, 9.0)), dice.one_of((2, 20, 100, 1000, 30_000))
    answer.tell(least_loss(mu=mu, devices=many), hidden(mu=mu, devices=many, n_items=dice.one_of((1, 8, 30, 5000))))


def _served(dice: Dice, answer: CaseAnswer) -> None:
    """Models of trainings, before and after their verdicts, and again; keys, settings and items that change."""
    with (
        made_folder(answer) as folder,
        ExitStack() as stack,
        lent(HandingOn),
        mock.patch.object(rounds, "mu_of", steady_mu),
        mock.patch.object(judged, "DRAWS", 20),
        mock.patch.object(accusation, "SPLITS", 3),
    ):
        stack.enter_context(server := MadeServer(dice, answer, folder))
        stack.enter_context(mock.patch.object(witnesses, "WitnessClient", partial(MadeWitnesses, dice, server.keys)))
        if dice.chance(0.7):
            server.start()
        moves = [getattr(server, name) for name, weight in MOVES.items() for _ in range(weight)]
        first = [
            server.train,
            *dice.some_of((server.operator, server.judge, server.judge, server.publish, server.again), 0.6),
        ]
        for move in [*first, *(dice.one_of(moves) for _ in range(3)), *dice.some_of([server.rotate] * 2, 0.6)]:
            answer.tried(move)
            server.tell()
        server.end()


def _struck(dice: Dice, answer: CaseAnswer) -> None:
    """Devices that break an attempt, with and without masks, with evidence that holds or doesn't."""
    n, context = dice.whole(2, 5), dice.bytes(32)
    keys = [SigningKey.generate() for _ in range(n)]
    directory = Directory(tuple(each.public for each in keys))
    with made_folder(answer) as folder, Enrolments(":memory:") as register:
        for number, key in enumerate(keys):
            register.enrol(register.invite(now=0.0, hours=1e6), node_key=f"{number}", identity=key.public, now=1.0)
            register.registered(number, 10 + number)
        settings = CohortSettings(strikes=dice.whole(1, 3), quarantine_days=dice.one_of((0.5, 30.0)))
        events = EventLog(folder / "events.jsonl")
        for attempt in range(4):
            made = object.__new__(Coordinator)
            made.conduct, made.context = Conduct(), dice.one_of((context, context, None))
            for device in dice.some_of(range(n)):
                made.conduct.evidence[device] = _evidence(dice, keys, device, context)
            made.conduct.unsigned.update(dice.some_of(range(n), 0.3))
            made.conduct.offenders.update(10 + device for device in dice.some_of(range(n), 0.4))
            cohort = {device: 10 + device for device in dice.shuffled(range(n))}
            known = dice.one_of((None, directory, directory))
            with mock.patch("time.time", partial(float, NOW + attempt * DAY * 20)):
                answer.tried(strike, made, cohort, directory=known, register=register, events=events, settings=settings)
            found = register.eligible(period=0, most=9, now=NOW + attempt * DAY * 20)
            answer.tell(dict(found), [register.evidence(number) for number in range(n)])
            answer.tell([[each.strikes, each.free_at, each.named] for each in register.devices()])
        answer.tell([{**each, "at": ""} for each in events.all()])


def _evidence(dice: Dice, keys: list[SigningKey], device: int, context: bytes) -> FaultEvidence:
    """A record that a device has advertised one key twice; or one that doesn't hold."""
    key, of = KeyPair.generate().public, dice.mostly(context, bytes(32))
    other = dice.chance(0.15)
    body = key + (KeyPair.generate().public if other else key) + bytes(32)
    signature = dice.mostly(keys[device], keys[0]).sign(ADVERT, advert_payload(of, 0, b"", device, body))
    number = dice.mostly(device, 0)
    return FaultEvidence(
        kind="advert", device=number, attempt=of.hex(), toss=0, root="", seed="", advert=body.hex() + signature
    )


def _termed(dice: Dice, answer: CaseAnswer) -> None:
    """Terms of runs of any configuration, and which configurations are refused before anybody is asked."""
    settings = {
        **made_settings(dice), "privacy.grid": dice.one_of((None, None, 2**10)), "training.settings": {},
        "privacy.corrupt": dice.one_of((0.1, 0.0, 0.4)), "privacy.dropout": dice.one_of((0.1, 0.3)),
        "cohort.size": dice.one_of((8, 30, 400)), "privacy.dp": dice.one_of(("central", "distributed", "local")),
        "privacy.noise": dice.one_of(("secure", "seeded")),
    }  # fmt: skip
    nested: dict[str, Any] = {}
    for key, value in settings.items():
        section, _, name = key.rpartition(".")
        if value is not None:
            (nested.setdefault(section, {}) if section else nested)[name] = value
    nested["training"]["algorithm"] = dice.mostly(nested["training"]["algorithm"], NAME)
    config, n_items = ServerConfig.model_validate(nested), dice.one_of((6, 6, 40))
    inputs: State = dict(dice.some_of([(FEATURES, np.ones((n_items, 2), np.float32))], 0.15))
    if dice.chance(0.15):
        inputs |= panel_inputs(made_links(n_items), users=dice.whole(1, 9))
    directory = None if dice.chance(0.3) else Directory(("00" * 32, "11" * 32))
    if dice.chance(0.3):
        asked = config.surveys.survey("2025-10-06")
        config = counting(config, Survey, asked.model_dump(mode="json"), config.surveys.epsilon)
    with mock.patch.object(terms, "ENOUGH", terms.ENOUGH[::16]), performing([]):
        now = dice.one_of((None, 0.0, NOW + dice.real(0.0, 9e8)))
        with mock.patch.object(rounds, "mu_of", steady_mu):
            named = {
                "catalogue": "ab" * 32,
                "n_items": n_items,
                "directory": directory,
                "inputs": inputs,
                "about": {"x": 1},
            }
            made = answer.tried(next_terms, config, **named, now=now)
            answer.tell(None if isinstance(made, PalateError) else made.model_dump(mode="json"))
            answer.of(check_config, config, n_items=n_items, inputs=inputs)
        answer.tell(cost_of(config), period_of(config, now or NOW), period_of(config, config.privacy.period_days * DAY))
        devices = dice.one_of((2, 8, 100, 3000))
        answer.of(
            check_judging, dice.one_of((0.1, 1.0, 9.0)), dp=config.privacy.dp, delta=config.privacy.delta,
            devices=devices, n_items=n_items,
        )  # fmt: skip


def _sited(dice: Dice, answer: CaseAnswer) -> None:
    """A folder whose files are missing, spoilt, or of another population."""
    with made_folder(answer) as folder:
        settings = {
            "population": "readers", "training.features": dice.one_of((None, "features.npy")), "privacy.dp": "central",
            "backup.witness": dice.one_of((None, "kept")), "gateway.superlinks": dice.whole(1, 3),
            "gateway.port": dice.one_of((None, 443)), "name": dice.one_of((None, "example.com")),
        }  # fmt: skip
        site, rows = made_site(folder, settings), dice.mostly(6, 5)
        shape = dice.mostly((rows, 3), (rows,), (rows, 0), (rows, 1025))
        features = dice.floats(*shape, low=0.0, high=1.0).astype(dice.mostly(np.float64, np.int32, np.str_))
        if features.size and features.dtype.kind == "f" and dice.chance(0.1):
            features.flat[0] = math.nan
        np.save(folder / "features.npy", features)
        if dice.chance(0.1):
            (folder / "features.npy").write_bytes(b"no matrix")
        if dice.chance(0.5):
            panel = pack_inputs(panel_inputs(made_links(rows), users=3))
            other = (b"", b"x" * 70_000, pack_inputs({"x": np.ones(1)}), panel[:-1])
            site.panel_file.write_bytes(panel if dice.chance(0.6) else dice.one_of(other))
        items = dice.one_of((None, None, None, b"", b"a\nb", b"a\na\n", b"\xff\n", b"a\nb\n"))
        if items is not None:
            (folder / "items").write_bytes(items)
        answer.of(lambda: (site.catalogue.items, site.catalogue.hash))
        answer.of(lambda: {name: array.tolist() for name, array in site.public_inputs.items()})
        (folder / "format").write_text(dice.one_of(('{"format": 1}', '{"format": 99}', "7", "[]", '{"format": "x"}')))
        if dice.chance(0.4):
            write_format(folder)
        if dice.chance(0.1):
            (folder / "house.toml").touch()
        answer.of(format_of, folder)
        answer.of(lambda: str(Site.at(folder).folder == folder.resolve()))
        with Ledger(site.ledger_file, population="readers") as ledger:
            key, now = site.key(), ledger.checkpoint()
            for each in range(2):
                note = sign_checkpoint(dice.mostly(now, Checkpoint(1, "ab" * 32)), ledger.log_key(key.public).name, key)
                kept = canonical_json({"cosigned": note.to_bytes().decode(), SPENT: dice.one_of((0.5, 1))})
                wrong = (b"{}", b"", b"[]", kept + b" ", kept.replace(b"0.5", b'"x"'), b'{"cosigned":1,"spent_mu2":1}')
                for data in (dice.one_of(wrong), dice.mostly(kept, *wrong)):
                    site.cosigned_file.write_bytes(data)
                    answer.of(lambda: _kept(site.cosigned_file))
                answer.of(site.mirror_cosigned, ledger)
                answer.tell(
                    {
                        p.relative_to(folder).as_posix(): p.read_bytes()
                        for p in sorted(site.mirror.rglob("*"))
                        if p.is_file()
                    }
                )
                ledger.open_run(f"{each}", {})
                now = ledger.checkpoint()
        names = CohortTerms(n_max=9, n_min=8, c_max=1, masks=True, directory=Directory(("22" * 32,)).hash)
        construct: Any = RunTerms.model_construct
        for written in (None, Directory(("11" * 32,)), Directory(("22" * 32,))):
            if written is not None:
                (site.directories / str(names.directory)).write_bytes(written.to_json())
            with suppress(FileNotFoundError):
                answer.of(lambda: str(directory_of(site, construct(cohort=dice.mostly(names, None)))))
        with site.reading() as ledger:
            answer.of(ledger.open_run, "a", {})
        former = os.umask(0o022)
        owner_only()
        answer.tell(os.umask(former))
        if dice.chance(0.3):
            (folder / "key").write_bytes(b"no key")
        paths = [
            site.run("a"),
            site.tls,
            site.address,
            *site.superlink_files,
            *site.certificate,
            site.progress_file,
            site.witness,
        ]
        answer.tell(site_signs(site), [str(each).replace(str(folder), "") for each in paths])
        answer.tell(
            sorted(
                path.relative_to(folder).as_posix() + oct(path.stat().st_mode)
                for path in folder.rglob("*")
                if path.is_dir()
            )
        )


def _kept(path: Path) -> list[Any]:
    """What is kept of the latest cosigned checkpoint."""
    note, spent = read_cosigned(path)
    return [note.to_bytes(), spent]


CONSTANTS = (
    absences, accusation, analytics_figures, dismissals, intervals, judged, outlook, quarantine, releases, rotation,
    server_folder, survey_results, surveys, terms,
)  # fmt: skip


def _constants(dice: Dice, answer: CaseAnswer) -> None:
    """The numbers and names that modules have."""
    for module in CONSTANTS:
        for name, value in sorted(vars(module).items()):
            if name.isupper() and isinstance(value, int | float | str | bytes | tuple | Mapping):
                answer.tell(name, repr(value) if isinstance(value, float) else value)


MOVES = {"train": 3, "judge": 4, "publish": 5, "change": 3, "operator": 2, "survey": 2, "again": 4, "start": 1,
         "ended": 1, "rotate": 1, "lose": 2, "spoil": 1}  # fmt: skip

SEAMS = (
    Seam("models that are trained, judged, published, held and published again", _served, 12),
    Seam("what is due next, and what the budgets allow, after any past", asked_of_any_past, 18),
    Seam("constants of what is published", _constants, 1),
    Seam("terms of runs, and configurations that are refused", _termed, 24),
    Seam("server folders whose files are missing, spoilt or others", _sited, 12),
    Seam("devices that break an attempt", _struck, 12),
    Seam("quarantine: items that come, stay, are lifted and come again", _quarantined, 18),
    Seam("devices that are away, sent home, gathered and drawn", _waiting, 36),
    Seam("how far a server says it is, and who was there in which quarter", _told, 12),
    Seam("surveys: intervals and tests", _intervals, 48),
    Seam("surveys: figures", _figures, 18),
    Seam("verdicts: what they say, what they prove, and what is seen", _judged, 48),
)
