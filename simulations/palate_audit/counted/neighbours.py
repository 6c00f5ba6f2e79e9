"""Neighbours: somebody else's mechanism in worlds that differ in one user.

`palate_audit.harness.worlds` has the worlds: a user beside nobody, beside a few, beside all, beside rows of all
lengths; a user whose row is a canary, dense, long, short, a copy of another's, huge, NaN. Divisors that depend on
data, a clip norm that follows a median, a user who counts twice, noise that grows with a norm, or a round that ends
where nobody takes part: each moves the release by more than one user may, in one of them. How that is measured
depends on what is known:

1. **The same noise.** A mechanism that repeats its noise is run in both worlds with the same, so that the difference
   is exact. It must not be longer than the claimed sensitivity. **Assumes:** both worlds draw the same random
   numbers, which is looked at; and that users contribute to a later release what they contributed to the first, which
   is looked at, too.
2. **Noise of known size.** The difference of one run in each world, along the user's row, along all others', and its
   energy, has a normal or a noncentral chi-square law under the claim.
3. **Epsilon and delta alone.** Many runs in each world. A rule is chosen on some of them and counted on the others.

`palate_audit.counted.presence` compares the ordinary runs, where all, half and none of the canaries take part.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import stats  # type: ignore[import-untyped]  # scipy ships no types

from palate_audit.counted.claims import errors
from palate_audit.counted.pair import threshold
from palate_audit.counted.presence import run_before, whoever_takes_part
from palate_audit.evidence.chance import ALPHA
from palate_audit.evidence.evidence import LEAST_P, Finding
from palate_audit.harness.canaries import Floats
from palate_audit.harness.target import Contributions
from palate_audit.harness.trials import Trials
from palate_audit.harness.worlds import Ending, Pair, TimeBudget, end, pairs, same
from palate_audit.statistics.counting import epsilon_trade_off, refuted

ROOM = 0.01
"""The part of the sensitivity that single precision may add."""
ROUNDED = 1e-6
"""The same, as a part of the release's length."""
FEW_RUNS, MANY_RUNS = 128, 4096
"""Fewest and most runs in each world where epsilon and delta are all that is claimed."""
NEIGHBOURS, NAMED = "neighbouring worlds", 3
SHARE, MEMORY = "each user's share", "memory between runs"
IDLE, REFUSED, ODD = "nobody takes part", "rows that it doesn't take", "rows that are no numbers"
LATER, UNSEEN = "later releases", f"{SHARE} and memory"
SEED = 0x5EED

Notify = Callable[[int], None]


@dataclass
class Lab:
    """Runs of one mechanism in many worlds.

    Attributes:
        trials: its ordinary runs.
        deadline: when to stop.
        seeded: whether runs repeat their noise.
        tell: called after each run with 1.
    """

    trials: Trials
    deadline: TimeBudget
    tell: Notify = lambda _: None
    seeded: bool = False
    _known: dict[tuple[int, bytes], Ending] = field(default_factory=dict)

    def end(self, rows: Contributions, *, seed: int = SEED, again: bool = False) -> Ending:
        """How a run ends; one that was made with the same noise isn't made again."""
        key = (seed, rows.indptr.tobytes() + rows.indices.tobytes() + rows.values.tobytes())
        if again or key not in self._known:
            self._known[key] = end(self.trials.target, rows, seed=seed if self.seeded else None)
            self.tell(1)
        return self._known[key]


def neighbours(trials: Trials, *, deadline: TimeBudget | None = None, tell: Notify = lambda _: None) -> list[Finding]:
    """All tests of this module; without verdicts yet.

    Args:
        trials: the ordinary runs.
        deadline: when to stop; worlds that weren't reached are not checkable.
        tell: called after each run with 1.
    """
    lab = Lab(trials, deadline or TimeBudget(), tell)
    if not trials.claim.releases:
        return [run_before(trials), *_counted_worlds(lab)]
    lab.seeded = _repeats(lab)
    steady = steady_releases(lab)
    found = [*whoever_takes_part(trials, steady), run_before(trials)]
    return [*found, *(_same_noise(lab) if lab.seeded else _known_noise(lab))]


def steady_releases(lab: Lab) -> int | None:
    """How many releases, from the first on, have sums that don't follow from former ones; None: that can't be seen."""
    releases, rows = len(lab.trials.claim.releases), lab.trials.canaries.rows
    if releases == 1:
        return 1
    return _steady(lab, rows.only(np.zeros(rows.n_users, np.bool_)), rows) if lab.seeded else None


def _repeats(lab: Lab) -> bool:
    """Whether the mechanism, asked to, makes the same noise twice."""
    target, rows = lab.trials.target, lab.trials.canaries.rows
    one, two = (end(target, rows, seed=SEED) for _ in range(2))
    other = end(target, rows, seed=SEED + 1)
    lab.tell(3)
    return same(one, two) and not same(one, other)


# The same noise in both worlds.


def _same_noise(lab: Lab) -> Iterator[Finding]:
    """Exact differences."""
    trials, rows = lab.trials, lab.trials.canaries.rows
    nobody, all_of_them = rows.only(np.zeros(rows.n_users, np.bool_)), rows
    first = lab.end(all_of_them)
    kept = steady_releases(lab) or 1
    yield _share(lab, nobody, all_of_them, kept)
    worlds = _Worlds()
    for pair in pairs(rows, quantiles=True):
        if lab.deadline.over:
            worlds.late.append(pair.name)
            continue
        one, other = lab.end(pair.without), lab.end(pair.within)
        if pair.kind == "odd" and one.vectors and len(other.partly) == len(one.vectors):
            shown = _shown_beside(lab, one, other, kept)
            if shown > 1:
                worlds.leaks.append(f"{pair.name}: its other numbers move the release by {shown:.3g} sensitivities")
                continue
        if worlds.ended(pair, one, other):
            continue
        if one.draws != other.draws:
            worlds.drawn.append(pair.name)
            continue
        worlds.moved.append((*_moved(lab, one, other, kept), pair.name))
    yield from worlds.findings(_furthest(worlds.moved))
    if kept < len(trials.claim.releases):
        yield Finding.missing(
            LATER,
            f"from release {kept} on, sums follow from what was released before: the first is tested",
            steady=kept,
        )
    # The last run before was another world's: what it left behind would show here.
    later, latest = (lab.end(all_of_them, again=True) for _ in range(2))
    said = "the same users with the same noise give the same release, whatever ran before"
    if same(first, later) and same(first, latest):
        yield Finding.checked(MEMORY, True, said)
    else:
        yield Finding.checked(
            MEMORY, False, "the same users with the same noise release something else after other runs"
        )


def _steady(lab: Lab, nobody: Contributions, everybody: Contributions) -> int:
    """How many releases, from the first on, have sums that don't follow from former releases.

    What users contribute, seen as the difference to nobody's, must then be the same with other noise.
    """
    looks = []
    for seed in (SEED, SEED + 1):
        one, other = lab.end(nobody, seed=seed), lab.end(everybody, seed=seed)
        if one.fault or other.fault or one.draws != other.draws:
            return 1
        looks.append([b - a for a, b in zip(one.vectors, other.vectors, strict=True)])
    scale = lab.trials.claim.releases
    count = 1
    for number in range(1, len(scale)):
        length = max(np.linalg.norm(vector) for vector in lab.end(everybody).vectors)
        room = ROOM * scale[number].sensitivity + ROUNDED * float(length)
        if float(np.linalg.norm(looks[0][number] - looks[1][number])) > room:
            break
        count += 1
    return count


def _share(lab: Lab, nobody: Contributions, everybody: Contributions, kept: int) -> Finding:
    """How much each single canary counts, among all of them."""
    canaries, claim = lab.trials.canaries, lab.trials.claim
    one, other = lab.end(nobody), lab.end(everybody)
    if one.fault or other.fault or one.draws != other.draws:
        return Finding.missing(SHARE, "runs with everybody and with nobody don't draw the same random numbers")
    looks = []
    for number in range(kept):
        moved = other.vectors[number] - one.vectors[number]
        share = (moved[canaries.places] * canaries.signs).sum(axis=1) / math.sqrt(canaries.places.shape[1])
        share = share / claim.releases[number].sensitivity
        most, at = float(share.max()), int(share.argmax())
        looks.append((most - _room(lab, one, other, number) / claim.releases[number].sensitivity, most, at))
    beyond, most, at = max(looks)
    said = f"of {canaries.users:,} users among all others, user {at} counts most, {most:.4g} of the claimed sensitivity"
    moved = other.vectors[0] - one.vectors[0]
    moved[canaries.places.ravel()] = 0.0
    if float(np.linalg.norm(moved)) > _room(lab, one, other, 0):
        said += "; numbers that are nobody's differ, too: noise follows from data"
    return Finding.checked(SHARE, beyond <= 1, said, most=most)


def _room(lab: Lab, one: Ending, other: Ending, number: int) -> float:
    """What rounding may add to a difference."""
    length = max(float(np.linalg.norm(each.vectors[number])) for each in (one, other))
    return ROOM * lab.trials.claim.releases[number].sensitivity + ROUNDED * length


def _moved(lab: Lab, one: Ending, other: Ending, kept: int) -> tuple[float, float]:
    """The longest difference of both runs' releases, in sensitivities: less what rounding may add, and as it is."""
    beyond = most = 0.0
    for number in range(kept):
        apart = float(np.linalg.norm(other.vectors[number] - one.vectors[number]))
        sensitivity = lab.trials.claim.releases[number].sensitivity
        beyond = max(beyond, max(0.0, apart - _room(lab, one, other, number)) / sensitivity)
        most = max(most, apart / sensitivity)
    return beyond, most


def _shown_beside(lab: Lab, one: Ending, other: Ending, kept: int) -> float:
    """How far the finite numbers of a release move that isn't finite everywhere, in sensitivities, less rounding."""
    found = 0.0
    for number in range(kept):
        apart = other.partly[number] - one.vectors[number][: len(other.partly[number])]
        length = float(np.linalg.norm(apart[np.isfinite(apart)]))
        found = max(found, (length - _room(lab, one, one, number)) / lab.trials.claim.releases[number].sensitivity)
    return found


def _furthest(moved: Sequence[tuple[float, float, str]]) -> Finding | None:
    """The pair whose release moves most; None without any."""
    if not moved:
        return None
    beyond, most, name = max(moved)
    said = f"{len(moved)} pairs with the same noise: one user moves a release by "
    if beyond > 1:
        said += f"{most:.4g} times the claimed sensitivity ({name})"
    else:
        said += f"at most {most:.4g} of the claimed sensitivity ({name})"
    return Finding.checked(NEIGHBOURS, beyond <= 1, said, moved=most)


@dataclass
class _Worlds:
    """What pairs of worlds ended with."""

    moved: list[tuple[float, float, str]] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)
    broke: list[str] = field(default_factory=list)
    idle: list[str] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)
    drawn: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    few: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    empty: bool = False

    def ended(self, pair: Pair, one: Ending, other: Ending) -> bool:
        """Whether one of both runs failed, which is kept by what it means."""
        empty = not np.diff(pair.without.indptr).any()
        if not one.fault and not other.fault:
            self.empty |= empty
            return False
        if one.fault and other.fault:
            self.failed.append(f"{pair.name}: {one.fault}")
        elif pair.kind != "usual":
            self.odd.append(f"{pair.name}: {other.fault or one.fault}")
        elif one.fault and empty:
            self.idle.append(f"where nobody takes part it {one.fault}; with one user it doesn't")
        else:
            self.broke.append(
                f"{pair.name}: with the user it {other.fault or 'ends well'}, without {one.fault or 'not'}"
            )
        return True

    def findings(self, measured: Finding | None) -> Iterator[Finding]:
        """One finding for each thing that was looked at."""
        if self.broke:
            yield Finding.checked(NEIGHBOURS, False, self.broke[0])
        if measured is not None:
            yield measured
        if measured is None and not self.broke:
            yield Finding.missing(NEIGHBOURS, "no pair of worlds could be compared")
        if self.idle:
            yield Finding.checked(IDLE, False, self.idle[0])
        elif self.empty and not self.failed:
            yield Finding.checked(IDLE, True, "a run in which nobody takes part ends as any other")
        elif not self.failed:
            yield Finding.missing(IDLE, "no run in which nobody takes part was made")
        if self.leaks:
            yield Finding.checked(ODD, False, self.leaks[0])
        if self.odd:
            yield Finding.missing(
                REFUSED, f"somebody before the mechanism has to keep out: {self.odd[0]}" + _and_more(self.odd)
            )
        for what, names in (
            ("it fails in both worlds", self.failed),
            ("the user changes which random numbers are drawn", self.drawn),
            ("no time was left", self.late),
            ("they take more `runs`", self.few),
        ):
            if names:
                yield Finding.missing("some worlds", f"{what}: {'; '.join(names[:NAMED])}{_and_more(names, NAMED)}")


def _and_more(names: Sequence[str], shown: int = 1) -> str:
    return f" (and {len(names) - shown} more)" if len(names) > shown else ""


# Noise of known size.


def _known_noise(lab: Lab) -> Iterator[Finding]:
    """One run in each world: along the user, along the others, and energy."""
    worlds, looks = _Worlds(), list[tuple[float, str]]()
    later = list[tuple[float, str]]()
    for pair in pairs(lab.trials.canaries.rows):
        if lab.deadline.over:
            worlds.late.append(pair.name)
            continue
        one, other = lab.end(pair.without), lab.end(pair.within)
        if not worlds.ended(pair, one, other):
            for number, p_value, said in _tests(lab, pair, one, other):
                (later if number else looks).append((p_value, f"{pair.name}: {said}"))
    if later and min(later)[0] * (len(looks) + len(later)) > ALPHA:
        looks += later
    elif later:
        why = "whether later sums follow from former releases can't be seen, as its noise can't be repeated"
        yield Finding.missing(LATER, f"{why}: {min(later)[1]}")
    measured = None
    if looks:
        p_value, said = min(looks)
        said = f"{len(looks)} tests; the least likely: {said}"
        measured = Finding.counted(NEIGHBOURS, max(LEAST_P, min(1.0, p_value * len(looks))), said)
    yield from worlds.findings(measured)
    yield Finding.missing(
        UNSEEN,
        "its noise can't be repeated, so that small differences don't show: draw it from `rng`, or take a seed",
    )


def _tests(lab: Lab, pair: Pair, one: Ending, other: Ending) -> Iterator[tuple[int, float, str]]:
    """p-values of a difference, release by release; with hidden sampling a user may also have been left out."""
    indices, values = pair.direction
    rest = np.zeros(pair.within.dimension)
    np.add.at(rest, pair.without.indices, pair.without.values)
    length = float(np.linalg.norm(rest))
    sampled = lab.trials.claim.sampling < 1
    for number, claim in enumerate(lab.trials.claim.releases):
        apart = (other.vectors[number] - one.vectors[number])[: pair.within.dimension] / claim.sigma
        if not sampled or not length:  # other users, sampled anew, move it, too
            energy = float((apart**2).sum()) / 2
            bound = stats.ncx2.sf(energy, len(apart), claim.mu**2 / 2)
            yield (
                number,
                float(np.nan_to_num(bound)),
                f"release {number} moved by {math.sqrt(2 * energy):.3g} of its noise",
            )
        if sampled and length:
            continue
        looks = [("its row", float(apart[indices] @ values))]
        if length > 0:
            looks.append(("the others' rows", float(apart @ rest) / length))
        for name, along in looks:
            p_value = 2 * float(stats.norm.sf((abs(along) - claim.mu) / math.sqrt(2)))
            yield (
                number,
                min(1.0, p_value),
                f"release {number} moved {along / claim.mu:+.3g} sensitivities along {name}",
            )


# Epsilon and delta alone.


def _counted_worlds(lab: Lab) -> Iterator[Finding]:
    """Many runs in each world; a rule is chosen on the first quarter and counted on the rest."""
    trials, claim = lab.trials, lab.trials.claim
    chosen = pairs(trials.canaries.rows)
    worlds, looks = _Worlds(), list[tuple[float, str]]()
    runs = needed(claim.epsilon, claim.delta)
    if runs > MANY_RUNS:
        yield Finding.missing(
            NEIGHBOURS,
            f"at an epsilon of {claim.epsilon:g} it takes {runs:,} runs in each world, more than {MANY_RUNS:,}",
        )
        return
    # Worlds cost about as much as the runs with all canaries.
    afford = max(1, len(trials.runs) // runs)
    worlds.few += [pair.name for pair in chosen[afford:]]
    for pair in chosen[:afford]:
        one, other = lab.end(pair.without, again=True), lab.end(pair.within, again=True)
        if worlds.ended(pair, one, other):
            continue
        found = _features_of(lab, pair, runs)
        if found is None:
            worlds.late.append(pair.name)
            continue
        p_value, said = _rule(*found, claim.epsilon, claim.delta)
        looks.append((p_value, f"{pair.name}: {said}"))
    measured = None
    if looks:
        p_value, said = min(looks)
        measured = Finding.counted(
            NEIGHBOURS,
            max(LEAST_P, min(1.0, p_value * len(looks))),
            f"{len(looks)} pairs, {runs:,} runs in each world; the least likely: {said}",
        )
    yield from worlds.findings(measured)


def needed(epsilon: float, delta: float) -> int:
    """Runs in each world with which a mechanism without noise would be an alarm, with some room."""
    least = math.log(ALPHA / 100) / math.log1p(-(1 - delta) / (1 + math.exp(min(epsilon, 700.0))))
    return max(FEW_RUNS, math.ceil(min(1e12, 2 * least)))


def _features_of(lab: Lab, pair: Pair, runs: int) -> tuple[Floats, Floats] | None:
    """Numbers of each run in either world, [runs, features]; None where no time was left for them."""
    found: tuple[list[Floats], list[Floats]] = ([], [])
    rest = np.zeros(pair.within.dimension)
    np.add.at(rest, pair.without.indices, pair.without.values)
    for number in range(runs):
        if lab.deadline.over:
            return None
        for place, rows in enumerate((pair.without, pair.within)):
            ending = end(lab.trials.target, rows)
            found[place].append(_features(pair, rest, ending))
        if number % 16 == 0:
            lab.tell(0)
    lab.tell(2 * runs)
    return np.stack(found[0]), np.stack(found[1])


def _features(pair: Pair, rest: Floats, ending: Ending) -> Floats:
    """What may tell worlds apart: the user's score, the others', the length, the largest number, and the size."""
    if ending.fault:
        return np.array([0.0, 0.0, 0.0, 0.0, -1.0])
    [vector] = ending.vectors
    flat = vector.ravel()
    indices, values = pair.direction
    score, others = float(flat[indices] @ values), float(flat @ rest)
    return np.array(
        [score, others, float(np.linalg.norm(flat)), float(np.abs(flat).max(initial=0.0)), float(len(flat))]
    )


def _rule(without: Floats, within: Floats, epsilon: float, delta: float) -> tuple[float, str]:
    """Choose the feature and the threshold on a quarter of the runs; count on the others."""
    quarter = max(2, len(without) // 4)
    looks = []
    for number in range(without.shape[1]):
        for sign in (1.0, -1.0):
            high, low = sign * within[:quarter, number], sign * without[:quarter, number]
            cut, bound = threshold(high, low, delta, grow=len(without) / quarter - 1)
            looks.append((bound, number, sign, cut))
    _, number, sign, cut = max(looks)
    counts = errors(sign * within[quarter:, number], sign * without[quarter:, number], cut)
    p_value = refuted(counts, epsilon_trade_off(epsilon, delta))
    return (
        p_value,
        f"missed {counts.misses:,} of {counts.inside:,} with the user, {counts.false:,} false alarms without",
    )
