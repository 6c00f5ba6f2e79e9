"""The configuration: documented, settable from everywhere, and nothing else."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from palate_cli.commands.config import _lines
from palate_core.errors import InputError
from palate_sim.config import (
    BASELINES,
    SimulationConfig,
    build_config,
    config_keys,
    load_config,
    parse_setting,
    preset_names,
)

OTHER: dict[str, Any] = {
    "privacy.unit": "event",
    "data.name": "ml-1m",
    "data.path": "log.csv",
    "data.cache": "cache",
    "data.domains": {"films": "films.csv", "songs": "songs.csv"},
    "data.columns": {"user_id": "who", "item_id": 3},
    "data.weights": {"buy": 2.0, "*": 0.5},
    "data.value_weights": {"1": 0.5, "4": 1.0},
    "data.kind_values": {"play": {"0": 0.5, "30": 1.0}},
    "data.panel": 0.03,
    "data.panel_people": "users",
    "data.panel_licence": "MIT",
    "positives.combine": "sum",
    "features.source": "none",
    "features.sources": {"kinds": "genres"},
    "split.name": "random",
    "engine.ray_address": "10.0.0.1:6379",
    "privacy.delta": 1e-7,
    "privacy.dp": "off",
    "privacy.noise": "seeded",
    "privacy.masks": "on",
    "privacy.corrupt": 0.1,
    "privacy.dropout": 0.1,
    "privacy.grid": 2**14,
    "privacy.population": "readers",
    "algorithm.name": "popularity",
    "algorithm.settings": {},
    "warm_start": "runs/former",
    "engine.name": "flower",
    "engine.absent": 0.1,
    "evaluation.ks": [5],
    "evaluation.baselines": ["ease"],
    "evaluation.projection": [2],
    "evaluation.recency": [45.5],
}
"""A value of each key that is no number and no truth value, other than its default."""


def fields(section: type[BaseModel] = SimulationConfig, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in section.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from fields(inner, f"{prefix}{name}.")
        else:
            yield prefix + name, field


FIELDS = dict(fields())
BESIDE = {
    "privacy.unit": {"privacy.dp": "local", "algorithm.name": "event-mf"},
    "data.panel_apart": {"data.panel": 0.03},
}
"""What another value of a key can't be without."""


def another(key: str) -> Any:
    """A value of a key other than its default."""
    default = FIELDS[key].get_default(call_default_factory=True)
    if key in OTHER:
        return OTHER[key]
    if isinstance(default, bool):
        return not default
    return 3 if default is None else type(default)(default * 2 + (default == 0))


def value_of(config: SimulationConfig, key: str) -> Any:
    for part in key.split("."):
        config = getattr(config, part)
    return config


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{key}" = {toml(part)}' for key, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)


def test_every_key_is_listed_and_documented() -> None:
    assert set(config_keys()) == set(FIELDS)
    for key, field in FIELDS.items():
        assert field.description, key


@pytest.mark.parametrize("key", FIELDS)
def test_every_key_is_settable_by_file_and_by_option(key: str, tmp_path: Path) -> None:
    value, beside = another(key), BESIDE.get(key, {})
    section, _, name = key.rpartition(".")
    (tmp_path / "mine.toml").write_text(f"[{section}]\n" * bool(section) + f"{name} = {toml(value)}\n")
    by_file = load_config(str(tmp_path / "mine.toml"), beside)
    by_option = load_config(None, dict([parse_setting(f"{key}={toml(value)}")]) | beside)
    assert by_file == by_option
    assert value_of(by_file, key) != value_of(load_config(None), key) or key == "algorithm.settings"
    assert by_file == build_config(by_file.model_dump(mode="json"))  # as run.json carries it


@pytest.mark.parametrize(
    "section", ["", *sorted({key.rpartition(".")[0] for key in FIELDS} - {""}), "algorithm.settings"]
)
def test_unknown_keys_are_refused_on_every_level(section: str) -> None:
    key = f"{section}.novel".lstrip(".")
    with pytest.raises(InputError, match=rf"`{key}` is not a setting of"):
        load_config(None, {key: 1})


def test_an_option_beats_a_file_and_a_file_beats_a_default(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("seed = 3\n[privacy]\nepsilon = 2\ndelta = 1e-6\n")
    config = load_config(str(tmp_path / "mine.toml"), {"privacy.epsilon": 4.0})
    assert (config.seed, config.privacy.epsilon, config.privacy.delta, config.privacy.dp) == (
        3,
        4.0,
        1e-6,
        "distributed",
    )


@pytest.mark.parametrize("name", preset_names())
def test_presets_load(name: str) -> None:
    assert preset_names() == ("chien2021", "liang2018", "movies", "music", "news", "ratings", "shop")
    assert load_config(name, {"privacy.epsilon": 1}).privacy.epsilon == 1


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a=1", 1),
        ("a=1.5", 1.5),
        ("a=true", True),
        ("a=[1, 2]", [1, 2]),
        ("a={b = 1}", {"b": 1}),
        ('a="1"', "1"),
        ("a=word", "word"),
        ("a=x=y", "x=y"),
        ("a=", ""),
        (" a =1", 1),
    ],
)
def test_a_setting_is_toml_or_else_text(text: str, value: Any) -> None:
    assert parse_setting(text) == ("a", value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("evaluation.ks=10", (10,)),
        ("evaluation.ks=5,10", (5, 10)),
        ("evaluation.baselines=none", ()),
        ("evaluation.baselines=[]", ()),
        ("evaluation.baselines=ease, ials", ("ease", "ials")),
        ("evaluation.projection=none", ()),
        ("evaluation.projection=1,1000", (1, 1000)),
    ],
)
def test_lists_are_as_easy_as_words_in_a_shell(text: str, value: Any) -> None:
    key, parsed = parse_setting(text)
    assert value_of(load_config(None, {key: parsed}), key) == value


def test_a_truth_value_is_no_number() -> None:
    for key in ("seed", "privacy.epsilon", "privacy.delta", "filters.user_core", "privacy.lifetime_epsilon"):
        with pytest.raises(InputError, match=rf"`{key}` must be a number, got True"):
            load_config(None, {key: True})


def test_a_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes(b"\xef\xbb\xbfseed = 3\n")
    assert load_config(str(tmp_path / "mine.toml")).seed == 3


def test_messages_are_one_line() -> None:
    with pytest.raises(InputError) as caught:
        load_config(None, {"privacy.dp": "two\nlines" * 50})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_what_palate_config_prints_is_the_configuration() -> None:
    for base in (None, *preset_names()):
        config = load_config(base)
        printed = tomllib.loads("\n".join(_lines(config, "")))
        # Settings of the algorithm are printed as a table of their own class.
        printed["algorithm"]["settings"] = config.algorithm.settings
        assert build_config(printed) == config


def test_the_default_is_every_baseline() -> None:
    assert load_config(None).evaluation.baselines == BASELINES
