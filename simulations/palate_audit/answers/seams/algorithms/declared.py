"""Declared: what algorithms say of themselves beside their functions: constants, settings with their bounds, arrays."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
from pydantic import BaseModel

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.seam import Seam
from palate_common.algorithms.base import Algorithm

COMMON, CLIENT = "palate_common.algorithms", "palate_client.rounds"
MODULES = (
    *(f"{COMMON}.{name}" for name in ("base", "event_mf", "popularity", "analytics", "verdict", "registry")),
    *(f"{COMMON}.als.{name}" for name in ("algorithm", "content", "factors", "pairs", "plan", "taste", "vote", "warm")),
    *(f"{COMMON}.parts.{name}" for name in ("adaptive_clip", "compression", "head", "links", "panel", "quarantine")),
    *(f"{COMMON}.parts.{name}" for name in ("reconstruction", "server_steps", "sketch")),
    *(f"{COMMON}.sgd.{name}" for name in ("algorithm", "biases", "losses")),
    *(f"{CLIENT}.{name}" for name in ("contribution", "survey_answers")),
    "palate_common.survey",
    "palate_common.score_sources",
)
BOUNDS = ("gt", "ge", "lt", "le", "min_length", "max_length", "pattern", "allow_inf_nan")
SAID = ("name", "unit", "public_inputs", "training_only", "item_arrays")


def _constants(module: ModuleType) -> dict[str, Any]:
    """The numbers and names that a module has for good."""
    kinds = (int, float, str, tuple, frozenset, Mapping, np.ndarray)
    return {
        name: value for name, value in vars(module).items()
        if name.isupper() and isinstance(value, kinds) and _is_plain(value)
    }  # fmt: skip


def _is_plain(value: Any) -> bool:
    """Whether an answer can have it."""
    try:
        CaseAnswer().tell(value)
    except TypeError:
        return False
    return True


def _fields(model: type[BaseModel]) -> list[Any]:
    """The fields of a model, their defaults and bounds."""
    found: list[Any] = [
        sorted((key, value) for key, value in model.model_config.items() if isinstance(value, bool | str))
    ]
    for name, field in sorted(model.model_fields.items()):
        limits = [getattr(each, bound, None) for each in field.metadata for bound in BOUNDS]
        default = field.default if _is_plain(field.default) else "made"
        found.append([name, default, [each for each in limits if each is not None], field.exclude_if is None])
    return found


def _declared(dice: Dice, answer: CaseAnswer) -> None:
    """Everything that a module declares; each case has another one."""
    del dice
    answer.tell(len(MODULES))
    for name in MODULES:
        module = import_module(name)
        answer.tell(name)
        answer.brief(_constants(module), [(each.__name__, _of(each)) for each in _classes(module)])


def _classes(module: ModuleType) -> list[type]:
    """The classes of a module, by name."""
    own = [each for each in vars(module).values() if isinstance(each, type) and each.__module__ == module.__name__]
    return sorted(own, key=lambda each: each.__name__)


def _of(cls: type) -> list[Any]:
    """What a class says of itself."""
    if issubclass(cls, BaseModel):
        return _fields(cls)
    return [getattr(cls, name, None) for name in SAID] if issubclass(cls, Algorithm) else []


SEAMS: tuple[Seam, ...] = (Seam("declarations: constants, settings and arrays", _declared, 1),)
