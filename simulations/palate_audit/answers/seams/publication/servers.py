"""Servers: made-up server folders, whose runs and models are made by dice, through the code that a server runs.

settings, items -> Site -> trainings, verdicts, surveys with chosen sums -> what is published, held, left out
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.seams.publication.sites import DAY, ITEMS, WEEK, HandingOn, made_settings, made_site
from palate_audit.answers.still import NOW
from palate_common.algorithms import State, verdict
from palate_common.algorithms.popularity import COUNTS
from palate_common.mechanism.update import block_units
from palate_common.records.closing import Closing
from palate_core.errors import InputError, PalateError
from palate_core.layout import DUMMIES, layout_size
from palate_core.log.canonical import digest
from palate_core.log.cosignatures import cosign
from palate_core.log.notes import COSIGNATURE, Note, VerifierKey
from palate_core.log.signing import SigningKey
from palate_core.plan import RoundPlan
from palate_server.folder.enrolments import Enrolments
from palate_server.folder.quarantine import QuarantinedItem
from palate_server.folder.server_folder import Site
from palate_server.ledger.cosigning import TooFewWitnessesError
from palate_server.ledger.ledger import Ledger
from palate_server.operation import judging, releases, rotation
from palate_server.operation.judging import check_quarantine, put_in_quarantine, quarantined
from palate_server.operation.releases import judged_items, listed, verdict_of, verdicts_on
from palate_server.operation.restraint import restraint_of
from palate_server.operation.runs import begin, close
from palate_server.operation.schedule import directory_of, terms_of, trainings
from palate_server.operation.survey_results import read_result, released, result_of
from palate_server.rounds.coordinator import Coordinator
from palate_server.rounds.lock import RunLock
from palate_server.rounds.noise import NoisyAggregate
from palate_server.rounds.registry import Registry
from palate_server.rounds.run import open_run
from palate_server.rounds.terms import RunTerms
from palate_server.service.setup import server_toml
from palate_server.surveys.verdict import Judgement


class MadeWitnesses:
    """The other side of a ledger's witnesses: they cosign what they are shown, or are too few."""

    def __init__(self, dice: Dice, keys: Mapping[str, SigningKey], *_: Any, **__: Any) -> None:
        self._dice, self._keys = dice, keys

    def cosigned(self, note: Note, *, prove: object) -> Note:
        """The note with their cosignatures."""
        if self._dice.chance(0.15):
            raise TooFewWitnessesError("0 of 2")
        return note.with_signatures(*(cosign(note.text, name, key, time=int(NOW)) for name, key in self._keys.items()))

    def close(self) -> None:
        """Nothing is open."""


class MadeServer(Closing):
    """A server folder, and all that is done with its models.

    Args:
        dice: what happens.
        answer: what is told.
        folder: where.
    """

    def __init__(self, dice: Dice, answer: CaseAnswer, folder: Path) -> None:
        self.dice, self.answer, self.folder, self.now = dice, answer, folder / "site", NOW
        self.folder.mkdir()
        self.settings = {
            **made_settings(dice), "training.algorithm": dice.one_of(("popularity", HandingOn.name)),
            "privacy.dp": "central", "privacy.lifetime_epsilon": 9000.0, "privacy.period_epsilon": 9000.0,
            "privacy.epsilon": 40.0, "judging.epsilon": dice.mostly(40.0, 0.0),
            "release.signal": dice.one_of((0.0, 0.0, 40.0)), "surveys.epsilon": 40.0,
            "judging.quarantine_runs": dice.mostly(dice.one_of((1, 3)), 0),
            "judging.quarantine_accusers": dice.one_of((0.0, 0.01, 1.0, 1.0)),
            "release.recent_half_life_days": dice.one_of((None, None, 7.0)), "surveys.items": ["one"],
        }  # fmt: skip
        self.keys = {f"witness.example/{number}": SigningKey.generate() for number in range(2)}
        self.watched = {
            "witnesses.keys": [str(VerifierKey.of(name, key, COSIGNATURE)) for name, key in self.keys.items()],
            "witnesses.urls": ["https://one.example", "https://two.example"],
            "witnesses.needed": dice.whole(1, 2),
        }
        self.settings |= self.watched if dice.chance(0.3) else {}
        self.site = made_site(self.folder, self.settings)
        self.items, self.runs, self.archives = list(ITEMS), list[str](), 0
        self.ledger, self.register = self.site.ledger(), Enrolments(self.site.enrolment_file)
        self.ledger.set_budget(mu2=1e9, epsilon=9000.0, delta=1e-5)

    def close(self) -> None:
        """Close its files."""
        self.ledger.close()
        self.register.close()

    def change(self) -> None:
        """Another setting, or other items."""
        settings: dict[str, Any] = {}
        if self.dice.chance(0.4):
            other = (list(ITEMS), [*ITEMS, "new"], self.dice.shuffled(ITEMS), [*ITEMS[1:], "new"])
            self.items = self.dice.one_of(other)
        else:
            key, value = self.dice.one_of(
                (("judging.epsilon", 0.0), ("judging.epsilon", 40.0), ("judging.unjudged", "publish"),
                 ("judging.quarantine_runs", 2), ("judging.quarantine_items", 1), ("training.warm_start", False),
                 ("release.rounds", 1), ("release.signal", 0.0), ("release.keep", 1), ("profile", "trial"),
                 ("training.algorithm", "popularity"))
            )  # fmt: skip
            settings[key] = value
            if self.dice.chance(0.25):
                settings = self.watched if self.dice.chance(0.6) else dict.fromkeys(self.watched)
        self.configure(settings)

    def configure(self, settings: Mapping[str, Any]) -> None:
        """Go on with these settings, unless they are refused, and with the items, which are mostly published."""
        (self.folder / "server.toml").write_text(server_toml({**self.settings, **settings}))
        (self.folder / "items").write_text("".join(f"{item}\n" for item in self.items))
        changed = self.answer.tried(Site.at, self.folder)
        if isinstance(changed, PalateError):
            (self.folder / "server.toml").write_text(server_toml(self.settings))
            changed, settings = Site.at(self.folder), {}
        self.site, self.settings = changed, {**self.settings, **settings}
        self.answer.of(releases.added_items, self.site)
        if self.dice.chance(0.8):
            self.answer.of(lambda: _published(releases.publish_items(self.site.afresh())))

    def start(self) -> None:
        """Publish the model that a population begins with."""
        self.answer.of(lambda: _published(releases.publish_start(self.site)))

    def train(self) -> None:
        """A training; mostly with a release."""
        self.now += self.dice.one_of((0.0, 60.0, 9 * DAY))
        ledger, register = self.ledger, self.register
        terms = self.answer.tried(begin, self.site, ledger, register, None, None)
        if isinstance(terms, PalateError):
            return
        self.answer.tell(terms_of(ledger, terms.run) == terms, directory_of(self.site, terms))
        self.answer.tell(terms.run, _about(terms), terms.inputs, terms.catalogue, terms.settings, terms.facts.seed)
        high = self.dice.one_of((0.0, 30.0, 300.0, 300.0))
        counts = self.dice.floats(terms.facts.n_items, low=0.0, high=high)
        self._finish(ledger, terms, {COUNTS: counts}, users=self.dice.whole(7, 9))
        self.runs.append(terms.run)

    def judge(self) -> None:
        """A verdict on a run's model: mostly of the latest, and mostly one that says something."""
        if not self.runs:
            return
        run = self.dice.mostly(self.runs[-1], *self.runs)
        if self.settings["judging.epsilon"] == 0.0 and self.dice.chance(0.8):
            return
        ledger, register = self.ledger, self.register
        self.answer.tell(verdicts_on(ledger, run).may_begin(self.site.config, now=self.now))
        asked = _of_another_model if self.dice.chance(0.12) else judging.question
        with mock.patch.object(judging, "question", asked):
            terms = self.answer.tried(begin, self.site, ledger, register, None, run)
        if isinstance(terms, PalateError):
            return
        self.answer.tell(_about(terms), terms.settings, terms.inputs, terms.clip_norm, terms.epsilon)
        if self.dice.chance(0.25):  # meanwhile the operator looks
            self.configure({"judging.epsilon": self.dice.one_of((0.0, 40.0))})
            self.publish()
        self._finish(ledger, terms, self._votes(terms.facts.n_items), users=self.devices)
        self.answer.of(lambda: _said(verdict_of(self.site, ledger, run), judged_items(self.site, ledger, run)))
        self._otherwise(ledger)
        self.quarantine(ledger)

    def _votes(self, n: int) -> State:
        """What devices say: some items are hardly found, or hardly shown."""
        self.devices = self.dice.one_of((40, 400, 400, 400, 400))
        shown = np.full(n, 0.9 * self.devices) * self.dice.floats(n, low=self.dice.one_of((0.02, 0.8)), high=1.0)
        found = shown * 0.2 * self.dice.floats(n, low=0.9, high=1.1)
        for row in self.dice.some_of(range(n), 0.35):
            found[row] *= self.dice.one_of((0.0, 0.0, 0.05, 0.4))
        votes = np.array(self.dice.one_of(((0.2, 0.2), (0.5, 0.1), (0.5, 0.1), (0.1, 0.6)))) * self.devices
        return {verdict.VOTES: votes, verdict.FOUND: found, verdict.SHOWN: shown / math.sqrt(min(20, n))}

    def quarantine(self, ledger: Ledger) -> None:
        """Put items in quarantine that verdicts name; twice, and of an earlier run, too."""
        for run in [*self.runs[-2:], *self.runs[-1:]]:
            self.answer.of(lambda run=run: shown_items(put_in_quarantine(self.site, ledger, run)))
        self.answer.of(check_quarantine, self.site, ledger)
        self.answer.of(lambda: {name: array.tolist() for name, array in quarantined(self.site, ledger).items()})

    def _otherwise(self, ledger: Ledger) -> None:
        """What the latest verdict would put in quarantine with other settings, and with other items there."""
        file, config, now = self.site.quarantine.file, self.site.config, trainings(ledger)
        kept = file.read_bytes() if file.exists() else None
        for _ in range(2):
            other = {
                "quarantine_accusers": self.dice.one_of((0.0, 0.01, 0.1, 1.0)),
                "quarantine_items": self.dice.whole(1, 4),
                "quarantine_runs": self.dice.one_of((1, 3)),
            }
            site = Site(self.folder)
            vars(site)["config"] = config.model_copy(update={"judging": config.judging.model_copy(update=other)})
            file.unlink(missing_ok=True)
            site.quarantine.add(self.dice.some_of(self.items, 0.3), until=now + self.dice.whole(1, 5))
            there = [each.item for each in site.quarantine.items(trainings=now)]
            site.quarantine.lift(self.dice.some_of(there), trainings=now)
            self.answer.of(lambda site=site: shown_items(put_in_quarantine(site, ledger, self.runs[-1])))
            self.answer.of(check_quarantine, site, ledger)
            self.answer.tell(file.read_bytes())
        file.unlink()
        if kept is not None:
            file.write_bytes(kept)

    def operator(self) -> None:
        """The operator adds items, or lifts some."""
        ledger = self.ledger
        now = trainings(ledger)
        there = [each.item for each in self.site.quarantine.items(trainings=now)]
        if there and self.dice.chance(0.5):
            self.answer.of(self.site.quarantine.lift, self.dice.some_of(there), trainings=now)
        else:
            self.site.quarantine.add(self.dice.some_of(self.items, 0.3), until=now + self.dice.whole(0, 3))
        self.answer.of(check_quarantine, self.site, ledger)

    def survey(self) -> None:
        """A survey, and its result."""
        survey = self.site.config.surveys.survey(WEEK)
        ledger, register = self.ledger, self.register
        terms = self.answer.tried(begin, self.site, ledger, register, survey, None)
        if isinstance(terms, PalateError):
            return
        self.answer.tell(_about(terms), terms.settings, terms.catalogue, terms.inputs)
        sums = {block.name: self.dice.floats(len(block.questions), low=0.0, high=900.0) for block in survey.blocks()}
        self._finish(ledger, terms, sums, users=900)
        self.answer.tell(released(ledger))
        for week in (self.dice.one_of((None, WEEK)), "2025-09-22"):
            self.answer.of(lambda week=week: _compact(result_of(self.site, ledger, week)))
        for path in sorted(self.site.surveys.glob("*")):
            key, data = self.dice.mostly(self.site.key().public, "ab" * 32), path.read_bytes()
            other = (b"[]", b'{"result":{}}', data + b" ", data.replace(b"one", b"two"))
            data = self.dice.one_of((data, data, data, *other))
            self.answer.of(lambda key=key, data=data: _compact(read_result(data, public_key=key)))
            self.answer.tell(path.name, oct(path.stat().st_mode), oct(self.site.surveys.stat().st_mode))

    def publish(self) -> None:
        """Publish a run's model, mostly the latest; at a time when its verdict may be waited for, or isn't any more."""
        ledger = self.ledger
        known = [*ledger.runs(), "z"]
        run = self.dice.one_of((*self.runs[-1:] * 9, *self.runs, *known))
        later = self.dice.one_of((0.0, 60.0, 3600.0, 72 * 3600.0, 72 * 3600.0 - 1))
        with mock.patch("time.time", partial(float, self.now + later)):
            self.answer.of(lambda: _published(releases.publish(self.site, run, _card)))

    def again(self) -> None:
        """Publish the latest again, where there is need, or without."""
        if self.dice.chance(0.4):
            self.configure(self.watched if self.dice.chance(0.7) else dict.fromkeys(self.watched))
        found = self.answer.tried(lambda: _published(releases.latest(self.site)))
        if not isinstance(found, PalateError):
            self.answer.tell(found)
        if self.dice.chance(0.5):
            self.answer.of(lambda: _published(releases.renew(self.site)))
        elif found is not None and (latest := releases.latest(self.site)) is not None:
            self.answer.of(lambda: _published(releases.republish(self.site, latest)))
        ledger = self.ledger
        self.answer.tell(releases.unwritten(self.site, ledger))

    def ended(self) -> None:
        """A process ends between the entry of a model and its folder."""
        if self.runs:
            with suppress(InputError):
                self.ledger.publish(self.dice.one_of((self.runs[-1], None)), "ab" * 32, "cd" * 32)
                self.answer.tell(releases.unwritten(self.site, self.ledger))

    def lose(self) -> None:
        """The ledger is lost with its runs, and begins anew behind what was seen of it."""
        seen, spent = self.ledger.checkpoint(), self.ledger.spent()
        self.ledger.close()
        for path in self.folder.glob("ledger.db*"):
            path.unlink()
        self.ledger = self.site.ledger()
        self.ledger.set_budget(mu2=1e9, epsilon=9000.0, delta=1e-5)
        with mock.patch("time.time", partial(float, self.now)):
            self.answer.of(self.ledger.restore, witness=seen, spent=spent)
        self.again()
        self.runs.clear()

    def rotate(self) -> None:
        """Another release key: after the old one was lost, half done before, or where somebody has the folder."""
        site, archive = self.site, self.folder.parent / f"{self.dice.mostly(self.archives, 0)}.tar"
        self.archives += 1
        what = self.dice.one_of(("plain", "plain", "lost", "lost", "half", "locked", "under way", "there"))
        with ExitStack() as stack:
            if what == "half":
                rotation.prepare(site)
                new = SigningKey.load(self.folder / "keys" / rotation.NEXT)
                self.answer.of(self.ledger.hand_over, site.key(), new)
            if what == "locked":
                stack.enter_context(RunLock(self.dice.one_of((site.folder, site.state))))
            if what == "under way":
                with suppress(KeyboardInterrupt), restraint_of(site).attempt(3):
                    raise KeyboardInterrupt
            if what == "lost":
                (self.folder / "key").unlink()
            if what in ("lost", "there"):
                done = self.answer.tried(rotation.replace_lost_key, site)
            else:
                self.answer.of(lambda: str(rotation.prepare(site)))
                done = self.answer.tried(rotation.rotate_key, site, archive)
        if not isinstance(done, PalateError):
            self.answer.tell(done.old, done.new, str(done.log), _published(done.published), archive.exists())
        (site.state / "attempt.json").unlink(missing_ok=True)
        keys = sorted((self.folder / "keys").iterdir())
        self.answer.tell({path.name: path.read_bytes() for path in keys}, (self.folder / "key").exists())
        if not (self.folder / "key").exists():
            SigningKey.generate().save(self.folder / "key")

    def spoil(self) -> None:
        """A file of a run or a model is another's."""
        files = sorted([*self.folder.glob("runs/*/releases/*"), *self.folder.glob("public/models/*/manifest*")])
        if files:
            file = self.dice.one_of(files)
            kept = file.read_bytes()
            file.write_bytes(kept[:-1] + b"x")
            for each in (self.publish, self.again):
                with suppress(ValueError, KeyError, UnicodeDecodeError):  # what a manifest says that nobody signed
                    self.answer.tried(each)
            if file.parent.exists():
                file.write_bytes(kept)

    def _finish(self, ledger: Ledger, terms: RunTerms, sums: State, *, users: int) -> None:
        """A run's attempts, of which the last is mostly released, and its end."""
        folder, key = self.site.run(terms.run), self.site.key()
        with mock.patch("time.time", partial(float, self.now)):
            with open_run(terms, folder, ledger=ledger, key=key) as run:
                count = self.dice.one_of((1, 1, 1, 2)) if self.dice.chance(0.9) else 0
                for attempt in range(count):
                    noisy = self._charged(ledger, run, attempt, sums, users)
                if count and self.dice.chance(0.95):
                    written = Registry(folder).persist(noisy)
                    ledger.seal(run=terms.run, round_=0, attempt=count - 1, release_hash=written)
            if self.dice.chance(0.9):
                with open_run(terms, folder, ledger=ledger, key=key) as run:
                    self.answer.of(close, self.site, ledger, run)

    def _charged(self, ledger: Ledger, run: Coordinator, attempt: int, sums: State, users: int) -> NoisyAggregate:
        """Charge an attempt; returns these sums as its release."""
        terms, layout = run.terms, run.algorithm.layout(run.model.state, 0)
        plan = RoundPlan(
            population=terms.population, run=terms.run, round=0, attempt=attempt, model_hash=run.model.hash,
            algorithm=terms.algorithm, settings=terms.settings, facts=terms.facts, layout=layout,
            clip_norm=terms.clip_norm, grid=terms.grid, sigma=terms.grid // 16, dp=terms.dp, noise=terms.noise,
            cohort_floor=1, mu2=16.0, expires=int(NOW),
        )  # fmt: skip
        ledger.charge(run=terms.run, round_=0, attempt=attempt, plan_hash=plan.hash, mu2=16.0, run_limit=None, facts={})
        units = block_units(layout, plan.clip_norm / plan.grid)
        steps = np.zeros(layout_size(layout) + DUMMIES, np.int64)
        first = 0
        for spec in layout:
            steps[first : first + spec.size] = np.rint(sums[spec.name] / units[spec.name])
            first += spec.size
        return NoisyAggregate(steps, users, plan)

    def tell(self) -> None:
        """What anybody can see after a step."""
        latest = self.site.models / releases.LATEST
        self.answer.tell(latest.read_bytes() if latest.exists() else None)
        if latest.exists():
            for version, name, manifest in listed(self.site):
                self.answer.tell(
                    version, name, manifest.get("run"), sorted(p.name for p in (self.site.models / name).iterdir())
                )

    def end(self) -> None:
        """What all of it has left."""
        ledger = self.ledger
        self.answer.tell([digest(each.leaf()) for each in ledger.entries()])
        file = self.site.quarantine.file
        self.answer.tell(file.read_bytes() if file.exists() else None)
        for path in sorted([*self.site.witness.iterdir(), *self.site.mirror.rglob("*")]):
            if path.is_file():
                self.answer.tell(path.name, digest(path.read_bytes()))


def _compact(result: dict[str, Any]) -> Any:
    """The result of a survey, its numbers as arrays."""
    numbers = [[each.pop(name) for name in ("value", "low", "high")] for each in result["figures"]]
    known = np.array([[math.nan if each is None else each for each in three] for three in numbers])
    cost = result["cost"]
    return [result, known, np.array([cost.pop(name) for name in sorted(cost) if "epsilon" in name])]


def shown_items(found: tuple[QuarantinedItem, ...]) -> list[list[Any]]:
    """Items in quarantine."""
    return [[each.item, each.by, each.until, each.proved] for each in found]


def _of_another_model(site: Site, ledger: Ledger, run: str, ask: Any = judging.question) -> tuple[Any, State, Any]:
    """A verdict that is asked of another model than it says."""
    pair, *rest = ask(site, ledger, run)
    return pair.model_copy(update={"candidate": pair.candidate.model_copy(update={"model": "ab" * 32})}), *rest


def _about(terms: RunTerms) -> dict[str, Any]:
    """What a run says of itself."""
    return dict(terms.about)


def _said(said: Judgement | None, items: tuple[str, ...]) -> Any:
    """What a verdict says."""
    return None if said is None else (said, items, [json.dumps(each) for each in said.reasons(items)])


def _published(found: Any) -> Any:
    """A published model."""
    return None if found is None else [found.version, found.model.hash, found.items, dict(found.files)]


def _card(extract: Any) -> bytes:
    """A card of a run."""
    return f"{extract.run} {extract.spent!r} {extract.other_runs}".encode()
