"""Keywords: a call with an argument that doesn't exist says which one was meant, in Python 3.11 as in later ones.

>>> nearest("eps", ["delta", "epsilon"]), nearest("epsilons", ["delta", "epsilon"]), nearest("x", ["epsilon"])
('epsilon', 'epsilon', None)
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import ParamSpec, TypeVar

Given = ParamSpec("Given")
Found = TypeVar("Found")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that begins with this one, or else is written about like it; None: there is none."""
    names = list(known)
    begun = [each for each in names if len(name) > 1 and each.startswith(name.lower())]
    return next(iter(begun or get_close_matches(name.lower(), names, 1)), None)


def says_which(called: str) -> Callable[[Callable[Given, Found]], Callable[Given, Found]]:
    """Make a function say, where an argument doesn't fit, what it is called by users and which argument is near.

    Args:
        called: the name by which users call it, such as "palate.simulate".
    """

    def decorated(function: Callable[Given, Found]) -> Callable[Given, Found]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def checked(*args: Given.args, **given: Given.kwargs) -> Found:
            try:
                signature.bind(*args, **given)
            except TypeError as error:
                unknown = next((name for name in given if name not in signature.parameters), None)
                if unknown is None:
                    raise TypeError(f"{called}(): {error}") from None
                near = nearest(unknown, (name for name in signature.parameters if name != "self"))
                hint = f". Did you mean {near!r}?" if near else f"; it takes {', '.join(signature.parameters)}"
                raise TypeError(f"{called}() has no argument {unknown!r}{hint}") from None
            return function(*args, **given)

        return checked

    return decorated
