"""A service of sixty devices that train and judge, for tests: what people have, and what a run is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from palate_common.interactions import Interactions
from palate_core.device.floors import Floors
from palate_server.service.status import unpublished

DEVICES, ITEMS, EPSILON = 60, 12, 60.0
TASTE = tuple(range(6, 12))
"""The items that people have."""


def card(extract: object) -> bytes:
    return b"card"


def histories(*, without: int, extra: tuple[int, ...] = (), items: tuple[int, ...] = TASTE) -> Interactions:
    """Everybody has all items of a taste but some, each others, and `extra`."""
    pairs = [
        (user, item)
        for user in range(DEVICES)
        for place, item in enumerate(items)
        if (place + user) % len(items) >= without
    ]
    pairs += [(user, item) for user in range(DEVICES) for item in extra]
    users, rows = zip(*pairs, strict=True)
    return Interactions.from_pairs(users, rows, n_users=DEVICES, n_items=ITEMS)


HONEST = histories(without=2)
PUSHED = histories(without=3, extra=(0,))
"""Everybody sends the first item, which nobody has."""


def judged_service(
    make_service: Callable[..., Any],
    *,
    dp: str = "central",
    privacy: str = "",
    verdicts: float = EPSILON,
    judging: str = "",
    **changes: Any,
) -> Any:
    """A site whose models are judged.

    Args:
        make_service: the fixture.
        dp: the privacy mode.
        privacy: more lines of `[privacy]`.
        verdicts: `judging.epsilon`.
        judging: more lines of `[judging]`.
        changes: as of the fixture.
    """
    usual = {"algorithm": "popularity", "every_hours": 0.0, "period": 1e4, "lifetime": 1e4}
    made = make_service(
        count=DEVICES, size=DEVICES, epsilon=f'{EPSILON}\ndp = "{dp}"\n{privacy}',
        extra=f"[judging]\nepsilon = {verdicts}\n{judging}", **{**usual, **changes},
    )  # fmt: skip
    made.devices.histories, made.devices.floors = HONEST, Floors(allow_central=True).for_few()
    return made


def train(service: Any, given: Interactions = HONEST, steps: int = 1, *, judges: Interactions = HONEST) -> str:
    """Train with some histories, and judge with others; returns the run that was trained."""

    def before(coordinator: Any) -> None:
        service.devices.histories = judges if coordinator.terms.algorithm == "verdict" else given

    service.devices.before = before
    service.operate(steps)
    with service.site.ledger(read_only=True) as ledger:
        return str(unpublished(ledger))
