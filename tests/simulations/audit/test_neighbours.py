"""Worlds that differ in one user: classes of faults in somebody else's mechanism are found, and right ones pass."""

from __future__ import annotations

import secrets
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from palate_audit import AuditResult, Claim, Contributions, Finding, Released, Section, Verdict
from palate_audit.counted.neighbours import needed, neighbours
from palate_audit.counted.pair import threshold
from palate_audit.counted.sampled import sampling_tests
from palate_audit.evidence.evidence import judge
from palate_audit.evidence.guard import survived
from palate_audit.harness.claim import ReleaseClaim
from palate_audit.harness.trials import Presence, conduct
from palate_audit.harness.worlds import TimeBudget, end, pairs, same, same_noise
from palate_audit.run.mechanism import QUICK, audit_mechanism
from palate_audit.targets.function import Function
from palate_cli.commands.audit.outcome import conclude
from palate_core.errors import InputError, PalateError

Floats = npt.NDArray[np.float64]
SIGMA, DELTA = 2.0, 1e-6


def clip(data: Floats, bound: float = 1.0) -> Floats:
    return np.asarray(data / np.maximum(np.linalg.norm(data, axis=1, keepdims=True) / bound, 1.0))


def noise(data: Floats, rng: np.random.Generator, sigma: float = SIGMA) -> Floats:
    return rng.normal(0.0, sigma, data.shape[1])


def present(data: Floats) -> int:
    return int((data != 0).any(axis=1).sum())


def plain(data: Floats, rng: np.random.Generator) -> Floats:
    return clip(data).sum(axis=0) + noise(data, rng)


def own_generator(data: Floats) -> Floats:
    return plain(data, np.random.default_rng())


def secret(data: Floats) -> Floats:
    return plain(data, np.random.Generator(np.random.PCG64(secrets.randbits(128))))


def single(data: Floats, rng: np.random.Generator) -> Floats:
    return np.asarray(clip(data.astype(np.float32)).sum(axis=0) + noise(data, rng).astype(np.float32), np.float64)


def mean_of_rows(data: Floats, rng: np.random.Generator) -> Floats:
    return plain(data, rng) / len(data) * len(data)


def by_place(data: Floats, rng: np.random.Generator) -> Floats:
    return (clip(data) * np.linspace(0.5, 1.0, len(data))[:, None]).sum(axis=0) + noise(data, rng)


def layers_of_their_own(data: Floats, rng: np.random.Generator) -> Floats:
    half = data.shape[1] // 2
    parts = [clip(part, np.sqrt(0.5)).sum(axis=0) for part in (data[:, :half], data[:, half:])]
    return np.concatenate(parts) + noise(data, rng)


def louder(data: Floats, rng: np.random.Generator) -> Floats:
    return clip(data).sum(axis=0) + noise(data, rng, 1.3 * SIGMA)


RIGHT = [plain, own_generator, secret, single, mean_of_rows, by_place, layers_of_their_own, louder]


def by_users_with_data(data: Floats, rng: np.random.Generator) -> Floats:
    return clip(data).sum(axis=0) * len(data) / max(1, present(data)) + noise(data, rng)


def all_by_users_with_data(data: Floats, rng: np.random.Generator) -> Floats:
    return plain(data, rng) * len(data) / max(1, present(data))


def silent_when_empty(data: Floats, rng: np.random.Generator) -> Floats:
    return plain(data, rng) if data.any() else np.zeros(data.shape[1])


def layers_claimed_as_one(data: Floats, rng: np.random.Generator) -> Floats:
    half = data.shape[1] // 2
    return np.concatenate([clip(data[:, :half]).sum(axis=0), clip(data[:, half:]).sum(axis=0)]) + noise(data, rng)


def clipped_by_the_median(data: Floats, rng: np.random.Generator) -> Floats:
    lengths = np.linalg.norm(data, axis=1)
    median = np.median(lengths[lengths > 0]) if data.any() else 1.0
    return clip(data, min(1.0, max(float(median), 1e-9))).sum(axis=0) + noise(data, rng)


def noise_by_the_longest(data: Floats, rng: np.random.Generator) -> Floats:
    return clip(data).sum(axis=0) + noise(data, rng, SIGMA * (1 + np.linalg.norm(data, axis=1).max() / 100))


def one_counts_twice(data: Floats, rng: np.random.Generator) -> Floats:
    return plain(data, rng) + clip(data)[len(data) // 3]


def not_a_number_is_short(data: Floats, rng: np.random.Generator) -> Floats:
    lengths = np.linalg.norm(data, axis=1, keepdims=True)
    with np.errstate(all="ignore"):
        return np.nan_to_num(np.where(lengths > 1, data / lengths, data)).sum(axis=0) + noise(data, rng)


def copies_count_squared(data: Floats, rng: np.random.Generator) -> Floats:
    rows, times = np.unique(data, axis=0, return_counts=True)
    return (clip(rows) * (times**2)[:, None]).sum(axis=0) + noise(data, rng)


class Remembers:
    """Adds half of the sum of the run before."""

    def __init__(self) -> None:
        self.last: Any = 0.0

    def __call__(self, data: Floats, rng: np.random.Generator) -> Floats:
        released = plain(data, rng) + 0.5 * self.last
        self.last = clip(data).sum(axis=0)
        return np.asarray(released)


WRONG: list[tuple[Any, str]] = [
    (by_users_with_data, "neighbouring worlds"),
    (all_by_users_with_data, "noise whoever takes part"),
    (silent_when_empty, "noise whoever takes part"),
    (layers_claimed_as_one, "neighbouring worlds"),
    (clipped_by_the_median, "neighbouring worlds"),
    (noise_by_the_longest, "neighbouring worlds"),
    (one_counts_twice, "each user's share"),
    (not_a_number_is_short, "neighbouring worlds"),
    (copies_count_squared, "neighbouring worlds"),
    (Remembers(), "users of the run before"),
]


def looked_at(mechanism: Any, *, size: int = 512, users: int = 64, epsilon: float | None = None) -> dict[str, Finding]:
    """Findings of the neighbouring worlds, by name, with verdicts given together."""
    claim = Claim.gaussian(sensitivity=1.0, sigmas=(SIGMA,), delta=DELTA)
    if epsilon is not None:
        claim = Claim.pair(epsilon=epsilon, delta=DELTA)
    target = Function(mechanism, claim, size, users, seed=1)
    runs = QUICK if epsilon is None else (Presence.HALF,) * 4096
    found = judge(neighbours(conduct(target, runs=runs, seed=3, lenient=True)))
    return {each.test: each for each in found}


def alarms(found: dict[str, Finding]) -> set[str]:
    return {name for name, each in found.items() if each.verdict is Verdict.ALARM}


@pytest.mark.parametrize("mechanism", RIGHT)
def test_a_right_mechanism_raises_no_alarm(mechanism: Any) -> None:
    found = looked_at(mechanism)
    assert alarms(found) == set()
    if mechanism is secret:
        assert found["each user's share and memory"].verdict is Verdict.UNCHECKABLE
    else:
        assert found["neighbouring worlds"].figures["moved"] == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize(("mechanism", "test"), WRONG, ids=lambda each: getattr(each, "__name__", None))
def test_a_class_of_faults_is_found(mechanism: Any, test: str) -> None:
    assert test in alarms(looked_at(mechanism, users=512))


@pytest.mark.parametrize("what", ["raises", "is NaN", "has another size"])
@pytest.mark.parametrize("epsilon", [None, 2.3])
def test_a_round_that_ends_otherwise_where_nobody_takes_part_is_found(what: str, epsilon: float | None) -> None:
    def mechanism(data: Floats, rng: np.random.Generator) -> Floats:
        if data.any():
            return plain(data, rng)
        if what == "raises":
            raise ZeroDivisionError("nobody\nis here")
        return np.full(data.shape[1], np.nan) if what == "is NaN" else np.zeros(0)

    found = looked_at(mechanism, size=64, users=16, epsilon=epsilon)["nobody takes part"]
    assert found.verdict is Verdict.ALARM
    assert "\n" not in found.said


@pytest.mark.parametrize("mechanism", [by_users_with_data, silent_when_empty, all_by_users_with_data])
def test_epsilon_alone_is_enough_for_gross_faults(mechanism: Any) -> None:
    assert "neighbouring worlds" in alarms(looked_at(mechanism, size=128, users=64, epsilon=2.3))


def test_a_right_mechanism_passes_where_epsilon_is_all_that_is_claimed() -> None:
    assert alarms(looked_at(plain, size=64, users=64, epsilon=2.3)) == set()


class TwoRounds:
    """The second release follows from the first: users then contribute something else, and that is no fault."""

    name, dimension, blocks, users, repeatable = "two rounds", 256, (256,), 32, False
    claim = Claim.gaussian(sensitivity=1.0, sigmas=(SIGMA, SIGMA), delta=DELTA)
    second = 1.0

    def run(self, contributions: Contributions, *, seed: int | None = None) -> Released:
        rng, rows = np.random.default_rng(), contributions.dense()
        first = clip(rows).sum(axis=0) + rng.normal(0.0, SIGMA, 256)
        again = clip(rows * np.sign(first), self.second)
        return Released((first, again.sum(axis=0) + rng.normal(0.0, SIGMA, 256)))


def test_later_releases_may_follow_from_earlier_ones() -> None:
    found = {each.test: each for each in judge(neighbours(conduct(TwoRounds(), runs=QUICK, seed=3)))}
    assert found["neighbouring worlds"].verdict is Verdict.PASS
    assert found["later releases"].verdict is Verdict.UNCHECKABLE


class Learns:
    """Federated averaging: what clients send follows from the model, which is the sum of former releases."""

    name, dimension, blocks, users, repeatable = "learns", 2000, (2000,), 200, False
    claim = Claim.gaussian(sensitivity=1 / 200, sigmas=(1.2 / 200,) * 4, delta=DELTA)

    def __init__(self, pull: float = -0.5, *, hidden: bool = False, reused: float = 0.0) -> None:
        self.pull, self.hidden, self.reused = pull, hidden, reused

    def run(self, contributions: Contributions, *, seed: int | None = None) -> Released:
        rng = np.random.Generator(np.random.PCG64(secrets.randbits(128))) if self.hidden else np.random.default_rng()
        rows = contributions.dense()
        there, model = rows.any(axis=1), np.zeros(self.dimension)
        released: list[Floats] = []
        noises: list[Floats] = []
        for _ in self.claim.releases:
            total = (clip(rows + self.pull * model) * there[:, None]).sum(axis=0)
            fresh = rng.normal(0.0, 1.2, self.dimension)
            noises.append(self.reused * noises[-1] + np.sqrt(1 - self.reused**2) * fresh if noises else fresh)
            released.append((total + noises[-1]) / self.users)
            model = model + released[-1]
        return Released(tuple(released))


@pytest.mark.parametrize("pull", [-0.5, 1.0])
@pytest.mark.parametrize("hidden", [False, True])
def test_releases_that_follow_from_former_ones_correlate_and_that_is_no_alarm(pull: float, hidden: bool) -> None:
    section = audit_mechanism(Learns(pull, hidden=hidden), seed=1)
    assert section.alarms == ()
    found = {each.test: each for each in section.findings}
    across = found["correlation across releases"]
    assert across.verdict is Verdict.UNCHECKABLE
    assert "follow from former releases" in across.said
    assert ("can't be seen" in across.said) == hidden
    assert found["noise beside former releases"].verdict is Verdict.PASS


@pytest.mark.parametrize("hidden", [False, True])
def test_noise_that_was_used_again_shows_where_releases_follow_from_each_other(hidden: bool) -> None:
    section = audit_mechanism(Learns(hidden=hidden, reused=0.6), seed=1)
    assert "noise beside former releases" in {each.test for each in section.alarms}


class Drawn:
    """Six sums of users who are drawn in secret."""

    name, dimension, blocks, users, repeatable = "drawn", 2400, (2400,), 600, False
    claim = Claim(
        epsilon=9.5, delta=DELTA, releases=(ReleaseClaim(sensitivity=1.0, sigma=0.8),) * 6, mu=None, sampling=0.3,
        adjacency="add or remove",
    )  # fmt: skip

    def __init__(self, how: str, pull: float = 0.0, seed: int = 3) -> None:
        self.how, self.pull, self.rng = how, pull, np.random.default_rng(seed)

    def run(self, contributions: Contributions, *, seed: int | None = None) -> Released:
        rng, rows = self.rng, contributions.dense()
        there, model = rows.any(axis=1), np.zeros(self.dimension)
        batch = rng.random(self.users) < 0.3
        released = []
        for _ in self.claim.releases:
            if self.how != "one sample":
                batch = rng.random(self.users) < (0.6 if self.how == "twice as often" else 0.3)
            if self.how == "one coin":
                batch = np.full(self.users, rng.random() < 0.3)
            if self.how == "less often":
                batch = rng.random(self.users) < 0.1
            total = clip(rows + self.pull * model)[batch & there].sum(axis=0)
            released.append(total + rng.normal(0.0, 0.8, self.dimension))
            model = model + released[-1] / self.users
        return Released(tuple(released))


def drawn(how: str, pull: float = 0.0, seed: int = 3) -> dict[str, Finding]:
    found = judge(sampling_tests(conduct(Drawn(how, pull, seed), runs=QUICK, seed=seed)))
    return {each.test: each for each in found}


@pytest.mark.parametrize("how", ["as claimed", "less often"])
@pytest.mark.parametrize("pull", [0.0, 1.0, -3.0])
def test_hidden_sampling_as_claimed_raises_no_alarm_and_says_what_would_have_shown(how: str, pull: float) -> None:
    found = drawn(how, pull)
    assert alarms(found) == set()
    assert "would show" in found["rate of the sampling"].said
    assert found["rate of the sampling"].figures["rate"] < 0.36


@pytest.mark.parametrize(
    ("how", "test"),
    [
        ("twice as often", "rate of the sampling"),
        ("one sample", "each step's own sampling"),
        ("one coin", "each user's own sampling"),
    ],
)
def test_hidden_sampling_other_than_claimed_is_found(how: str, test: str) -> None:
    assert test in alarms(drawn(how))


def test_p_values_of_hidden_sampling_are_none_too_small() -> None:
    found = [drawn("as claimed", seed=seed) for seed in range(30)]
    for test in drawn("as claimed"):
        least = min(p_value for each in found if (p_value := each[test].p_value) is not None)
        assert 1e-4 < least < 0.3


def test_without_a_claimed_sampling_there_is_nothing_to_test() -> None:
    assert sampling_tests(conduct(TwoRounds(), runs=QUICK, seed=3)) == []
    found = sampling_tests(conduct(Drawn("as claimed"), runs=(Presence.NONE,), seed=3))
    assert [each.verdict for each in found] == [Verdict.UNCHECKABLE] * 3


def test_noise_of_any_size_is_no_memory() -> None:
    found = looked_at(all_by_users_with_data, users=512)
    assert found["users of the run before"].verdict is Verdict.PASS
    assert found["memory between runs"].verdict is Verdict.PASS


def test_the_same_noise_comes_from_every_usual_generator_and_they_go_on_afterwards() -> None:
    before = np.random.get_state()[1].copy()  # type: ignore[index]
    with same_noise(7):
        one = (np.random.normal(), np.random.default_rng().normal())
    with same_noise(7):
        assert one == (np.random.normal(), np.random.default_rng().normal())
    assert (np.random.get_state()[1] == before).all()  # type: ignore[index]
    assert np.random.default_rng().normal() != np.random.default_rng().normal()


def test_draws_that_depend_on_data_are_told_apart() -> None:
    def draws_more(data: Floats, rng: np.random.Generator) -> Floats:
        rng.normal(size=present(data))
        return plain(data, rng)

    target = Function(draws_more, Claim.gaussian(sensitivity=1.0, sigmas=(SIGMA,), delta=DELTA), 64, 4)
    pair = pairs(Contributions.of(np.eye(4, 64) * 2))[0]
    one, other = end(target, pair.without, seed=1), end(target, pair.within, seed=1)
    assert one.draws != other.draws
    assert same(one, end(target, pair.without, seed=1))
    assert "which random numbers are drawn" in looked_at(draws_more)["some worlds"].said


def test_a_refusal_of_rows_that_the_auditor_made_up_is_no_alarm() -> None:
    def careful(data: Floats, rng: np.random.Generator) -> Floats:
        if not np.abs(data).max(initial=0.0) < 100:
            raise ValueError("rows must be small")
        return plain(data, rng)

    found = looked_at(careful)
    assert alarms(found) == set()
    assert "rows must be small" in found["rows that it doesn't take"].said


def test_numbers_beside_a_nan_may_not_move_further_than_is_claimed() -> None:
    def compares(data: Floats, rng: np.random.Generator) -> Floats:
        lengths = np.linalg.norm(data, axis=1, keepdims=True)
        return np.asarray(
            (data * np.where(lengths > 1, 1 / np.maximum(lengths, 1), 1.0)).sum(axis=0) + noise(data, rng)
        )

    assert "rows that are no numbers" in alarms(looked_at(compares))
    assert "noise follows from data" in looked_at(noise_by_the_longest)["each user's share"].said


def test_a_deadline_keeps_what_was_made() -> None:
    target = Function(plain, Claim.pair(epsilon=2.3, delta=DELTA), 16, 16)
    told: list[int] = []
    trials = conduct(target, runs=(Presence.HALF,) * 99, seed=1, deadline=TimeBudget.after(0), tell=told.append)
    assert (len(trials.runs), sum(told)) == (1, 1)
    found = neighbours(conduct(target, runs=(Presence.HALF,) * 512, seed=1), deadline=TimeBudget.after(0))
    assert "no time was left" in next(each.said for each in found if each.test == "some worlds")
    assert TimeBudget().left == np.inf


def test_a_slow_mechanism_ends_within_its_budget_and_says_what_would_have_shown() -> None:
    section = audit_mechanism(Function(plain, Claim.pair(epsilon=2.3, delta=DELTA), 64, 64), seed=1, budget=1.0)
    assert section.alarms == ()
    assert "runs would show" in section.series["facts"]["would_show"]


def test_with_no_time_left_nothing_more_is_said_than_was_looked_at() -> None:
    def said(claim: Claim, test: str) -> Verdict:
        section = audit_mechanism(Function(plain, claim, 64, 64), seed=1, budget=1e-9)
        assert section.alarms == ()
        return next(each.verdict for each in section.findings if each.test == test)

    assert said(Claim.pair(epsilon=2.3, delta=DELTA), "users of the run before") is Verdict.UNCHECKABLE
    known = Claim.gaussian(sensitivity=1.0, sigmas=(SIGMA,), delta=DELTA)
    assert said(known, "nobody takes part") is Verdict.UNCHECKABLE


def test_runs_that_fail_later_are_kept_apart() -> None:
    calls = iter(range(100))

    def sometimes(data: Floats, rng: np.random.Generator) -> Floats:
        if next(calls) % 10 == 5:
            raise RuntimeError("once in a while")
        return plain(data, rng)

    target = Function(sometimes, Claim.pair(epsilon=2.3, delta=DELTA), 16, 16)
    trials = conduct(target, runs=(Presence.HALF,) * 20, seed=1, lenient=True)
    assert (len(trials.runs), len(trials.faults)) == (18, 2)
    assert trials.faults[0][1] == "raised RuntimeError: once in a while"
    calls = iter([5])
    with pytest.raises(InputError, match="sometimes raised RuntimeError: once in a while"):
        conduct(target, runs=(Presence.HALF,), seed=1, lenient=True)


def test_a_rule_is_chosen_where_its_bound_is_largest() -> None:
    rng = np.random.default_rng(1)
    cut, bound = threshold(rng.normal(6.0, 1.0, 4000), rng.normal(0.0, 1.0, 4000), DELTA)
    assert 1.0 < cut < 5.0
    assert bound > 2
    assert needed(2.3, DELTA) < needed(5.0, DELTA)


def test_a_test_that_breaks_is_an_alarm_and_one_that_cannot_run_is_no_pass() -> None:
    def breaks() -> list[Finding]:
        raise KeyError("lost\nit")

    def lacks() -> list[Finding]:
        raise OSError("no fork here")

    [broken], [theirs] = survived("odd", breaks), survived("odd", lambda: [][1], ours=False)
    assert (broken.verdict, broken.said) == (Verdict.ALARM, "it ended with KeyError: 'lost\\nit'")
    assert theirs.verdict is Verdict.UNCHECKABLE
    passed = Finding.checked("works", True, "it does")
    for ours in (True, False):
        section = Section("mechanism", "x", (passed, *survived("odd", lacks, ours=ours)))
        assert [each.said for each in section.broken] == ["it could not run: OSError: no fork here"]
        assert AuditResult((section,), 1).verdict is Verdict.UNCHECKABLE
        with pytest.raises(PalateError, match="every test of an audit must run: odd: it could not run") as caught:
            conclude([section], out=None, as_json=True)
        assert caught.value.exit_code == 1
    assert AuditResult((Section("mechanism", "x", (passed, theirs)),), 1).verdict is Verdict.PASS


def test_steps_are_told() -> None:
    seen: list[Any] = []
    target = Function(plain, Claim.pair(epsilon=2.3, delta=DELTA), 16, 16)
    audit_mechanism(target, seed=1, pairs=64, notify=seen.append)
    assert {event["step"] for event in seen} == {"runs of the mechanism", "neighbouring worlds"}


def test_rows_that_are_no_numbers_have_a_direction() -> None:
    """A score that is NaN would be on no side of any threshold, and look like a perfect rule."""

    def votes(data: Floats, rng: np.random.Generator) -> Floats:
        return np.sign(np.nan_to_num(data)).sum(axis=0) * 0 + rng.laplace(0.0, 1.0, data.shape[1])

    for pair in pairs(Contributions.of(np.eye(8, 32) * 2)):
        assert np.isfinite(pair.direction[1]).all()
    assert alarms(looked_at(votes, size=32, users=16, epsilon=1.0)) == set()
