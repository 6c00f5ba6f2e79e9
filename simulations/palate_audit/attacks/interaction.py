"""Membership of one interaction: does user u have item i?

One contribution reveals it: the item's rows, before popularity's direction is taken off, are zero or they are not. In
the releases, an attacker who knows all other users sees those rows with noise (row norm); one who also knows the rest
of u's history compares two exact hypotheses (likelihood ratio).

The claim compares a user's history with an empty one. Two histories of which neither is empty may each be mu from the
empty one, so the ceiling of any test between them is 2 mu.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from palate_audit.attacks.ceiling import Counts, excess_p_value, smallest
from palate_audit.attacks.contributions import Floats, Spread
from palate_audit.attacks.likelihood import counted, own, play
from palate_audit.attacks.measured import Found, Measured, measured
from palate_audit.attacks.membership import control, said
from palate_audit.attacks.noise import TOLD, View, claimed, fresh_noise, sigma_of, views_of
from palate_audit.attacks.subject import Subject
from palate_audit.evidence.evidence import Finding
from palate_common.interactions import Interactions

NORM, RATIO = "interaction membership, row norm", "interaction membership, likelihood ratio"
KNOWS = {
    NORM: "all other users",
    RATIO: "all other users, the rest of the target's history",
}
TRIES = 200


@dataclass(frozen=True)
class UserItemPairs:
    """Pairs of a user and an item, true ones first, then as many false ones.

    Attributes:
        having: the user's history with the item, one row a pair.
        lacking: without it.
        alone: the item alone.
        inside: which pairs are true, bool [n].
    """

    having: Interactions
    lacking: Interactions
    alone: Interactions
    inside: npt.NDArray[np.bool_]


def draw_pairs(targets: Interactions, train: Interactions, rng: np.random.Generator) -> UserItemPairs:
    """One item that each target has, and one that only others have: both follow the items' popularity."""
    users, items = list[int](), {True: list[int](), False: list[int]()}
    for user in range(targets.n_users):
        own = targets.items_of(user)
        if len(own) < 2:
            continue
        lacked = next((i for i in rng.choice(train.indices, TRIES) if i not in own), None)
        if lacked is None:
            continue
        users.append(user)
        items[True].append(int(rng.choice(own)))
        items[False].append(int(lacked))
    rows, n_pairs = np.asarray(users, np.int64), 2 * len(users)
    histories, asked = targets.users(np.tile(rows, 2)), np.array(items[True] + items[False], np.int64)
    same = histories.indices == asked[histories.owners()]
    lacking = histories.entries(~same)
    weights = np.ones(n_pairs, np.float32)
    weights[histories.owners()[same]] = histories.weights[same]
    having = Interactions.from_pairs(
        np.concatenate([lacking.owners(), np.arange(n_pairs)]),
        np.concatenate([lacking.indices, asked]),
        np.concatenate([lacking.weights, weights]),
        n_users=n_pairs,
        n_items=targets.n_items,
    )
    alone = Interactions.from_pairs(np.arange(n_pairs), asked, weights, n_users=n_pairs, n_items=targets.n_items)
    return UserItemPairs(having, lacking, alone, np.arange(n_pairs) < len(users))


def attack(subject: Subject, pairs: UserItemPairs, *, repeats: int) -> Found:
    """Both attacks in every view, and on the run's own releases; the findings have no verdicts yet.

    In a game with fresh noise every pair is played twice, with the item and without it.
    """
    found = Found()
    differences = [
        subject.sent(sealed, pairs.having).minus(subject.sent(sealed, pairs.lacking)) for sealed in subject.releases
    ]
    ceiling = None if subject.mu is None else 2 * subject.mu
    for view in views_of(subject.releases[0].plan):
        games = 1 if view is View.CLEAR or subject.mu is None else repeats
        most = ceiling if claimed(view, subject.releases[0].plan) else None
        norms = row_norms(subject, view, pairs, repeats=games)
        trials = play(subject, view, differences, repeats=games)
        made = [
            _fresh_row(NORM, view, norms, None, most),
            _fresh_row(RATIO, view, (trials.inside, trials.outside), trials.thresholds(), most),
        ]
        found.rows += made
        if view is View.CLEAR:
            found.findings += [control(each) for each in made]
        elif most is not None:
            decisions = [[_above_zero(*norms)], counted(trials, trials)]
            for each, decided in zip(made, decisions, strict=True):
                p_value = smallest([excess_p_value(counts, mu=most) for counts in decided])
                test = f"{each.attack}, {TOLD[view]}"
                found.findings.append(Finding.counted(test, p_value, said(each), **each.facts()))
    if subject.whole:
        sealed = own(subject, differences)
        found.rows.append(
            measured(
                RATIO,
                View.RELEASE.value,
                knows=KNOWS[RATIO],
                sample="the run's own releases, one sample",
                inside=sealed.inside[0, pairs.inside],
                outside=sealed.outside[0, ~pairs.inside],
                mu=ceiling,
                independent=False,
            )
        )
    return found


def row_norms(subject: Subject, view: View, pairs: UserItemPairs, *, repeats: int) -> tuple[Floats, Floats]:
    """The norm of the item's rows; with noise, how far it exceeds the expected norm of noise alone.

    An item's rows are the coordinates that a history of this item alone touches, before centring. Without noise, the
    whole contribution is seen, and what was sent is centred no more (see `uncentred`).

    Returns:
        Two arrays [repeats, pairs], with the item and without it; both have the same noise.
    """
    found = np.zeros((2, repeats, len(pairs.inside)))
    for sealed in subject.releases:
        places = subject.sent(sealed, pairs.alone, centred=False)
        sent = [
            subject.sent(sealed, histories, centred=view is not View.CLEAR).at(places)
            for histories in (pairs.having, pairs.lacking)
        ]
        ones = Spread(places.indptr, places.coords, np.ones(len(places.values)))
        sigma, widths = sigma_of(view, sealed.noisy), np.maximum(np.diff(places.indptr), 1)
        for repeat in range(repeats):
            noise = fresh_noise(view, sealed.plan, sealed.noisy.users, len(places.coords))
            for side, own_part in zip(found, sent, strict=True):
                seen = (own_part + noise) / sigma
                if not noise.any():
                    side[repeat] += ones.sums(seen**2)
                elif int(widths.max()) == 1:  # a count is never negative, so its sign is informative
                    side[repeat] += ones.sums(seen)
                else:
                    side[repeat] += ones.sums(seen**2 - 1) / np.sqrt(2 * widths)
    return found[0], found[1]


def _above_zero(inside: Floats, outside: Floats) -> Counts:
    """Decisions at 0, the expected score of noise alone: a threshold that needs no data."""
    false, true = int((outside > 0).sum()), int((inside > 0).sum())
    return Counts(false=false, nulls=outside.size, true=true, alternatives=inside.size)


def _fresh_row(
    attack: str, view: View, scores: tuple[Floats, Floats], thresholds: list[Floats] | None, mu: float | None
) -> Measured:
    """The table row of games with fresh noise."""
    return measured(
        attack,
        view.value,
        knows="nothing else" if attack == NORM and view is View.CLEAR else KNOWS[attack],
        sample="fresh noise, independent trials",
        inside=scores[0].ravel(),
        outside=scores[1].ravel(),
        mu=mu,
        independent=True,
        paired=True,
        thresholds=thresholds,
    )
