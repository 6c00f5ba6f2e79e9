"""`palate config`: every configuration key with its meaning, as TOML to copy, change and run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer
from pydantic import BaseModel


def config(
    base: Annotated[
        str | None,
        typer.Argument(metavar="[PRESET|CONFIG.toml]", help="Print its values. Default: Palate's defaults."),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any configuration key; repeatable.")
    ] = None,
) -> None:
    """Print every configuration key, as TOML: for `palate simulate CONFIG.toml`, or one by one for --set."""
    from palate_cli.commands.simulate import chosen
    from palate_common.algorithms import algorithm_class
    from palate_sim.config import load_config

    loaded = load_config(base, chosen({}, settings or ()))
    own = algorithm_class(loaded.algorithm.name).Settings.model_validate(loaded.algorithm.settings)
    told = f"# Of the algorithm {loaded.algorithm.name}; see {type(own).__module__}.{type(own).__name__}."
    for line in (*_lines(loaded, ""), told, "[algorithm.settings]", *_lines(own, "algorithm.settings.")):
        typer.echo(line)


def _lines(section: BaseModel, prefix: str) -> Iterator[str]:
    """A section's own keys, then its tables; an algorithm's settings come from its own class."""
    tables = []
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            tables.append((name, value))
        elif f"{prefix}{name}" != "algorithm.settings":
            yield from (f"# {line}" for line in (field.description or "").splitlines())
            yield f"# {name} =" if value is None else f"{name} = {_toml(value)}"
    yield ""
    for name, value in tables:
        yield from (f"# {line}" for line in (type(value).__doc__ or "").splitlines())
        yield f"[{prefix}{name}]"
        yield from _lines(value, f"{prefix}{name}.")


def _toml(value: Any) -> str:
    """A value as TOML; JSON's numbers, lists and texts are TOML's."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(str(key))} = {_toml(part)}" for key, part in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False)
