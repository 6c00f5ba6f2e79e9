"""A call with an argument that doesn't exist names the one that was meant."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import palate


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: palate.simulate(eps=5), r"^palate\.simulate\(\) has no argument 'eps'. Did you mean 'epsilon'\?$"),
        (lambda: palate.simulate("log", Epsilon=5), "Did you mean 'epsilon'"),
        (lambda: palate.simulate(zzz=5), "has no argument 'zzz'; it takes data, epsilon"),
        (lambda: palate.audit(noise=1), "Did you mean 'noise_multiplier'"),
        (
            lambda: palate.Recommender(algo="als"),
            "Recommender.* has no argument 'algo'. Did you mean 'algorithm'",
        ),
        (lambda: palate.Recommender(5), r"^palate\.Recommender\(\): too many positional arguments$"),
        (
            lambda: palate.open("x", app="a", keys=b""),
            "has no argument 'keys'. Did you mean 'key'",
        ),
        (lambda: palate.open("x"), r"^palate\.open\(\): missing a required argument: 'app'$"),
    ],
)
def test_the_message_is_of_what_was_called(call: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        call()


def test_what_is_called_keeps_its_signature_and_its_words() -> None:
    assert list(inspect.signature(palate.simulate).parameters)[:2] == ["data", "epsilon"]
    assert "Raises:" in (palate.simulate.__doc__ or "")
    assert str(inspect.signature(palate.Recommender)).startswith("(*, epsilon: 'float | None' = None")
