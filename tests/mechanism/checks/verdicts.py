"""Verdicts: a model that devices are to judge is published after their verdict alone, which is charged as any run is.

A server folder of its own, with devices that answer on the production road: a training, then a verdict on it. A second
pair of books counts what both sides have paid. Then everything is tried that would publish a model that its devices
haven't found good: before the verdict, on one that was lost, on one that is about another model, against one that says
no. Last, three verdicts are read whose sums are
made up: of lists of which nothing is found, of everybody's one list, and of that list with an item in it that nobody
has.

Then everybody pushes an item. It must go into quarantine by the sealed verdict alone: read again, after devices did
something else that was never released, it must say the same. Where it proves nothing, no item goes there that the model
in use may show. In the next runs devices contribute nothing of it; where
those of an older version push on, the model has the item's row as it was published; and no list shows it.

**Assumes:** what is read from the released sums is right; the tests of `palate_server.surveys.verdict` look at that.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt

from mechanism.harness.probe_run import Setting, crowd, probe_run
from mechanism.harness.watched_run import memory
from palate_audit.evidence.evidence import Finding
from palate_client.device import open_device
from palate_client.flower import Host, Shards, node_app
from palate_client.rounds import contribution
from palate_common.algorithms import PublicFacts, State, first_state
from palate_common.algorithms.parts import quarantine
from palate_common.algorithms.popularity import COUNTS, Popularity
from palate_common.algorithms.verdict import (
    FOUND,
    NAME,
    NOISE,
    SHOWN,
    VOTES,
    JudgedModel,
    JudgedPair,
    Judging,
)
from palate_common.interactions import Interactions
from palate_common.mechanism.update import Float64, Update
from palate_common.models.model import GlobalModel, ModelHeader
from palate_common.rounds.wire import decode
from palate_core.accounting import mu_of
from palate_core.device.floors import Floors
from palate_core.errors import PalateError
from palate_server.flower.transport import GridTransport
from palate_server.folder.config import JudgingSettings
from palate_server.folder.enrolments import Enrolments
from palate_server.folder.server_folder import Site
from palate_server.ledger.ledger import Ledger
from palate_server.operation import judging, releases, runs
from palate_server.rounds.run import open_run, run_rounds
from palate_server.service.setup import make_site
from palate_server.surveys.verdict import judgement
from palate_sim.engines.grid import LocalGrid
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger

TEST = "verdicts"
DEVICES, ITEMS, EPSILON = 64, 60, 30.0
JUDGES, ALONE = 100_000, 20
"""Devices of a verdict whose sums are made up, and items that are in everybody's list."""
HALF = ITEMS // 2
CONFIG = f"""
population = "judging"
[privacy]
dp = "central"
epsilon = {EPSILON}
lifetime_epsilon = 1000.0
period_epsilon = 1000.0
[training]
algorithm = "popularity"
[cohort]
size = {DEVICES}
[judging]
epsilon = {EPSILON}
"""
PUSHED = 0
"""The item that is pushed, of those that nobody has."""
TASTE, OTHERS = range(HALF, ITEMS), range(HALF)
"""What everybody has some of, and what nobody has."""


def verdicts() -> list[Finding]:
    """Both runs, both books, and all that mustn't be published."""
    try:
        with _world() as world:
            return list(_found(world))
    except PalateError as error:
        return [Finding.checked(TEST, False, f"a model must be trained and judged, got: {error}")]


def _found(world: JudgedWorld) -> Iterator[Finding]:
    good = world.run(None, _histories(TASTE))
    yield _held(world, good, "before its verdict", "was published before devices judged it")
    before = world.spent(), world.own()
    verdict = world.run(good, _histories(TASTE))
    paid = [now - then for now, then in zip((world.spent(), world.own()), before, strict=True)]
    owed = mu_of(epsilon=EPSILON, delta=world.site.config.privacy.delta) ** 2
    right = all(abs(each / owed - 1) < 1e-3 for each in paid)
    said = f"a verdict costs mu^2 {owed:.6g}; the server has charged {paid[0]:.6g}, a device {paid[1]:.6g}"
    yield Finding.checked(f"{TEST}: charged on both sides", right, said)
    with _about_another(good):
        yield _held(world, good, "a verdict on another model", "was published by a verdict on another model")
    with _lost(world.site.run(verdict)):
        yield _held(world, good, "a verdict that is lost", "was published though its verdict can't be read")
    try:
        releases.publish(world.site, good, lambda _: b"card")
        yield Finding.checked(f"{TEST}: a good model", True, "is published after its verdict")
    except PalateError as error:
        yield Finding.checked(f"{TEST}: a good model", False, f"isn't published after its verdict: {error}")
    bad = world.run(None, _histories(OTHERS))
    world.run(bad, _histories(TASTE))
    yield _held(world, bad, "a verdict that says no", "was published though devices judged it worse")
    with _unjudging(world.site):
        yield _held(world, bad, "a verdict that says no, later on", "was published when nothing was judged any more")
    yield from _read()
    yield from _quarantine(world)
    yield left_out()


def _read() -> Iterator[Finding]:
    """Made up sums of votes, of lists in which interest falls as one by rank."""
    shown, ranks = np.full(ALONE, 0.9 * JUDGES), np.arange(ALONE)
    found = shown * 0.5 / (ranks + 2)
    pushed = np.append(found, 0.0), np.append(shown, 0.9 * JUDGES)
    wanted = (
        ("nothing that is shown is found", np.zeros(ALONE), shown, True, ()),
        ("everybody's list is the same", found, shown, False, ()),
        ("an item that nobody has is in it", *pushed, True, (ALONE,)),
    )
    for name, finds, lists, held, named in wanted:
        said = judgement(_released(finds, lists), devices=JUDGES)
        rows = tuple(each.row for each in said.pushed)
        told = f"{name}: the model is {'held' if said.held else 'published'}, and named are the items {rows}"
        yield Finding.checked(f"{TEST}: {name}", (said.held, rows) == (held, named), told)


def _released(found: npt.NDArray[np.float64], shown: npt.NDArray[np.float64]) -> GlobalModel:
    """A released verdict with these sums, in which as many have won as lost."""
    facts = PublicFacts(n_users=JUDGES, n_items=len(found), mu=1.0)
    judged = JudgedModel(algorithm="popularity", settings={}, facts=facts, model="0" * 64)
    settings = JudgedPair(run="judged", candidate=judged, in_use=judged).model_dump(mode="json")
    header = ModelHeader(algorithm=NAME, settings=settings, facts=facts, releases=1, catalogue="0" * 64)
    state = {VOTES: np.zeros(2), FOUND: found, SHOWN: shown, NOISE: np.array([2.0, 2.0, 10.0])}
    return GlobalModel(header, state)


def _held(world: JudgedWorld, run: str, name: str, wrong: str) -> Finding:
    """Publishing a run's model must fail."""
    before = releases.latest_manifest(world.site)
    with suppress(PalateError):
        releases.publish(world.site, run, lambda _: b"card")
    published = releases.latest_manifest(world.site) != before
    said = f"a model {wrong}" if published else "the model stays unpublished"
    return Finding.checked(f"{TEST}: {name}", not published, said)


def _quarantine(world: JudgedWorld) -> Iterator[Finding]:
    """An item that everybody pushes is left out: by released numbers alone, of what is learned, and of every list."""
    test, site, item = f"{TEST}: an item in quarantine", world.site, world.site.catalogue.items[PUSHED]
    pushing = _histories(TASTE, PUSHED)
    run = world.run(None, pushing)
    world.run(run, _histories(TASTE))
    read = [world.named(run)]
    world.look(run, _histories(OTHERS))
    site.quarantine.file.unlink()
    read.append(world.named(run))
    right = read == [(item,), (item,)]
    yield Finding.checked(f"{test}, by the sealed verdict alone", right, f"read twice, the verdict names {read}")
    kept = site.quarantine.file.read_bytes()
    site.quarantine.file.unlink()
    with mock.patch.object(judging, "proven", return_value=()):
        doubtful = world.named(run)
    site.quarantine.file.write_bytes(kept)
    said = f"where nothing is proved, and the noise hides what the model in use shows, the verdict names {doubtful}"
    yield Finding.checked(f"{test}, and what people may see", doubtful == (), said)
    was = releases.latest(site)
    heard, real = list[bool](), Popularity.contribute

    def watched(self: Popularity, state: State, round_: int, own: Interactions) -> Update:
        heard.append(bool((own.indices == PUSHED).any()))
        return real(self, state, round_, own)

    with mock.patch.object(Popularity, "contribute", watched):
        world.run(None, pushing)
    said = f"{sum(heard)} of {len(heard)} batches of contributions have something of it"
    yield Finding.checked(f"{test}, and contributions", bool(heard) and not any(heard), said)
    with mock.patch.object(contribution, "learned_from", lambda histories, state: histories):
        older = world.run(None, pushing)
    with site.ledger(read_only=True) as ledger:
        model = releases.candidate(site, ledger, older).model
    before = 0.0 if was is None else float(was.model.state[COUNTS][PUSHED])
    now = float(model.state[COUNTS][PUSHED])
    said = f"devices that don't know of it send it; its count was published as {before:.4g}, and is {now:.4g}"
    yield Finding.checked(f"{test}, and devices that go on", now == before, said)
    lists = _lists(replace(model, state={**model.state, COUNTS: _first(model.state[COUNTS])}), site.catalogue.items)
    said = f"a device that may show all {ITEMS} items shows {len(lists)}"
    yield Finding.checked(f"{test}, and lists", bool(lists) and item not in lists, said)


def left_out() -> Finding:
    """Runs that one process takes part in, one after the other, with as many, but other, items in quarantine."""
    test, wrong = f"{TEST}: quarantine of several runs", ""
    for row in range(3):
        inputs = quarantine.inputs_of([row], 3, {})
        setting = Setting(algorithm="popularity", inputs=inputs, users_per_node=1)
        with probe_run(setting, crowd([[0, 1, 2]], n_items=3)) as stage:
            stage.play(rounds=1)
            plan, ((answer, *_),) = stage.seen.plans[-1].plan, stage.seen.replies.values()
            sent = np.flatnonzero(decode(answer or b"", grid=plan.grid).total).tolist()
        if sent != [each for each in range(3) if each != row]:
            wrong = wrong or f"with item {row} of 3 in quarantine a device contributes to {sent}"
    return Finding.checked(test, not wrong, wrong or "each run's own items are left out")


def _first(counts: Float64) -> Float64:
    """Counts of which the pushed item has the largest."""
    found = np.array(counts)
    found[PUSHED] = counts.max() + 1
    return found


def _lists(model: GlobalModel, items: tuple[str, ...]) -> list[str]:
    """All that a device recommends of a model."""
    with (
        tempfile.TemporaryDirectory(dir=memory(), prefix="palate-") as home,
        open_device(Path(home) / "app", app="audit", key=bytes(range(32))) as device,
    ):
        device.use_model(model, items)
        return [each.item for each in device.recommend(len(items))]


@contextmanager
def _about_another(run: str) -> Iterator[None]:
    """The training's entry names another model than the verdict was about."""
    real = Ledger.entries

    def entries(self: Ledger, only: str | None = None) -> list[Any]:
        found = list(real(self, only))
        for place, entry in enumerate(found):
            if only is None and entry.kind == "close" and entry.run == run:
                found[place] = entry.model_copy(update={"facts": {**entry.facts, "model_hash": "0" * 64}})
        return found

    with mock.patch.object(Ledger, "entries", entries):
        yield


@contextmanager
def _unjudging(site: Site) -> Iterator[None]:
    """An operator who no longer has models judged."""
    config = site.config
    with mock.patch.dict(vars(site), config=config.model_copy(update={"judging": JudgingSettings()})):
        yield


@contextmanager
def _lost(folder: Path) -> Iterator[None]:
    """A run folder whose releases are gone."""
    away = folder.with_name(f"{folder.name}-away")
    (folder / "releases").rename(away)
    yield
    away.rename(folder / "releases")


def _histories(items: range, *others: int) -> Interactions:
    """Everybody has a third of some items, drawn as they always are, and the others."""
    rng, each = np.random.default_rng(7), len(items) // 3
    rows = np.concatenate([np.append(rng.permutation(items)[:each], others) for _ in range(DEVICES)]).astype(np.int64)
    owners = np.repeat(np.arange(DEVICES), each + len(others))
    return Interactions.from_pairs(owners, rows, n_users=DEVICES, n_items=ITEMS)


@dataclass
class JudgedWorld:
    """A server folder, and the devices of its population.

    Attributes:
        site: the server folder.
        devices: their own ledger.
    """

    site: Site
    devices: SimulatedLedger

    def run(self, judged: str | None, histories: Interactions) -> str:
        """Train, or judge a run; returns the run."""
        host = Host(Shards(histories, 1), self.devices, self.site.key().public, Floors(allow_central=True).for_few())
        with ExitStack() as stack:
            ledger = stack.enter_context(self.site.ledger())
            register = stack.enter_context(Enrolments(self.site.enrolment_file))
            terms = runs.begin(self.site, ledger, register, None, judged)
            folder, key = self.site.run(terms.run), self.site.key()
            coordinator = stack.enter_context(open_run(terms, folder, ledger=ledger, key=key))
            transport = GridTransport(LocalGrid(node_app(lambda _: host), nodes=DEVICES), ttl=terms.plan_seconds)
            run_rounds(coordinator, transport)
            runs.close(self.site, ledger, coordinator)
            return terms.run

    def look(self, judged: str, histories: Interactions) -> None:
        """Have devices work out their votes on a run's model, which nobody ever sends."""
        with self.site.ledger(read_only=True) as ledger:
            question, arrays, _ = judging.question(self.site, ledger, judged)
        voting = Judging(question, question.candidate.facts)
        voting.contribute(first_state(voting, arrays), 0, histories)

    def named(self, run: str) -> tuple[str, ...]:
        """Put into quarantine what the verdict on a run proves pushed; returns that."""
        with self.site.ledger() as ledger:
            return tuple(each.item for each in judging.put_in_quarantine(self.site, ledger, run))

    def spent(self) -> float:
        """mu^2 in the population's ledger."""
        with self.site.ledger(read_only=True) as ledger:
            return ledger.spent()

    def own(self) -> float:
        """mu^2 in the ledger of one device."""
        return self.devices.spent(0)


@contextmanager
def _world() -> Iterator[JudgedWorld]:
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=memory(), prefix="palate-")))
        site = make_site(home / "site", CONFIG, tuple(f"item-{row}" for row in range(ITEMS)))
        yield JudgedWorld(site, stack.enter_context(SimulatedLedger(":memory:", durable=False)))
