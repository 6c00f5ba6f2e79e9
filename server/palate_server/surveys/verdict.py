"""Verdict: what devices are asked about a model that isn't published yet, and what their released votes say of it.

    candidate, model in use -> JudgedPair, arrays of both -> a run of `verdict`
    GlobalModel of `verdict` (noised sums) -> Judgement: is it worse, and which items are shown that nobody has

A model is held for two reasons. Both are looked for in released numbers alone, so that looking costs no privacy.

**Worse.** L of the devices find more in their list by the model in use, W by the candidate. It is worse if L - W is
above `TOLERATED` of those who answered and `DOUBT` standard errors: sqrt(L + W) by sampling (a paired sign test), and
the noise of both.

**Pushed.** Items in `EXPOSED` of all lists or more are looked at. Such an item, in a share e, must be found there at
least k(e) = min(1 / 2, 2 e) as often as the others are in their places. With F its `found`, E its `shown`, and p = sum
F / sum E over all that are looked at, it is pushed if

    k(e) p E - F  >  DOUBT sqrt(noise_F^2 + (k p noise_E)^2 + (k E error_p)^2)

On the logs of docs/benchmarks.md#poisoning no item of an honest model is below 1.2 k(e). Where everybody's list is the
same and interest falls as one by rank, items at its end are: at about 0.7 k(e).

**False alarms.** An item that is found k(e) as often is called pushed only if noise is above `DOUBT` = 5 standard
errors: 3 in 10^7. At most 20 / `EXPOSED` = 400 items are looked at, noise aside: together 1.2 in 10^4, if each is at
its limit.

**What can be seen.** The noise of F is 1 / (mu sqrt(1 / 2)). Of n devices, an item that nobody has is seen from the e
on for which k(e) p e n is 5 times that: `Judgement.least`.

**What hides.** Modified devices that clip, and are a share a of all, move L - W by 2.6 a n at most: their whole norm
in both numbers. Or they bear an item: with a share x of their squared norm they move its F by 1.4 sqrt(x) a n, and with
the rest its E by 10 sqrt(1 - x) a n, so that it is seen in a share e' = e - 10 sqrt(1 - x) a. That hides it up to the e
for which k(e') p e' = 1.4 sqrt(x) a for the best x: about k(e) p e = a sqrt(2 + 100 k^2 p^2), or 1.5 a where p is a
tenth. They can lower p, too, by sqrt(2 m) a n finds of the m others that are looked at, which adds about a hundredth to
e; where that is all that is found, at an a of a tenth or so, no item is seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from palate_common.algorithms import State
from palate_common.algorithms.verdict import (
    BLOCKS,
    CANDIDATE,
    FOUND,
    IN_USE,
    NAME,
    NOISE,
    ROWS,
    SHOWN,
    VOTES,
    JudgedModel,
    JudgedPair,
    Judging,
    arrays_of,
)
from palate_common.errors import InputError
from palate_common.models.model import GlobalModel

DOUBT = 5.0
"""Standard errors beyond which something is no chance."""
TOLERATED = 0.02
"""By so much of the devices more may lose than win: two honest models of MovieLens 1M or Online Retail differ by less,
of 100,000 made users once by 5 %, and that one was held (docs/benchmarks.md#poisoning)."""
EXPOSED = 0.05
"""The least share of lists from which on an item is looked at."""
STEEPNESS, MOST_BORNE = 2.0, 0.5
"""What an exposed item must find beside the others, for its share of the lists, and at most."""


@dataclass(frozen=True)
class PushedItem:
    """An item that is in more lists than people's own events bear.

    Attributes:
        row: in the catalogue.
        exposure: share of all lists that it is in.
        found: how often it is found there, where other exposed items are 1.
    """

    row: int
    exposure: float
    found: float


@dataclass(frozen=True)
class Judgement:
    """What a verdict says.

    Attributes:
        run: the run whose model was judged.
        devices: that answered.
        lost: by how much of them more lose than win by the candidate; below 0, more win.
        error: one standard error of `lost`.
        pushed: items that are pushed, the most exposed first.
        least: about the least exposure at which an item that nobody has would have been seen.
    """

    run: str
    devices: int
    lost: float
    error: float
    pushed: tuple[PushedItem, ...]
    least: float

    @property
    def worse(self) -> bool:
        """Whether the candidate is worse than the model in use, beyond the error bar."""
        return self.lost > TOLERATED + DOUBT * self.error

    def reasons(self, items: tuple[str, ...]) -> list[str]:
        """Why the model may not be published, in words; empty: it may.

        Args:
            items: the catalogue.
        """
        said = []
        if self.worse:
            said.append(
                f"devices judge it worse than the model in use: {self.lost:.1%} more of them find less than find more, "
                f"with an error of {self.error:.1%}"
            )
        said += [
            f"devices have {items[each.row]!r:.80} in {each.exposure:.0%} of their lists and hardly among what they hid"
            for each in self.pushed
        ]
        return said


def asked(
    run: str, candidate: GlobalModel, in_use: GlobalModel, rows: npt.NDArray[np.int64] | None = None
) -> tuple[JudgedPair, State]:
    """What devices are asked about a run's model, and the arrays of both models, which are the verdict's inputs.

    Args:
        run: whose model is judged.
        candidate: that model.
        in_use: the model that it would take the place of.
        rows: where the items of the model in use are in the candidate's catalogue, -1: nowhere; None: it is the same.
    """
    verdict = JudgedPair(run=run, candidate=_judged(candidate), in_use=_judged(in_use))
    arrays = arrays_of(CANDIDATE, _ranking(candidate)) | arrays_of(IN_USE, _ranking(in_use))
    return verdict, arrays if rows is None else arrays | {ROWS: rows}


def _judged(model: GlobalModel) -> JudgedModel:
    header = model.header
    return JudgedModel(algorithm=header.algorithm, settings=header.settings, facts=header.facts, model=model.hash)


def _ranking(model: GlobalModel) -> State:
    """The arrays that a list is made with."""
    return {name: array for name, array in model.state.items() if name not in model.algorithm.training_only}


def least_loss(*, mu: float, devices: int) -> float:
    """By how much of so many devices more must lose than win before a verdict of this mu can call a model worse."""
    noise = 1.0 / (mu * math.sqrt(BLOCKS[VOTES]))
    return TOLERATED + DOUBT * math.sqrt(devices + 2 * noise**2) / devices


def judgement(model: GlobalModel, *, devices: int) -> Judgement:
    """What a released verdict says.

    Args:
        model: the released verdict.
        devices: how many answered, as its release says.

    Raises:
        InputError: the model isn't a released verdict.
    """
    algorithm = model.algorithm
    if model.header.algorithm != NAME or model.header.releases != 1 or not isinstance(algorithm, Judging):
        raise InputError(f"`model` must be a released verdict, got {model.header.algorithm!r}")
    state, verdict = model.state, JudgedPair.model_validate(model.header.settings)
    noise = dict(zip(BLOCKS, map(float, state[NOISE]), strict=True))
    won, lost = (float(each) for each in state[VOTES])
    moved = min(max(won + lost, 0.0) + DOUBT * math.sqrt(2) * noise[VOTES], float(devices))
    error = math.sqrt(moved + 2 * noise[VOTES] ** 2) / devices
    found, shown = state[FOUND].astype(np.float64), state[SHOWN].astype(np.float64)
    pushed, least = _pushed(found, shown, noise, devices)
    return Judgement(verdict.run, devices, (lost - won) / devices, error, pushed, least)


def _pushed(
    found: npt.NDArray[np.float64], shown: npt.NDArray[np.float64], noise: dict[str, float], devices: int
) -> tuple[tuple[PushedItem, ...], float]:
    """The items that are pushed, and about the least exposure at which one is seen."""
    exposed = np.flatnonzero(shown > np.maximum(EXPOSED * devices, DOUBT * noise[SHOWN]))
    places = float(shown[exposed].sum())
    each = float(found[exposed].sum()) / places if places > 0 else 0.0
    if each <= 0:
        return (), 1.0
    doubt = math.sqrt(len(exposed)) * math.hypot(noise[FOUND], each * noise[SHOWN]) / places
    share = shown[exposed] / devices
    asked = np.minimum(MOST_BORNE, STEEPNESS * share) * each
    errors = np.sqrt(noise[FOUND] ** 2 + (asked * noise[SHOWN]) ** 2 + (asked / each * shown[exposed] * doubt) ** 2)
    missing = asked * shown[exposed] - found[exposed]
    rows = exposed[missing > DOUBT * errors]
    said = (PushedItem(int(row), float(shown[row] / devices), float(found[row] / shown[row] / each)) for row in rows)
    return tuple(sorted(said, key=lambda item: -item.exposure)), _least(each, noise, devices)


def _least(each: float, noise: dict[str, float], devices: int) -> float:
    """The exposure from which on an item that is found nowhere is missed by no more than `DOUBT` errors."""
    for share in np.geomspace(EXPOSED, 1.0, 60):
        asked = min(MOST_BORNE, STEEPNESS * share) * each
        if asked * share * devices > DOUBT * math.hypot(noise[FOUND], asked * noise[SHOWN]):
            return float(share)
    return 1.0
