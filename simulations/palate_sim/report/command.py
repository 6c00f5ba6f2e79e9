"""The command that repeats a run, rebuilt from its configuration.

It is in the last section of the page, and has every setting that isn't the default.

    >>> command({"config": {"seed": 1, "privacy": {"epsilon": 2.0}, "data": {"name": "movielens-small"}}})
    'palate simulate --data movielens-small --epsilon 2 --seed 1'
"""

import json
import shlex
from collections.abc import Mapping
from typing import Any

from palate_sim.config import SimulationConfig, load_config, preset_names
from palate_sim.progress.wording import short

_FLAGS = {
    "privacy.epsilon": "epsilon", "privacy.delta": "delta", "privacy.dp": "dp", "privacy.noise": "noise",
    "privacy.masks": "masks",
    "algorithm.name": "algorithm", "split.name": "split", "algorithm.settings.rounds": "rounds", "seed": "seed",
    "engine.name": "engine",
}  # fmt: skip
_ARGUMENTS = ("epsilon", "delta", "dp", "algorithm", "split", "seed")
_ALWAYS = ("privacy.epsilon", "split.name", "seed")
_LOG = ("data.name", "data.path")
_SECTIONS = frozenset({*SimulationConfig.model_fields, "algorithm.settings"})


def command(result: Mapping[str, Any]) -> str:
    """The shell command: `command` where the run recorded it, else from its configuration; Python for a data frame."""
    given = result.get("command")
    if given:
        return given if isinstance(given, str) else shlex.join(str(part) for part in given)
    settings = _leaves(result.get("config") or {})
    if result.get("dp") == "off":
        settings.pop("privacy.epsilon", None)
    preset, changed = _least(settings)
    if not settings.get("data.path") and settings.get("data.name") != result.get("name", settings.get("data.name")):
        return _python(preset, changed)
    data = str(settings.get("data.path") or settings.get("data.name") or "LOG")
    parts = ["palate", "simulate", *([preset] if preset else []), "--data", data]
    for key, flag in _FLAGS.items():
        if key in changed:
            parts += [f"--{flag}", _plain(changed.pop(key))]
    if changed.pop("evaluation.save_recommendations", False):
        parts.append("--save-recommendations")
    for key, value in changed.items():
        parts += ["--set", f"{key}={_toml(value)}"]
    return shlex.join(parts)


def _least(settings: Mapping[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """The preset that leaves the fewest settings to write, None for no preset, and those settings."""
    options: list[tuple[int, str | None, dict[str, Any]]] = []
    for preset in (None, *preset_names()):
        base = _leaves(load_config(preset).model_dump(mode="json"))
        if any(settings.get(key) is None and value is not None for key, value in base.items() if key in settings):
            continue  # the command line can't unset what a preset sets
        changed = {
            key: value
            for key, value in settings.items()
            if value is not None and key not in _LOG and (key in _ALWAYS or value != base.get(key))
        }
        options.append((len(changed) + (preset is not None), preset, changed))
    _, preset, changed = min(options, key=lambda option: option[0], default=(0, None, dict(settings)))
    return preset, changed


def _python(preset: str | None, changed: dict[str, Any]) -> str:
    """The Python call that repeats a run on a data frame, which the command line can't name."""
    said = ["frame", *([f"preset={preset!r}"] if preset else [])]
    for key, name in _FLAGS.items():
        if name in _ARGUMENTS and key in changed:
            said.append(f"{name}={changed.pop(key)!r}")
    return f"palate.simulate({', '.join([*said, *([f'settings={changed!r}'] if changed else [])])})"


def _leaves(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by dotted name; a table that is one setting (weights by kind, say) stays whole."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and f"{prefix}{key}" in _SECTIONS:
            found |= _leaves(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _plain(value: Any) -> str:
    """A number without padding and with every digit, anything else as text."""
    if isinstance(value, float):
        return short(value) if float(short(value)) == value else str(value)
    return str(value)


def _toml(value: Any) -> str:
    """A value as `--set` reads it."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{json.dumps(str(key))} = {_toml(entry)}' for key, entry in value.items())}}}"
    return _plain(value) if isinstance(value, float) else json.dumps(value)
