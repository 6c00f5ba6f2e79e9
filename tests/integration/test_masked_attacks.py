"""A lying server against honest devices: each attack is refused, and recovers what is private without its walls.

An attack names the checks that stop it. It must fail with all of them, fail with any one of them alone, and succeed
with none: a check that stops nothing, and an attack that attacks nothing, both fail here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mechanism.secagg.attacks import ATTACKS, Attack, let_pass, small_rings
from palate_core.device import checks as masked_checks


@contextmanager
def without(walls: set[str], attack: Attack, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let checks pass whatever comes; "threshold" is the number of shares that open a secret."""
    for wall in walls - {"threshold"}:
        assert hasattr(masked_checks, wall)
        monkeypatch.setattr(masked_checks, wall, let_pass(wall))
    with small_rings(**({"threshold": attack.weak_threshold} if "threshold" in walls else {})):
        yield


def name(attack: Attack) -> str:
    return attack.name


@pytest.mark.parametrize("attack", ATTACKS, ids=name)
def test_an_attack_succeeds_without_its_walls(attack: Attack, monkeypatch: pytest.MonkeyPatch) -> None:
    with without(set(attack.walls), attack, monkeypatch):
        assert attack.run()


@pytest.mark.parametrize(("attack", "wall"), [(a, wall) for a in ATTACKS for wall in a.walls if len(a.walls) > 1])
def test_each_wall_alone_stops_an_attack(attack: Attack, wall: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with without(set(attack.walls) - {wall}, attack, monkeypatch):
        assert not attack.run()
