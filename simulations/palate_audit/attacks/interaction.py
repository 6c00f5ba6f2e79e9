"""Membership of one interaction: does user u have item i?

One contribution reveals it. In the releases, an attacker who knows all other users and the rest of u's history compares
two exact hypotheses (likelihood ratio): with the item, and without it.

The claim compares a user's history with an empty one. Two histories of which neither is empty may each be mu from the
empty one, so the ceiling of any test between them is 2 mu.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from palate_audit.attacks.ceiling import excess_p_value
from palate_audit.attacks.likelihood import counted
from palate_audit.attacks.measured import Found, played
from palate_audit.attacks.membership import control, said
from palate_audit.attacks.noise import TOLD, View, views_of
from palate_audit.attacks.subject import Subject
from palate_audit.evidence.evidence import Finding
from palate_common.interactions import Interactions

ATTACK = "interaction membership, likelihood ratio"
KNOWS = "all other users, the rest of the target's history"
TRIES = 200


@dataclass(frozen=True)
class UserItemPairs:
    """Pairs of a user and an item, true ones first, then as many false ones.

    Attributes:
        having: the user's history with the item, one row a pair.
        lacking: without it.
        inside: which pairs are true, bool [n].
    """

    having: Interactions
    lacking: Interactions
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
    return UserItemPairs(having, lacking, np.arange(n_pairs) < len(users))


def attack(subject: Subject, pairs: UserItemPairs, *, repeats: int) -> Found:
    """The attack in every view; the findings have no verdicts yet.

    In a game with fresh noise every pair is played twice, with the item and without it.
    """
    found = Found()
    differences = [
        subject.sent(sealed, pairs.having) - subject.sent(sealed, pairs.lacking) for sealed in subject.releases
    ]
    ceiling = None if subject.mu is None else 2 * subject.mu
    for view in views_of(subject.releases[0].plan):
        trials, row = played(subject, view, differences, attack=ATTACK, knows=KNOWS, ceiling=ceiling, repeats=repeats)
        found.rows.append(row)
        if view is View.CLEAR:
            found.findings.append(control(row))
        elif row.mu is not None:
            p_value = excess_p_value(counted(trials), mu=row.mu)
            found.findings.append(Finding.counted(f"{ATTACK}, {TOLD[view]}", p_value, said(row), **row.facts()))
    return found
