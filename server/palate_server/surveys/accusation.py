"""Accusation: whether what a verdict says against an item is more than false votes can make.

    GlobalModel of `verdict`, Judgement -> the items that are pushed, however the strongest accusers are taken off
    GlobalModel of the verdict on the model in use -> the items that it may have in many lists: those that may be buried

An item that is called pushed costs one model, which is held. One in quarantine is shown to nobody, for several runs:
who votes falsely could bury it. So it takes more. Of n devices a share a that clip can move, each by what is left of
its norm,

    what is found of the item        by sqrt(2) u a n,    down
    the lists that it is shown in    by 10 v a n,         up           u^2 + v^2 = 1
    what is usual, the median, by    2 a n / sqrt(m)      more finds for each of half of the m others

(the shares of the blocks in the budget, and the norm of two lists, are in `palate_common.algorithms.verdict`). The
verdict is read again with these taken off, for `SPLITS` splits of the norm: only an item that is pushed by each reading
goes into quarantine.

**Guarantees:** accusers who clip and are at most a share `accusers` of those who judge prove no item pushed that is
found k(e) as often as the others in their places, but with the probability with which noise alone calls it pushed.

It is no bound for an item that somebody has really pushed: its devices say the truth.

**What nobody misses.** An item that the model in use hardly shows can't be taken from anybody. There what holds a model
is enough: else attackers who push one, and bear it by their votes, hold every model, and no proof ends it. What a model
shows is what its own verdict said, before it came into use: an item that may be in `EXPOSED` of the lists is `seen`.

**Guarantees:** an item is seen that the model in use really has in more than `EXPOSED` + 10 a of the lists, whatever a
share a of those who judged that model have said, but with a probability of 3 in 10^7.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from palate_common.algorithms.als.vote import LIST
from palate_common.algorithms.verdict import BLOCKS, FOUND, NOISE, SHOWN
from palate_common.models.model import GlobalModel
from palate_server.surveys.verdict import DOUBT, EXPOSED, Judgement, PushedItem, judgement

SPLITS = 8
"""So many splits of a norm between an item's two numbers are tried; between two of them it is 1 % longer at most."""


def proven(model: GlobalModel, said: Judgement, *, accusers: float) -> tuple[PushedItem, ...]:
    """The pushed items that no accusers have made look so, the most exposed first.

    Args:
        model: the released verdict.
        said: what it says.
        accusers: the share of those who judge, all of whom may vote falsely.
    """
    return tuple(item for item in said.pushed if _stands(model, item.row, said.devices, accusers * said.devices))


def seen(model: GlobalModel, *, devices: int) -> frozenset[int]:
    """The rows of the items that a judged model may have in `EXPOSED` of the lists, beyond what noise hides.

    Args:
        model: the released verdict on it.
        devices: how many answered.
    """
    unsure = DOUBT * float(model.state[NOISE][list(BLOCKS).index(SHOWN)])
    return frozenset(np.flatnonzero(model.state[SHOWN] + unsure >= EXPOSED * devices).tolist())


def _stands(model: GlobalModel, row: int, devices: int, liars: float) -> bool:
    """Whether an item is pushed by each reading."""
    found, shown = model.state[FOUND].astype(np.float64), model.state[SHOWN].astype(np.float64)
    others = shown > EXPOSED * devices
    others[row] = False
    lifted = liars * math.sqrt(2 / BLOCKS[FOUND] / max(int(others.sum()), 1))  # of a median: half of them
    for angle in np.linspace(0.0, math.pi / 2, SPLITS):
        less, fewer = np.where(others, found - lifted, found), shown.copy()
        less[row] += liars * math.sqrt(1 / BLOCKS[FOUND]) * math.sin(angle)
        fewer[row] -= liars * math.sqrt(LIST / BLOCKS[SHOWN]) * math.cos(angle)
        read = replace(model, state={**model.state, FOUND: less, SHOWN: fewer})
        if row not in {each.row for each in judgement(read, devices=devices).pushed}:
            return False
    return True
