"""One object a mode: what follows from who adds the noise."""

import math
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plans import make_plan

from palate_core.cohort_terms import RESERVED_DELTA, CohortTerms, modulus_bits, share_sigma
from palate_core.errors import InputError
from palate_core.plan import RoundPlan
from palate_core.privacy_mode import CENTRAL, DISTRIBUTED, LOCAL, MODES, OFF, DpMode, PrivacyMode, mode_of

COHORT = CohortTerms(n_max=100, n_min=90, c_max=10, masks=False)


def test_each_name_has_one_object_and_each_object_one_name() -> None:
    assert set(MODES) == set(DpMode)
    for name in DpMode:
        assert mode_of(name) is mode_of(name.value) is MODES[name]
        assert MODES[name].name is name


@pytest.mark.parametrize("name", ["", "none", "Central", "LOCAL", "off ", "central\n"])
def test_an_unknown_mode_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="`dp` must be distributed, local, central, off, got"):
        mode_of(name)
    with pytest.raises(ValueError, match="dp"):
        make_plan(dp=name)


def test_nobody_changes_a_mode() -> None:
    with pytest.raises(FrozenInstanceError):
        OFF.private = True  # type: ignore[misc] # that it can't be set is the test


@pytest.mark.parametrize(
    ("mode", "facts"),
    [
        (DISTRIBUTED, {"private": True, "noised_by_devices": True, "cohort": True, "alone": False}),
        (LOCAL, {"private": True, "noised_by_devices": True, "cohort": False, "alone": True}),
        (CENTRAL, {"private": True, "noised_by_devices": False, "cohort": False, "alone": False}),
        (OFF, {"private": False, "noised_by_devices": False, "cohort": False, "alone": False}),
    ],
)
def test_who_adds_the_noise(mode: PrivacyMode, facts: dict[str, bool]) -> None:
    assert {name: getattr(mode, name) for name in facts} == facts
    assert mode.trusts_server == (mode is CENTRAL)


@given(st.integers(1, 2**20), st.integers(1, 1000))
def test_what_a_device_adds_and_a_release_holds(sigma: int, users: int) -> None:
    share = share_sigma(sigma=sigma, shares=80)
    for mode, cohort, device, released in (
        (DISTRIBUTED, COHORT, share, math.sqrt(users) * share),
        (LOCAL, None, sigma, math.sqrt(users) * sigma),
        (CENTRAL, None, 0, sigma),
        (OFF, None, 0, 0),
    ):
        assert mode.device_sigma(sigma=sigma, cohort=cohort) == device
        assert mode.released_sigma(users, sigma=sigma, cohort=cohort) == released


def test_shares_of_an_unknown_cohort_are_refused_and_never_nothing() -> None:
    """A plan is checked when it is read; a copy with another mode isn't."""
    copied = make_plan().model_copy(update={"dp": DpMode.DISTRIBUTED})
    for use in (lambda: copied.share_sigma, lambda: copied.bits(1), lambda: copied.mu2_alone):
        with pytest.raises(InputError, match="share the noise, got no cohort"):
            use()


def test_bits_are_those_of_the_largest_sum() -> None:
    sizes = {"grid": 2**14, "sigma": 2**16}
    share = share_sigma(sigma=2**16, shares=80)
    assert DISTRIBUTED.bits(1, cohort=COHORT, **sizes) == modulus_bits(n_max=100, grid=2**14, share=share)
    assert LOCAL.bits(7, cohort=None, **sizes) == modulus_bits(n_max=7, grid=2**14, share=2**16)


def test_what_of_delta_is_kept() -> None:
    for inclusion in (None, 1.0):
        assert [mode.reserved_delta(inclusion) for mode in MODES.values()] == [RESERVED_DELTA, 0.0, 0.0, 0.0]
    assert LOCAL.reserved_delta(0.5) == RESERVED_DELTA


@pytest.mark.parametrize(
    ("mode", "cohort", "events", "said"),
    [
        (DISTRIBUTED, None, None, "a cohort is given with dp distributed, and only then"),
        (LOCAL, COHORT, None, "a cohort is given"),
        (CENTRAL, COHORT, None, "a cohort is given"),
        (OFF, COHORT, None, "a cohort is given"),
        (DISTRIBUTED, COHORT, 0.5, "the unit may be one event with dp local only"),
        (CENTRAL, None, 1.0, "the unit may be one event"),
        (OFF, None, 1.0, "the unit may be one event"),
    ],
)
def test_a_cohort_and_single_events_come_with_their_mode_only(
    mode: PrivacyMode, cohort: CohortTerms | None, events: Any, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        mode.check(cohort, events, cohort_floor=1)
    LOCAL.check(None, 0.5, cohort_floor=1)
    DISTRIBUTED.check(COHORT, None, cohort_floor=COHORT.n_min)


def test_no_plan_lets_a_sum_be_opened_of_fewer_devices_than_its_floor() -> None:
    """Under masks a sum is opened with n_min devices: a floor above it would be promised, and not kept."""
    plan = make_plan(dp=DpMode.DISTRIBUTED, cohort=COHORT, cohort_floor=COHORT.n_min)
    assert plan.least == COHORT.n_min
    with pytest.raises(ValueError, match=f"at most n_min of the cohort, {COHORT.n_min}, got {COHORT.n_min + 1}"):
        make_plan(dp=DpMode.DISTRIBUTED, cohort=COHORT, cohort_floor=COHORT.n_min + 1)
    for mode in (LOCAL, CENTRAL):
        mode.check(None, None, cohort_floor=10**6)


def test_the_name_is_what_travels() -> None:
    plan = make_plan()
    assert plan.model_dump(mode="json")["dp"] == "central"
    assert "mode" not in plan.model_dump(mode="json")
    assert RoundPlan.model_validate(plan.model_dump(mode="json")).mode is CENTRAL
