"""Attribute inference: which group of items does a user favour in the hidden half of their history?

The attacker knows one half of the target's history. What they infer from that half alone, or with a model that others
trained, holds for people in general: that is the baseline. The privacy loss is how much more they infer where the
target took part than where the target's events were emptied. The claim bounds that difference: "the guess is right" is
an event, and its probability rises at most along the trade-off curve.

Groups are genres where the data has them; else eight groups of items that co-occur among users who never trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from palate_audit.attacks.ceiling import Counts, excess_p_value, most_tpr
from palate_audit.attacks.contributions import Floats, Spread
from palate_audit.attacks.measured import Estimate
from palate_audit.attacks.noise import TOLD, View, claimed, fresh_noise, views_of
from palate_audit.attacks.rates import Rate
from palate_audit.attacks.rehearsals import Rehearsed
from palate_audit.attacks.shadow import Halves
from palate_audit.attacks.subject import Subject
from palate_audit.evidence.evidence import Finding
from palate_common.interactions import Interactions

ATTACK = "attribute inference"
GROUPS = 8
RIDGE = 3.0
LEARNED_ON = 400
"""Most users whom the attacker knows completely and learns from."""
AT_ONCE = 32
"""Targets processed at once: their templates touch every item."""
HEADER = ("sees", "guesses right, took part", "guesses right, emptied", "at most", "trials")
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Guessed:
    """How often the attacker guessed the favourite group.

    Attributes:
        sees: what the attacker sees in addition to half of the history.
        inside: where the target took part.
        outside: where the target's events were emptied; None where there is no such game.
        most: the claim's ceiling for `inside`, given `outside`; None without a claim.
        trials: how many, in words.
    """

    sees: str
    inside: Estimate
    outside: Estimate | None
    most: float | None
    trials: str

    def cells(self) -> list[str]:
        """The cells of its row under `HEADER`."""
        most = "none claimed" if self.most is None else f"{self.most:.3f}"
        return [self.sees, str(self.inside), "" if self.outside is None else str(self.outside), most, self.trials]


@dataclass(frozen=True)
class Question:
    """The inference task for some users.

    Attributes:
        groups: of each item, -1 for none: int64 [n_items].
        names: of the groups.
        known: half of each user's history.
        whole: all of it.
        answers: each user's favourite group in the other half, int64 [n_users].
        prior: log lift of each group in the known half, [n_users, n_groups].
    """

    groups: Ints
    names: tuple[str, ...]
    known: Interactions
    whole: Interactions
    answers: Ints
    prior: Floats = field(repr=False)


@dataclass(frozen=True)
class Study:
    """The task for the users whom the attacker learns from, and for the targets."""

    learned: Question
    asked: Question


def study(subject: Subject, targets: Ints, halves: Halves, rng: np.random.Generator) -> Study | None:
    """Make the inference task, or None where items don't fall into two groups.

    Args:
        subject: whose data.
        targets: rows of the training users who are attacked.
        halves: of their histories.
        rng: draws the users to learn on, and their halves.
    """
    groups, names = item_groups(subject)
    rest = np.setdiff1d(np.arange(subject.users), targets)
    if len(names) < 2 or not len(rest):
        return None
    train = subject.data.train
    usual = _counts(train, groups, len(names)).sum(axis=0)
    usual = usual / usual.sum()

    def question(whole: Interactions, halves: Halves) -> Question:
        lifts = [_lift(_counts(part, groups, len(names)), usual) for part in (halves.first, halves.second)]
        answers = lifts[1].argmax(axis=1).astype(np.int64)
        return Question(groups, names, halves.first, whole, answers, np.log(lifts[0]))

    others = train.users(np.sort(rng.permutation(rest)[:LEARNED_ON]))
    return Study(question(others, Halves.of(others, rng)), question(train.users(targets), halves))


def item_groups(subject: Subject) -> tuple[Ints, tuple[str, ...]]:
    """A group of each item, -1 for none, and the groups' names."""
    counts = np.bincount(subject.data.train.indices, minlength=subject.data.train.n_items)
    if subject.data.genres is not None and any(subject.data.genres):
        first = np.array([genres.partition("|")[0].strip() for genres in subject.data.genres])
        kinds = sorted(set(first) - {""}, key=lambda kind: (-counts[first == kind].sum(), kind))[:GROUPS]
        found = np.full(len(first), -1, np.int64)
        for number, kind in enumerate(kinds):
            found[first == kind] = number
        return found, tuple(map(str, kinds))
    others = subject.data.others
    if others.n_users < 2 * GROUPS:
        return np.full(others.n_items, -1, np.int64), ()
    dense = others.dense().astype(np.float64)
    dense = (dense - dense.mean(axis=0)) / np.sqrt(np.maximum(dense.sum(axis=1), 1))[:, None]
    _, vectors = np.linalg.eigh(dense @ dense.T)
    bits = dense.T @ vectors[:, -3:] > 0
    known = others.dense().any(axis=0)
    present, numbers = np.unique((bits @ np.array([1, 2, 4]))[known], return_inverse=True)
    found = np.full(others.n_items, -1, np.int64)
    found[known] = numbers
    return found, tuple(f"group {number}" for number in range(len(present)))


def attack(subject: Subject, study: Study, *, repeats: int) -> tuple[list[Guessed], list[Finding]]:
    """White box, in every view: the evidence of each group in a release after all other users are subtracted."""
    asked = study.asked
    alone = _estimate(guesses(study, [study.learned.prior], [asked.prior]))
    rows = [Guessed("half of the history alone", alone, alone, None, f"{len(asked.answers):,} targets")]
    findings = list[Finding]()
    for view in views_of(subject.releases[0].plan):
        games = 1 if view is View.CLEAR or subject.mu is None else repeats
        learned = evidence(subject, view, study.learned, games=1)[0]
        right = [guesses(study, learned, side) for side in evidence(subject, view, asked, games=games)]
        inside, outside = (_estimate(side) for side in right)
        mu = subject.mu if claimed(view, subject.releases[0].plan) else None
        most = None if mu is None else most_tpr(outside.value, mu=mu)
        rows.append(Guessed(f"{view.value}; all other users known", inside, outside, most, f"{right[0].size:,} games"))
        if view is View.CLEAR:
            findings.append(_control(rows[-1], alone))
        elif mu is not None:
            hits = [int(side.sum()) for side in right]
            counts = Counts(false=hits[1], nulls=right[1].size, true=hits[0], alternatives=right[0].size)
            line = (
                f"favourite of {len(asked.names)} groups guessed right in {inside} where the target took part, "
                f"{outside} where not; at most {most:.3f}; from half of the history alone {alone.value:.3f}"
            )
            p_value = excess_p_value(counts, mu=mu)
            told = f"{ATTACK}, {TOLD[view]}"
            findings.append(Finding.counted(told, p_value, line, right=hits, games=right[0].size))
    return rows, findings


def attack_models(subject: Subject, study: Study, rehearsed: Rehearsed) -> Guessed:
    """Black box: a model's scores of each group's items, given the known half; on rehearsed models."""
    shadows = len(rehearsed.models) // 2
    learned, seen = (
        [_by_group(model.scores(question.known), question) for model in models]
        for question, models in (
            (study.learned, rehearsed.models[:shadows]),
            (study.asked, rehearsed.models[shadows:]),
        )
    )
    right, bits = guesses(study, learned, seen), rehearsed.bits[shadows:]
    inside, outside = (
        Estimate.over_runs([float(run[there].mean()) for run, there in zip(right, side, strict=True) if there.any()])
        for side in (bits, ~bits)
    )
    claimed = subject.mu if rehearsed.protected else None
    most = None if claimed is None else most_tpr(outside.value, mu=claimed)
    sees = "model (anybody)" if rehearsed.protected else "model learned with dp off"
    return Guessed(sees, inside, outside, most, f"{len(right)} rehearsals of {bits.shape[1]} targets")


def guesses(study: Study, learned: Sequence[Floats], judged: Sequence[Floats]) -> npt.NDArray[np.bool_]:
    """Whether each guess is right, [games, targets]: ridge regression on the known half and what the attacker sees.

    Args:
        study: the inference task.
        learned: what the attacker sees of the users they learn from, one array [users, features] a game.
        judged: the same of the targets.
    """
    asked, known = study.asked, study.learned
    given = np.concatenate([np.concatenate([known.prior, game], axis=1) for game in learned])
    middle, scale = given.mean(axis=0), np.maximum(given.std(axis=0), 1e-9)
    x, y = (given - middle) / scale, np.tile(np.eye(len(known.names))[known.answers], (len(learned), 1))
    weights = np.linalg.solve(x.T @ x + RIDGE * len(learned) * np.eye(x.shape[1]), x.T @ (y - y.mean(axis=0)))
    right = np.zeros((len(judged), len(asked.answers)), np.bool_)
    for number, game in enumerate(judged):
        seen = (np.concatenate([asked.prior, game], axis=1) - middle) / scale
        right[number] = (seen @ weights + y.mean(axis=0)).argmax(axis=1) == asked.answers
    return right


def evidence(subject: Subject, view: View, question: Question, *, games: int) -> tuple[list[Floats], list[Floats]]:
    """What the attacker computes where users took part, and where their events were emptied.

    The template of a group is the contribution of a history with all of its items that aren't known. The product of
    the template with the rest of a release measures the evidence of that group. Without noise, the first release
    shows everything.

    Returns:
        Two lists of one array [users, groups x releases] a game; game i of both has the same noise.
    """
    releases = subject.releases if subject.mu is not None else subject.releases[:1]
    columns: list[list[list[Floats]]] = [[[] for _ in range(games)] for _ in range(2)]
    for sealed in releases:
        parts: list[list[list[Floats]]] = [[[] for _ in range(games)] for _ in range(2)]
        for first in range(0, question.known.n_users, AT_ONCE):
            rows = slice(first, first + AT_ONCE)
            like = [subject.sent(sealed, _unknown(question, number, rows)) for number in range(len(question.names))]
            places, at = _union(like)
            sent = subject.sent(sealed, question.whole.users(rows)).at(places)
            for game in range(games):
                noise = fresh_noise(view, sealed.plan, sealed.noisy.users, len(places.coords))
                for side, seen in zip(parts, (sent + noise, noise), strict=True):
                    found = [one.sums(seen[where]) for one, where in zip(like, at, strict=True)]
                    side[game].append(np.stack(found, axis=1) / sealed.plan.grid**2)
        for side, part in zip(columns, parts, strict=True):
            for game in range(games):
                side[game].append(np.concatenate(part[game]))
    inside, outside = ([np.concatenate(game, axis=1) for game in side] for side in columns)
    return inside, outside


def _union(parts: Sequence[Spread]) -> tuple[Spread, list[Ints]]:
    """The union of the coordinates of some vectors, user by user, and the positions of each part's entries in it."""
    span = 1 + max(int(part.coords.max(initial=0)) for part in parts)
    keys = [part.owners() * span + part.coords for part in parts]
    union, place = np.unique(np.concatenate(keys), return_inverse=True)
    counts = np.bincount(union // span, minlength=parts[0].users)
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    at = np.split(place, np.cumsum([len(key) for key in keys])[:-1])
    return Spread(indptr, union % span, np.ones(len(union))), at


def _unknown(question: Question, group: int, rows: slice) -> Interactions:
    """For some targets, a history of every item of a group that they aren't known to have."""
    known = question.known.users(rows)
    lacked = ~known.dense() & (question.groups == group)
    users, items = np.nonzero(lacked)
    return Interactions.from_pairs(users, items, n_users=known.n_users, n_items=known.n_items)


def _by_group(scores: npt.NDArray[np.floating], question: Question) -> Floats:
    """Mean standardised score of each group's items, [targets, groups]."""
    plain = np.asarray(scores, np.float64)
    plain = (plain - plain.mean(axis=1)[:, None]) / np.maximum(plain.std(axis=1), 1e-12)[:, None]
    return np.stack([plain[:, question.groups == number].mean(axis=1) for number in range(len(question.names))], axis=1)


def _counts(histories: Interactions, groups: Ints, n_groups: int) -> Floats:
    """How many items of each group each user has, [n_users, n_groups]."""
    group = groups[histories.indices]
    kept = group >= 0
    keys = histories.owners()[kept].astype(np.int64) * n_groups + group[kept]
    counted = np.bincount(keys, minlength=histories.n_users * n_groups)
    return counted.reshape(histories.n_users, n_groups).astype(np.float64)


def _lift(counts: Floats, usual: Floats) -> Floats:
    """The share of each group in a history, relative to its share among all users."""
    lift: Floats = (counts + 1) / (counts.sum(axis=1)[:, None] * usual + 1)
    return lift


def _estimate(right: npt.NDArray[np.bool_]) -> Estimate:
    """The share that is right, with its Clopper-Pearson interval."""
    rate = Rate.of(int(right.sum()), right.size)
    return Estimate(rate.value, rate.low, rate.high)


def _control(clear: Guessed, alone: Estimate) -> Finding:
    """The control: without protection, the attacker must learn more than half of the history shows."""
    test = f"{ATTACK}, control"
    line = f"{clear.inside} right from {clear.sees}, {alone} from half of the history alone"
    if (clear.inside.low or 0.0) > alone.value:
        return replace(Finding.checked(test, True, f"succeeds: {line}"), control=True)
    return replace(Finding.missing(test, f"too weak here to prove anything: {line}"), control=True)
