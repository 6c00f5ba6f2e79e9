"""The reference pages are complete and true: settings, options, files, keys, names."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import click
import pytest
import typer
from pydantic import BaseModel

import palate
from palate_cli.cli import app
from palate_common.algorithms import algorithm_class
from palate_common.rounds.wire import ContributionHeader
from palate_core import errors
from palate_core.plan import ChargeProof, RoundPlan, SignedPlan
from palate_server.folder.config import ServerConfig
from palate_server.ledger.history import (
    ChargeEntry,
    CloseEntry,
    OpenEntry,
    PopulationEntry,
    PublishEntry,
    RestoredEntry,
    SealEntry,
)
from palate_server.service.metrics import Metrics
from palate_server.service.setup import make_site
from palate_sim.config import BASELINES, SimulationConfig, load_config, preset_names
from palate_sim.data.columns import FIELDS, KNOWN_NAMES
from palate_sim.metrics import LIST_METRICS, RATING_METRICS, USER_METRICS
from palate_sim.preparation.splits import PUBLISHED, SPLITS
from palate_sim.run.experiment import start
from palate_torch import ModuleSettings

CONDITIONAL = {"flower.log", "inputs.safetensors", "ray.log"}
"""Files that only some engines and algorithms leave."""
NAME = re.compile(r"`([^`]+)`")


def names(cell: str) -> list[str]:
    """The names in backticks of a cell."""
    return NAME.findall(cell)


def leaves(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each key of a configuration, dotted, with its default."""
    for name, info in section.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from leaves(info.annotation, f"{prefix}{name}.")
        else:
            default = info.get_default(call_default_factory=True)
            yield prefix + name, default


@pytest.mark.parametrize("name", ["cli.md", "configuration.md", "server.md"])
def test_a_reference_is_what_the_code_makes(name: str, reference: Any, pages: dict[str, Any]) -> None:
    """If this fails, run docs/reference.py."""
    text = pages[f"docs/{name}"].text
    shown = text.partition(reference.BEGIN)[2].partition(reference.END)[0]
    assert shown == f"\n\n{reference.PAGES[name]()}\n\n"


def test_the_alerts_are_what_the_list_of_problems_makes(reference: Any) -> None:
    """If this fails, run docs/reference.py."""
    assert reference.ALERTS.read_text(encoding="utf-8") == reference.alerts()


def test_every_setting_and_every_option_is_there_and_says_what_it_means(reference: Any, pages: dict[str, Any]) -> None:
    """The tables are made: this looks whether they are whole."""
    settings = {key for key, _ in leaves(SimulationConfig)}
    rows = {names(row[0])[0]: row for row in pages["docs/configuration.md"].rows(reference.settings()) if names(row[0])}
    assert settings <= set(rows)
    assert {name for each in ("als", "sgd", "event-mf") for name, _ in leaves(algorithm_class(each).Settings)} <= set(
        rows
    )
    assert {name for name, _ in leaves(ModuleSettings)} <= set(rows)
    served = {
        names(row[0])[0]: row for row in pages["docs/server.md"].rows(reference.server_settings()) if names(row[0])
    }
    assert {key for key, _ in leaves(ServerConfig)} == set(served)
    assert not [key for key, row in {**rows, **served}.items() if not row[-1]]


@pytest.fixture(scope="module")
def reference() -> Any:
    spec = importlib.util.spec_from_file_location("reference", Path(__file__).parents[2] / "docs" / "reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_metrics_of_a_server_are_documented(pages: dict[str, Any], tmp_path: Path) -> None:
    site = make_site(tmp_path / "site", 'population = "p"\n', ("a", "b"))
    families = {family.name for family in Metrics(site, lambda: {"gateway": True}).registry.collect()}
    page = pages["docs/operations.md"]
    listed = {
        name.removesuffix("_total")
        for row in page.rows(page.section("What to look at"))
        for name in names(row[0])
        if name.startswith("palate_")
    }
    assert families == listed


def test_every_algorithm_of_palate_is_named(pages: dict[str, Any]) -> None:
    own = [point.name for point in entry_points(group="palate.algorithms") if point.value.startswith("palate_")]
    assert not [name for name in own if f"`{name}`" not in pages["docs/algorithm.md"].text]


def test_examples_of_configuration_are_valid(pages: dict[str, Any], tmp_path: Path) -> None:
    for block in pages["docs/configuration.md"].blocks("toml"):
        file = tmp_path / "config.toml"
        file.write_text(block.text, encoding="utf-8")
        assert load_config(str(file)) != load_config()


def test_a_newcomer_is_told_every_preset() -> None:
    command = typer.main.get_command(app).commands["simulate"]  # type: ignore[attr-defined]  # a group has them
    [argument] = [each for each in command.params if each.name == "what"]
    for text in (argument.help, palate.simulate.__doc__):
        assert [name for name in preset_names() if not re.search(rf"\b{name}\b", text)] == []


def test_named_choices_are_all_there(pages: dict[str, Any]) -> None:
    page = pages["docs/configuration.md"]
    first = {name for row in page.rows(page.text) for name in names(row[0])}
    assert {*SPLITS, *PUBLISHED} <= first
    assert set(BASELINES) <= first
    assert set(preset_names()) == {names(row[0])[0] for row in page.rows(page.section("Presets")) if names(row[0])}


def commands(group: Any, name: str = "palate") -> Iterator[tuple[str, click.Command]]:
    """Each command by its full name, groups too."""
    for each, command in group.commands.items():
        yield f"{name} {each}", command
        if hasattr(command, "commands"):
            yield from commands(command, f"{name} {each}")


COMMANDS = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_documented(name: str, pages: dict[str, Any]) -> None:
    page, command = pages["docs/cli.md"], COMMANDS[name]
    section = re.split(r"^### `", page.section(f"`{name}`"), flags=re.MULTILINE)[0]
    first = [names(row[0]) for row in page.rows(section) if row[0].startswith("`--")]
    own = {text.split()[0] for cell in first for text in cell} | set(re.findall(r"`(--[\w-]+)`", section))
    assert {option for param in command.params if param.param_type_name == "option" for option in param.opts} <= own
    assert all(param.help for param in command.params), "every option says what it means"
    assert command.help


def test_exit_codes(pages: dict[str, Any]) -> None:
    page = pages["docs/cli.md"]
    codes = {row[0] for row in page.rows(page.text) if row[0].isdigit()}
    raised = {str(each.exit_code) for each in vars(errors).values() if isinstance(each, type)}
    assert codes == raised | {"0", "130"}


def test_columns(pages: dict[str, Any]) -> None:
    page = pages["docs/cli.md"]
    rows = {names(row[0])[0]: row[1] for row in page.rows(page.section("Columns")) if names(row[0])}
    assert tuple(rows) == tuple(field for field in FIELDS if field in KNOWN_NAMES.values())
    assert set(FIELDS) - set(rows) == {"domain"}
    for field, listed in rows.items():
        assert {KNOWN_NAMES.get(name.strip().replace("_", "")) for name in listed.split(",")} == {field}


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory, write_log: Any) -> Path:
    """A finished run with everything that can be asked of it."""
    folder = tmp_path_factory.mktemp("reference")
    write_log(folder / "my.csv")
    keys = {"evaluation.save_recommendations": True, "privacy.epsilon": 8.0}
    started = start(load_config(None, keys), source=folder / "my.csv", out=folder / "run")
    from palate_sim.progress import Progress

    with Progress(started.folder.events, quiet=True) as notify:
        started.run(notify)
    return folder / "run"


def documented(page: Any, title: str) -> set[str]:
    """All names in the first column of a section's first table."""
    first = page.section(title).partition("\n\n|")[2].partition("\n\n")[0]
    return {name for row in list(page.rows(f"|{first}"))[1:] for name in names(row[0])}


def test_run_folder(run_folder: Path, pages: dict[str, Any]) -> None:
    found = {f"{path.name}/" if path.is_dir() else path.name for path in run_folder.iterdir()}
    assert documented(pages["docs/runs.md"], "The run folder") == found | CONDITIONAL


def test_result_json(run_folder: Path, pages: dict[str, Any]) -> None:
    result = json.loads((run_folder / "result.json").read_text())
    page = pages["docs/runs.md"]
    assert documented(page, "result.json") == set(result)
    section = page.section("result.json")
    for key in (*result["split"], *result["seconds"], *result["bytes_per_client"], *result["curve"][0]):
        assert f"`{key}`" in section or "@" in key, key


def test_metrics(run_folder: Path, pages: dict[str, Any]) -> None:
    listed = documented(pages["docs/runs.md"], "Metrics")
    assert listed == {f"{name}@k" for name in (*USER_METRICS, *LIST_METRICS)} | set(RATING_METRICS)


def test_privacy_card(run_folder: Path, pages: dict[str, Any]) -> None:
    card = json.loads((run_folder / "privacy_card.json").read_text())
    page = pages["docs/runs.md"]
    assert documented(page, "privacy_card.json") == set(card)
    section = page.section("privacy_card.json")
    assert not [key for key in (*card["rounds"], *card["population"]) if f"`{key}`" not in section]


def test_events(run_folder: Path, pages: dict[str, Any]) -> None:
    events = [json.loads(line) for line in (run_folder / "events.jsonl").read_text().splitlines()]
    kinds = {event["event"] for event in events}
    assert documented(pages["docs/runs.md"], "events.jsonl") == kinds | {"failed"}
    assert all("at" in event for event in events)


def test_wire_protocol_names_every_member(pages: dict[str, Any]) -> None:
    page = pages["docs/wire-protocol.md"]
    plan, log = page.section("The signed plan"), page.section("The log")
    for model in (SignedPlan, RoundPlan, ChargeProof):
        assert not [name for name in model.model_fields if f"`{name}`" not in plan]
    for entry in (PopulationEntry, OpenEntry, ChargeEntry, SealEntry, CloseEntry, PublishEntry, RestoredEntry):
        row = next(row for row in page.rows(log) if row[0] == f"`{entry.model_fields['kind'].default}`")
        assert not [name for name in entry.model_fields if name not in ("kind", "seq") and f"`{name}`" not in row[1]]
    header = pages["docs/wire-exchange.md"].section("A contribution")
    assert not [name for name in ContributionHeader.model_fields if f"`{name}`" not in header]


def test_functions_of_the_path_exist(pages: dict[str, Any], root: Path) -> None:
    page = pages["docs/data-flow.md"]
    code = "\n".join(
        file.read_text()
        for part in ("common", "client", "server", "simulations")
        for file in (root / part).rglob("*.py")
    )
    for title, column in (("Types are privacy states", 0), ("One round, step by step", 2)):
        for row in list(page.rows(page.section(title)))[1:]:
            for name in names(row[column]):
                last = name.rstrip("()").rpartition(".")[2]
                assert re.search(rf"(def|class) {last}\b", code), name
