"""Verdict: what devices are asked about a model that isn't published yet, and what their released votes say of it.

    candidate, model in use -> JudgedPair, arrays of both -> a run of `verdict`
    GlobalModel of `verdict` (noised sums) -> Judgement: is it worse, and which items are shown that nobody has

A model is held for three reasons. All are looked for in released numbers alone, so that looking costs no privacy.

**Worse.** L of the devices gain more in their lists by the model in use, W by the candidate: the sum of
1 / log2(rank + 1) of the items that they hid, or their number where everybody's list is the same
(`palate_common.algorithms.verdict`). It is worse if L - W is above `TOLERATED` of those who answered and `DOUBT`
standard errors: sqrt(L + W) by sampling (a paired sign test), and the noise of both. Two honest models of the same
people differ, too: their noise is another, and what follows from it, such as the weight that a vote chooses. They
differ by less than `TOLERATED`: see there.

By gain, and not by the number of finds: an item that is pushed to the top of a list takes the place of its last item,
which few have hidden, and moves all that they have down by one. Where a twentieth of the devices push an item, 53 % of
100,000 made users more lose than win, and 10 % by number; 29 and 12 % on MovieLens 1M, 21 and 6 % on Online Retail.

**Pushed.** Items in `EXPOSED` of all lists or more are looked at. Such an item, in a share e, must be found there at
least k(e) = min(0.45, 0.2 + e) as often as is usual. With F its `found` and E its `shown` an item is found F / E of
the times, and p is the median of that over all places in lists: half of the places that are looked at have items that
are found so often or less. It is pushed if

    k(e) p E - F  >  DOUBT sqrt(noise_F^2 + (k p noise_E)^2 + (k E error_p)^2)

The median, and not sum F / sum E: where everybody's list is the same and interest falls as one by rank, the first of
twenty items are found several times as often as the last, and lift the sum; the median is of the items in the middle.
Where lists are people's own, the two are the same. A comparison with items in the same places of lists was measured,
and isn't made: what is often in the first places is found there less than the mean of those places, so that honest
items come closer to the limit by it.

**Barren.** Where p is so small that an item wouldn't be called pushed that is in all lists and that nobody finds, a
verdict can't speak for what is in them. The model is held for that: its lists are destroyed, or attackers' votes took
what was found in them. Where even the p of honest models, `USUAL`, would be too small, no verdict is held: `hidden`.

error_p is what another draw of the known noise makes of the median (a parametric bootstrap, of the same draw always).

**False alarms.** A model that is worse by less than `TOLERATED` is called worse with probability 3 in 10^7 (`DOUBT` = 5
standard errors), an item that is found k(e) as often is called pushed with the same. At most 20 / `EXPOSED` = 400 items
are looked at, noise aside: together 1.2 in 10^4, if each is at its limit. On the logs of docs/benchmarks.md#poisoning
no item of an honest model is below 1.2 k(e), and none below k(e) where everybody's list is the same. A model with a p
of `USUAL` and items in ever fewer lists is practically never called barren: 0 times of 1,000 where `hidden` is at its
limit.

**What can be seen.** The noise of F is 1 / (mu sqrt(1 / 2)). Of n devices, an item that nobody has is seen from the e
on for which k(e) p e n is 5 times that: `Judgement.least`.

**What hides.** Modified devices that clip, and are a share a of all, move L - W by 2.6 a n at most: their whole norm in
both numbers. So a model is held whatever they vote where more than `TOLERATED` + 2.6 a, and the error, of all devices
lose by it: 22 % for a twentieth, where nothing of their norm is left for the items. Or they bear an item: with a share
x of their squared norm they move its F by 1.4 sqrt(x) a n, and with the rest its E by 10 sqrt(1 - x) a n, so that it is
seen in a share e' = e - 10 sqrt(1 - x) a. That hides it up to the e for which k(e') p e' = 1.4 sqrt(x) a for the best
x: about k(e) p e = a sqrt(2 + 100 k^2 p^2), or 1.5 a where p is a tenth. Or they lower p: finds must be taken from half
of the places. Of m items that are alike each loses 1.4 a n / sqrt(m / 2) at most, and has 20 n / m places: p falls by a
sqrt(m) / 10, which is a where a hundred items are looked at, and each part of their norm that does this is missing in
F. With a smaller p noise hides more, and with one that is too small the model is barren.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from palate_common.algorithms import State
from palate_common.algorithms.als.vote import LIST
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
from palate_common.models.model import GlobalModel
from palate_core.errors import InputError

DOUBT = 5.0
"""Standard errors beyond which something is no chance."""
TOLERATED = 0.09
"""By so much of the devices more may lose than win: more than two honest models differ (docs/benchmarks.md#poisoning).
Where the noise has a vote of `als` choose another weight for its pairs, 4.1 to 7.1 % of 20,000 made users more lose
than win, and 1 % of what they gain (of two models that differ in that weight alone, 9.2 to 10.4 %); beside that the
standard deviation is 2 to 4 %, with sampling."""
EXPOSED = 0.05
"""The least share of lists from which on an item is looked at."""
LEAST_BORNE, MOST_BORNE = 0.2, 0.45
"""How often an exposed item must be found beside the usual: so much and its share of the lists, and at most so much."""
USUAL, ALIKE = 0.09, 100
"""How often items in honest lists are found, and about how many are looked at: by the least medians that were measured,
and of between 83 and 135."""
DRAWS = 100
"""Draws of the noise by which the error of a median is found."""


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
        barren: whether so little that is shown is found that not even an item in all lists could be called pushed.
    """

    run: str
    devices: int
    lost: float
    error: float
    pushed: tuple[PushedItem, ...]
    least: float
    barren: bool = False

    @property
    def held(self) -> bool:
        """Whether anything speaks against the candidate."""
        return self.worse or self.barren or bool(self.pushed)

    @property
    def worse(self) -> bool:
        """Whether the candidate is worse than the model in use, beyond the error bar."""
        return self.lost > TOLERATED + DOUBT * self.error

    def reasons(self, items: tuple[str, ...]) -> list[str]:
        """Why the model may not be published, in words; empty: it may.

        Args:
            items: the catalogue that was judged; (): nobody has it any more.
        """
        said = []
        if self.worse:
            said.append(
                f"devices judge it worse than the model in use: {self.lost:.1%} more of them lose than win, "
                f"with an error of {self.error:.1%}"
            )
        if self.barren:
            said.append("devices find hardly anything of what they hid in their lists, so that nothing bears them out")
        for each in self.pushed:
            name = f"{items[each.row]!r:.80}" if items else f"the item of row {each.row} (`items` has changed since)"
            said.append(f"devices have {name} in {each.exposure:.0%} of their lists and hardly among what they hid")
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


def hidden(*, mu: float, devices: int, n_items: int) -> str:
    """What the noise of a verdict of this mu would hide of so many devices, in words; empty: it tells something."""
    if least_loss(mu=mu, devices=devices) >= 1:
        return "the noise would hide even that all of them lose"
    length = min(LIST, n_items)
    noise = {name: 1.0 / (mu * math.sqrt(part)) for name, part in BLOCKS.items()}
    noise[SHOWN] *= math.sqrt(length)
    rows = np.arange(min(ALIKE, n_items))
    shown = np.full(len(rows), length * devices / len(rows))
    each = math.hypot(noise[FOUND], USUAL * noise[SHOWN]) / shown[0]
    error = math.sqrt(math.pi / 2 / len(rows)) * each  # of the median of so many
    if _Exposed(rows, USUAL * shown, shown, USUAL - DOUBT * error, error, noise, devices).barren:
        return "the noise would hide whether what is in their lists is found there"
    return ""


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
    exposed = _Exposed.of(found, shown, noise, devices)
    return Judgement(
        verdict.run, devices, (lost - won) / devices, error, exposed.pushed(), exposed.least(), exposed.barren
    )


@dataclass(frozen=True)
class _Exposed:
    """The items in many lists, and how often such items are found.

    Attributes:
        rows: their rows in the catalogue.
        found: of each, float64.
        shown: of each, in lists, float64.
        usual: the median of `found / shown` over places in lists; 0 without any.
        error: one standard error of it, by the noise.
        noise: of each block.
        devices: that answered.
    """

    rows: npt.NDArray[np.int64]
    found: npt.NDArray[np.float64]
    shown: npt.NDArray[np.float64]
    usual: float
    error: float
    noise: dict[str, float]
    devices: int

    @classmethod
    def of(
        cls,
        found: npt.NDArray[np.float64],
        shown: npt.NDArray[np.float64],
        noise: dict[str, float],
        devices: int,
    ) -> _Exposed:
        """Of all items' sums."""
        rows = np.flatnonzero(shown > np.maximum(EXPOSED * devices, DOUBT * noise[SHOWN]))
        found, shown = found[rows], shown[rows]
        if not len(rows):
            return cls(rows, found, shown, 0.0, 0.0, noise, devices)
        rng, size = np.random.default_rng(0), (DRAWS, len(rows))
        finds = found + noise[FOUND] * rng.standard_normal(size)
        places = np.maximum(shown + noise[SHOWN] * rng.standard_normal(size), noise[SHOWN])
        usual, error = _medians(found[None], shown[None])[0], np.std(_medians(finds, places))
        return cls(rows, found, shown, float(usual), float(error), noise, devices)

    @property
    def barren(self) -> bool:
        """Whether not even an item could be called pushed that is in all lists and that nobody finds."""
        return bool(len(self.rows)) and not self._missed(np.ones(1), np.zeros(1))[0]

    def pushed(self) -> tuple[PushedItem, ...]:
        """The items that are found too rarely, the most exposed first."""
        if self.usual <= 0:
            return ()
        share, beside = self.shown / self.devices, self.found / self.shown / self.usual
        rows = np.flatnonzero(self._missed(share, self.found))
        said = [PushedItem(int(self.rows[each]), float(share[each]), float(beside[each])) for each in rows]
        return tuple(sorted(said, key=lambda item: -item.exposure))

    def least(self) -> float:
        """The exposure from which on an item that is found nowhere is called pushed; 1 without any."""
        shares = np.geomspace(EXPOSED, 1.0, 60)
        seen = np.flatnonzero(self._missed(shares, np.zeros(60)))
        return float(shares[seen[0]]) if len(seen) else 1.0

    def _missed(self, share: npt.NDArray[np.float64], found: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Whether items in such shares of the lists should be found more often, beyond the noise."""
        shown, borne = share * self.devices, np.minimum(MOST_BORNE, LEAST_BORNE + share)
        asked = borne * self.usual
        unsure = np.square(asked * self.noise[SHOWN]) + np.square(borne * shown * self.error)
        missed = asked * shown - found > DOUBT * np.sqrt(self.noise[FOUND] ** 2 + unsure)
        return np.asarray(missed & (self.usual > 0))


def _medians(found: npt.NDArray[np.float64], shown: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The median of each row's `found / shown` over places in lists: an item counts as often as it is shown."""
    ratios = found / shown
    order = np.argsort(ratios, axis=1)
    places = np.cumsum(np.take_along_axis(shown, order, 1), axis=1)
    middle = np.argmax(places >= places[:, -1:] / 2, axis=1)[:, None]
    found_there = np.take_along_axis(ratios, np.take_along_axis(order, middle, 1), 1)
    return np.asarray(found_there[:, 0])
