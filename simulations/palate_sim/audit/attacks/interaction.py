"""Membership of one interaction: does user u have item i?

From one contribution it can be read off: the item's rows are zero or they are not. In the releases, an attacker who
knows all other users sees those rows with noise on them (row norm); one who also knows the rest of u's history compares
two exact hypotheses (likelihood ratio).

The claim is about a user's events being emptied. Two histories of which neither is empty may each be mu from the empty
one, so that the ceiling of any test between them is 2 mu.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from palate_common.interactions import Interactions
from palate_sim.audit.attacks.ceiling import Counts, excess_p_value, smallest
from palate_sim.audit.attacks.contributions import Floats, Spread
from palate_sim.audit.attacks.likelihood import Trials, counted, own, play
from palate_sim.audit.attacks.measured import Measured, measured
from palate_sim.audit.attacks.membership import control, said
from palate_sim.audit.attacks.noise import View, fresh_noise, sigma_of, views_of
from palate_sim.audit.attacks.subject import Subject
from palate_sim.audit.evidence import Finding

NORM, RATIO = "interaction membership, row norm", "interaction membership, likelihood ratio"
KNOWS = {
    NORM: "all other users",
    RATIO: "all other users, the rest of the target's history",
}
TRIES = 200


@dataclass(frozen=True)
class Pairs:
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

    @property
    def true(self) -> Interactions:
        """The histories as they are."""
        parts = (self.having.users(np.flatnonzero(self.inside)), self.lacking.users(np.flatnonzero(~self.inside)))
        rows = [part.owners() + first for part, first in zip(parts, (0, parts[0].n_users), strict=True)]
        return Interactions.from_pairs(
            np.concatenate(rows),
            np.concatenate([part.indices for part in parts]),
            np.concatenate([part.weights for part in parts]),
            n_users=len(self.inside),
            n_items=self.having.n_items,
        )


def draw_pairs(targets: Interactions, train: Interactions, rng: np.random.Generator) -> Pairs:
    """One item that each target has, and one that they lack and others have: both follow the items' popularity."""
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
    return Pairs(having, lacking, alone, np.arange(n_pairs) < len(users))


def attack(subject: Subject, pairs: Pairs, *, repeats: int) -> tuple[list[Measured], list[Finding]]:
    """Both attacks in every view, and on the run's own releases; findings are not judged yet."""
    rows, findings = list[Measured](), list[Finding]()
    differences = [
        subject.sent(sealed, pairs.having).minus(subject.sent(sealed, pairs.lacking)) for sealed in subject.releases
    ]
    ceiling = None if subject.mu is None else 2 * subject.mu
    for view in views_of(subject.releases[0].plan):
        clear = view is View.CLEAR
        games, claimed = 1 if clear or subject.mu is None else repeats, ceiling if view is View.RELEASE else None
        norms = row_norms(subject, view, pairs, repeats=games)
        trials = play(subject, view, differences, repeats=games)
        parts = trials.of(pairs.inside), trials.of(~pairs.inside)
        found = [
            _norm_row(view, norms, pairs, claimed),
            _ratio_row(view.value, "fresh noise, independent trials", *parts, claimed),
        ]
        rows += found
        if clear:
            findings += [control(each) for each in found]
        elif claimed is not None:
            decisions = [[_at_median(norms, pairs)], counted(*parts)]
            for each, decided in zip(found, decisions, strict=True):
                p_value = smallest([excess_p_value(counts, mu=claimed) for counts in decided])
                findings.append(Finding.counted(f"{each.attack}, releases", p_value, said(each), **each.facts()))
    if subject.whole:
        sealed = own(subject, differences)
        sample = "the run's own releases, one sample"
        rows.append(
            _ratio_row(View.RELEASE.value, sample, sealed.of(pairs.inside), sealed.of(~pairs.inside), ceiling, one=True)
        )
    return rows, findings


def row_norms(subject: Subject, view: View, pairs: Pairs, *, repeats: int) -> Floats:
    """How much lies in the item's rows, [repeats, pairs]: their norm, or with noise how far it is above the noise's.

    An item's rows are the coordinates that a history of this item alone touches.
    """
    found, true = np.zeros((repeats, len(pairs.inside))), pairs.true
    for sealed in subject.releases:
        places = subject.sent(sealed, pairs.alone)
        sent = subject.sent(sealed, true).at(places)
        ones = Spread(places.indptr, places.coords, np.ones(len(places.values)))
        sigma, widths = sigma_of(view, sealed.noisy), np.maximum(np.diff(places.indptr), 1)
        for repeat in range(repeats):
            noise = fresh_noise(view, sealed.plan, sealed.noisy.users, len(sent))
            seen = (sent + noise) / sigma
            if not noise.any():
                found[repeat] += ones.sums(seen**2)
            elif int(widths.max()) == 1:  # a count is never negative: its sign tells
                found[repeat] += ones.sums(seen)
            else:
                found[repeat] += ones.sums(seen**2 - 1) / np.sqrt(2 * widths)
    return found


def _at_median(norms: Floats, pairs: Pairs) -> Counts:
    """Decisions at 0, where a norm is what noise alone is expected to have: a threshold that needs no data."""
    inside, outside = norms[:, pairs.inside], norms[:, ~pairs.inside]
    return Counts(
        false=int((outside > 0).sum()), nulls=outside.size, true=int((inside > 0).sum()), alternatives=inside.size
    )


def _norm_row(view: View, norms: Floats, pairs: Pairs, mu: float | None) -> Measured:
    return measured(
        NORM,
        view.value,
        knows="nothing else" if view is View.CLEAR else KNOWS[NORM],
        sample="fresh noise, independent trials",
        inside=norms[:, pairs.inside].ravel(),
        outside=norms[:, ~pairs.inside].ravel(),
        mu=mu,
        independent=True,
    )


def _ratio_row(
    sees: str, sample: str, inside: Trials, outside: Trials, mu: float | None, *, one: bool = False
) -> Measured:
    return measured(
        RATIO,
        sees,
        knows=KNOWS[RATIO],
        sample=sample,
        inside=inside.inside.ravel(),
        outside=outside.outside.ravel(),
        mu=mu,
        independent=not one,
        thresholds=None if one else inside.thresholds(),
    )
