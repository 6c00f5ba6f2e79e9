"""Attempts: runs of a server, with answers that are lost, late or false, and servers that end in between."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.made.folders import files_of, made_folder
from palate_audit.answers.seam import Seam
from palate_audit.answers.still import NOW
from palate_audit.harness.probe_algorithm import NAME, Gesture, performing
from palate_audit.harness.probe_run import Setting, crowd, probe_run
from palate_common.algorithms import PublicFacts
from palate_common.mechanism.update import ClippedSum
from palate_common.models.catalogue import ItemCatalogue
from palate_common.models.model import catalogue_hash
from palate_common.rounds.shares import NoisyShare
from palate_common.rounds.wire import REFUSED, ContributionHeader, encode, encode_share
from palate_core.cohort_terms import CohortTerms
from palate_core.errors import PalateError
from palate_core.layout import layout_size, released_size
from palate_core.log.canonical import digest
from palate_core.log.consistency import Shown
from palate_core.log.signing import SigningKey
from palate_core.masks.directory import Directory
from palate_core.plan import RoundPlan, read_plan
from palate_core.privacy_mode import CENTRAL, DISTRIBUTED, MODES
from palate_server.folder.witness import WitnessError
from palate_server.ledger.ledger import Ledger
from palate_server.ledger.witnesses import UncosignedError
from palate_server.rounds.coordinator import Coordinator, Release
from palate_server.rounds.lock import own_folder
from palate_server.rounds.noise import NoisyAggregate
from palate_server.rounds.progress import ActivityFile, WatchedTransport
from palate_server.rounds.registry import Registry, pack_inputs
from palate_server.rounds.run import Request, open_run, run_round, run_rounds
from palate_server.rounds.shelf import ModelShelf
from palate_server.rounds.terms import RunTerms

ITEMS = ("one", "two", "three", "four", "five")
INPUTS = {"z": np.arange(5, dtype=np.float32), "a": np.ones((5, 2), np.float32)}


class MadeCosigners:
    """Witnesses that are there by dice."""

    def __init__(self, dice: Dice) -> None:
        self.dice = dice

    def ready(self, ledger: Ledger) -> None:
        """Whether they are there."""
        if self.dice.chance(0.15):
            raise UncosignedError(f"too few at {ledger.checkpoint().size}")

    def charged(self, ledger: Ledger) -> Shown:
        """What they cosign."""
        self.ready(ledger)
        return ledger.shown().model_copy(update={"cosigned": "cosigned"})


class MadeWire:
    """Nodes whose answers are made by dice.

    Args:
        dice: what they answer.
        terms: the run's terms.
    """

    def __init__(self, dice: Dice, terms: RunTerms) -> None:
        self.dice, self.terms, self.nodes = dice, terms, dice.whole(0, 5) if dice.chance(0.2) else 5
        self.asked: list[Any] = []
        self.invited: list[int] | None = None
        self.between: Callable[[], object] = lambda: None

    def invite(self, *, masked: bool) -> list[int]:
        """All nodes."""
        return list(range(self.nodes)) if self.invited is None else self.invited

    def exchange(self, request: Request) -> Iterator[tuple[int, bytes]]:
        """Their answers, in any order, some twice, some never."""
        self.asked.append([list(request.to), dict(request.shared), request.step, request.own is None])
        if request.own is not None:
            return
        for each in self.answers(read_plan(request.shared["plan"]).plan, list(request.to)):
            yield each
            self.between()

    def answers(self, plan: RoundPlan, to: list[int]) -> list[tuple[int, bytes]]:
        """Answers to a plan."""
        left = self.dice.shuffled(to if self.dice.chance(0.7) else self.dice.some_of(to, 0.7))
        again = self.dice.some_of(to, 0.2)
        return [(node, self._answer(plan)) for node in [*left, *again]]

    def _answer(self, plan: RoundPlan) -> bytes:
        """One node's answer."""
        by_devices = plan.mode.noised_by_devices
        size = (released_size if by_devices else layout_size)(plan.layout)
        users = self.dice.mostly(min(plan.per_node, self.dice.whole(1, 3)), plan.per_node, plan.per_node + 1)
        rejected = self.dice.mostly(0, plan.per_node - users, plan.per_node) if users <= plan.per_node else 0
        of = {"run": plan.run, "round": plan.round, "attempt": plan.attempt, "plan_hash": plan.hash, "size": size}
        if self.dice.chance(0.12):
            of |= dict(
                [self.dice.one_of([("run", "x"), ("round", 7), ("attempt", 9), ("plan_hash", "00"), ("size", 3)])]
            )
        steps = np.zeros(size, np.int64)
        at = self.dice.wholes(0, size - 1, 6)
        most = plan.grid * users // 4
        steps[at] = self.dice.wholes(-most, most, 6)
        if self.dice.chance(0.1):
            steps[:] = 0
            steps[self.dice.whole(0, size - 1)] = plan.grid * users + self.dice.one_of((0, 0, 1, -1)) * (
                plan.grid // 64
            )
        header = ContributionHeader(**of, users=users, rejected=max(0, rejected))
        if by_devices:
            made = encode_share(header, NoisyShare(steps, users), bits=plan.bits(users))
        else:
            made = encode(header, ClippedSum(steps, users, plan.grid))
        made = self.dice.mostly(made, REFUSED)
        found: bytes = self.dice.mostly(made, b"", made[:-1], made + b"\0", b"refused ", made[:3])
        return found


def _terms(dice: Dice) -> RunTerms:
    """Terms of a run."""
    mode = dice.one_of([*MODES.values(), CENTRAL])
    mu = dice.mostly(dice.one_of((0.5, 1.0, 1.0, 2.5, 0.125)), 1e-7) if mode.private else None
    cohort, rounds = None, dice.whole(1, 3)
    if mode.cohort:
        cohort = CohortTerms(n_max=dice.whole(4, 6), n_min=dice.whole(3, 4), c_max=dice.whole(1, 2), masks=False)
    by_event = mode.alone and dice.chance(0.4)
    name, settings = ("popularity", {}) if dice.chance(0.3) else (NAME, {"rounds": rounds, "width": dice.whole(1, 3)})
    if by_event:  # it is never released: what it learns is made by BLAS
        name, settings = "event-mf", {"rounds": 2}
    return RunTerms(
        population="readers" if dice.chance(0.97) else "others",
        run=dice.one_of(("a", "b")),
        algorithm=name,
        settings=settings,
        events=1.0 if by_event else None,
        facts=PublicFacts(n_users=dice.whole(3, 9), n_items=5, mu=mu, seed=dice.whole(0, 3), local=mode.alone),
        catalogue=catalogue_hash(ITEMS),
        inputs=digest(pack_inputs(INPUTS)) if dice.chance(0.3) else None,
        dp=mode.name,
        noise=dice.one_of(("secure", "seeded")),
        epsilon=90.0 if mode.private else None,
        delta=dice.one_of((1e-5, 1e-6)),
        clip_norm=dice.one_of((1.0, 0.5, 4.0)),
        grid=dice.one_of((2**8, 2**10, 2**14, 2**20)),
        cohort_floor=99 if by_event else dice.one_of((1, 1, 2, 3, 5)),
        cohort=cohort,
        per_node=dice.one_of((1, 1, 2, 5)),
        plan_seconds=dice.one_of((1, 3600)),
        about={"period": dice.whole(0, 2)},
    )


def _coordinated(dice: Dice, answer: CaseAnswer) -> None:
    """Two runs in turn, with answers that are lost, late, false; and servers that end in between."""
    first, second = _terms(dice), _terms(dice)
    key, now = SigningKey.generate(), itertools.count(int(NOW), dice.one_of((1, 40, 86400 * 365)))
    with (
        made_folder(answer) as place,
        performing([]),
        mock.patch("time.monotonic", itertools.count(0.0, dice.one_of((0.0, 0.25, 3.0))).__next__),
        Ledger(":memory:", population="readers", unit=dice.mostly(first.unit, first.unit, "event")) as ledger,
    ):
        if dice.chance(0.5):
            ledger.set_budget(mu2=dice.one_of((0.125, 1.0, 7.0, 7.0)), epsilon=1.0, delta=1e-5)
        if dice.chance(0.2):
            ledger.hand_over(SigningKey.generate(), key)
        runs = {"a": first, "b": second.model_copy(update={"run": dice.mostly("z", first.run)})}
        for name, terms in runs.items():
            (place / name).mkdir()
            if terms.inputs:
                inputs = INPUTS if dice.chance(0.9) else {"z": INPUTS["z"]}
                Registry(place / name).write_inputs(pack_inputs(inputs))
        for name in dice.one_of(("aa", "aa", "aba", "aaa")):
            _owned(dice, answer, runs, name, place / name, ledger, key, lambda: float(next(now)))
        answer.tell([each.leaf() for each in ledger.entries()], files_of(place))


def _owned(
    dice: Dice,
    answer: CaseAnswer,
    runs: dict[str, RunTerms],
    name: str,
    folder: Path,
    ledger: Ledger,
    key: SigningKey,
    clock: Callable[[], float],
) -> None:
    """One process that has a run's folder."""
    seen, terms = list[bytes](), runs[name]
    with ExitStack() as stack:
        kept: Callable[[bytes], None] | None = dice.mostly(seen.append, _fail, None)
        by: Any = MadeCosigners(dice) if dice.chance(0.25) else None
        opened = open_run(terms, folder, ledger=ledger, key=key, clock=clock, on_charge=kept, witnesses=by)
        run = answer.tried(stack.enter_context, opened)
        if isinstance(run, PalateError):
            runs[name] = terms.model_copy(update={"population": "readers"})
            return
        if dice.chance(0.1):
            answer.tried(stack.enter_context, open_run(terms, folder, ledger=ledger, key=key))
            answer.of(lambda: own_folder(folder).close())
        _played(dice, answer, run, ActivityFile(folder / "progress.json", clock=clock), folder)
    answer.tell(seen)
    if dice.chance(0.08):
        runs[name] = terms.model_copy(update={"plan_seconds": 7, "about": {}})
    if dice.chance(0.12) and terms.run in ledger.runs():
        answer.of(ledger.close_run, terms.run, {})


def _fail(plan: bytes) -> None:
    """Keep no plan."""
    raise WitnessError(f"{len(plan) > 0}")


def _played(dice: Dice, answer: CaseAnswer, run: Coordinator, told: ActivityFile, folder: Path) -> None:
    """Some attempts of one server."""
    shelf = dice.one_of((None, ModelShelf(folder / "shelf")))
    if run.terms.algorithm == "popularity" and dice.chance(0.7):
        _publish(dice, answer, run, folder)
    for _ in range(dice.whole(1, 3)):
        wire = MadeWire(dice, run.terms)
        match dice.one_of(
            (
                "round",
                "round",
                "round",
                "rounds",
                "apart",
                "apart",
                "apart",
                "left",
                "publish",
                "publish",
                "meanwhile",
                dice.mostly("left", "gone"),
            )
        ):
            case "round":
                told.begin(run=run.terms.run, round_=run.round, survey=False, invited=wire.nodes, seconds=9.0)
                wire.between = lambda: answer.tell(told.read().model_dump_json())
                watched = WatchedTransport(wire, told, clock=told._clock)
                made = answer.tried(run_round, run, watched, shelf=shelf)
                _released(answer, made)
                told.end(type(made).__name__, users=dice.one_of((None, 3)), reason="done")
            case "rounds":
                most = dice.one_of((None, 1, 2))
                made = answer.tried(run_rounds, run, wire, on_release=lambda each: _released(answer, each), most=most)
                answer.tell(made is None)
            case "apart":
                plan = answer.of(run.open_attempt)
                replies = [] if plan is None else wire.answers(read_plan(plan).plan, [*range(wire.nodes)])
                _released(answer, answer.tried(run.close_attempt, dict(replies) if dice.chance(0.5) else replies))
                if dice.chance(0.3):
                    answer.tried(run.close_attempt, replies)
                for each in (run.round - 1, run.round):
                    noisy = answer.tried(run.registry.read, each, 0, dice.mostly(None, "ab" * 32))
                    if isinstance(noisy, NoisyAggregate):
                        answer.of(run.registry.persist, noisy)
            case "publish" if run.terms.algorithm == "popularity":
                for _ in range(dice.whole(1, 2)):
                    _publish(dice, answer, run, folder)
            case "left":
                answer.of(run.open_attempt)
            case "meanwhile":
                with suppress(PalateError):
                    place: Any = {"run": run.terms.run, "round_": run.round, "attempt": dice.whole(0, 4)}
                    run.ledger.charge(**place, plan_hash="ab" * 32, mu2=2.0**-6, facts={}, run_limit=None)
                    run.ledger.seal(**place, release_hash="cd" * 32) if dice.chance(0.3) else None
            case "gone":
                (folder / "lock").unlink(missing_ok=True)
                answer.of(run.open_attempt)
        answer.tell(wire.asked, sorted(run.conduct.offenders), run.context, run.round, run.finished, run.over)
        answer.tell(repr(run.spent), run.model.hash, files_of(folder / "shelf"))
        answer.tell([oct(each.stat().st_mode) for each in folder.glob("shelf")])


def _publish(dice: Dice, answer: CaseAnswer, run: Coordinator, folder: Path) -> None:
    """Write the model as it is, beside what was there."""
    catalogue = ItemCatalogue(ITEMS if dice.chance(0.9) else ITEMS[::-1])
    formers = [folder / "model"] if dice.chance(0.3) else []
    known: Any = {"population": "readers", "shown": run.ledger.shown(), "formers": formers}
    answer.of(run.registry.publish, run.model, catalogue, {"run": run.terms.run}, run.key, **known)


def _released(answer: CaseAnswer, release: object) -> None:
    """What a release tells."""
    if isinstance(release, Release):
        answer.tell(release.plan.hash, release.participation, release.model.data)


def _masked(dice: Dice, answer: CaseAnswer) -> None:
    """Runs under masks: a device is late; the wrong directory, too few devices, or another attempt's machine."""
    setting, acts = (
        Setting(mode=DISTRIBUTED, masks=True, users_per_node=1, lost=1, width=2),
        crowd([[0]] * 4, n_items=1),
    )
    with probe_run(setting, acts, [Gesture(plain=np.ones(2))]) as run:
        answer.tried(run.play, late=(2,))
        answer.tell([each.participation for each in run.releases], [each.model.data for each in run.releases])
        answer.tell(run.coordinator.round, run.coordinator.conduct.named, [each.kind for each in run.ledger.entries()])
    with probe_run(replace(setting, rounds=2), acts) as run:
        coordinator, directory = run.coordinator, run.directory or Directory(("22" * 32,))
        answer.of(coordinator.unmasking, directory, invited=[0])
        transport, wrong = MadeWire(dice, run.terms), Directory(("11" * 32,))
        for known, invited in ((None, [0]), (wrong, [0]), (directory, [0, 1]), (directory, [0, 1, 2, 9, -1])):
            transport.invited = invited
            answer.tried(run_round, coordinator, transport, directory=known)
            answer.tell(run.ledger.checkpoint().size, [[asked[0], asked[2:]] for asked in transport.asked])
        coordinator.open_attempt()
        first = coordinator.unmasking(directory, invited=[0, 1, 2])
        answer.tell(len(coordinator.context or b""), first.finished)
        for machine in (first, None):
            coordinator.open_attempt()
            machine = machine or coordinator.unmasking(directory, invited=[0, 1, 2])
            answer.tried(coordinator.close_masked, machine)
        answer.tell([each.kind for each in run.ledger.entries()])


SEAMS = (
    Seam("runs: attempts, answers, releases and servers that end", _coordinated, 24),
    Seam("runs: under masks", _masked, 1),
)
