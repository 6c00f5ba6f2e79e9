"""The device SDK's page is complete and true: events, outcomes, limits, purposes, errors, defaults."""

from __future__ import annotations

import dataclasses
import doctest
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import palate
from palate_client.consent import PURPOSES
from palate_client.events import FIELDS, MAX_ITEM, MAX_PROPS
from palate_client.portability import ImportReport
from palate_client.recommend.adaptation.blending import SOURCES
from palate_client.recommend.discovery import DEBIAS, DISCOVERY, DIVERSITY, EXPLORE, NEW
from palate_client.recommend.evidence import BURST, RESTED_DAYS, TIRED
from palate_client.recommend.recommender import Recommendation
from palate_client.rounds.report import PrivacyReport
from palate_common.kinds import KINDS
from palate_common.models import published
from palate_common.models.item_changes import CHANGES
from palate_common.models.manifest import STARTS
from palate_common.models.rules import RULES
from palate_common.weighting import weighting_names
from palate_core.log.consistency import SPENT

NAME = re.compile(r"`([^`]+)`")


def tables(page: Any, title: str) -> dict[str, list[str]]:
    """First name of each row of a section's tables -> its other cells."""
    rows = page.rows(page.section(title))
    return {NAME.findall(row[0])[0]: row[1:] for row in rows if NAME.findall(row[0])}


def test_the_first_examples_can_be_typed_one_after_the_other(
    pages: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = "".join(block.text for block in pages["docs/sdk.md"].blocks("python")[:2])
    found = doctest.DocTestParser().get_doctest(text, {}, "first", None, 0)
    assert doctest.DocTestRunner(verbose=False).run(found) == doctest.TestResults(0, len(found.examples))


def test_events(pages: dict[str, Any]) -> None:
    rows = tables(pages["docs/sdk.md"], "Events")
    outcomes = {outcome.name for outcome in palate.Tracked}
    promised = {"track", "flush"}
    assert set(rows) == {*FIELDS} | outcomes | promised
    assert tuple(NAME.findall(rows["kind"][0])) == tuple(KINDS)
    assert f"{MAX_ITEM}" in rows["item"][0]
    assert f"{MAX_PROPS:,}" in rows["props"][0]
    assert f"more than {BURST} positives" in pages["docs/sdk.md"].text


def test_limits(pages: dict[str, Any]) -> None:
    rows = tables(pages["docs/sdk.md"], "How much is kept")
    assert {name: cells[0].strip("`") for name, cells in rows.items()} == {
        field.name: repr(field.default) for field in dataclasses.fields(palate.Limits)
    }


def test_options_of_recommend(pages: dict[str, Any]) -> None:
    rows = tables(pages["docs/sdk.md"], "Recommendations")
    options = inspect.signature(palate.Device.recommend).parameters
    shown = {name: cells[0].strip("`") for name, cells in rows.items() if name in options}
    assert shown == {name: repr(option.default) for name, option in options.items() if name != "self"}
    section = pages["docs/sdk.md"].section("Recommendations")
    assert not [field.name for field in dataclasses.fields(Recommendation) if f"`{field.name}`" not in section]
    assert all(f"`{source}`" in section for source in SOURCES)
    assert rows["discovery"][1].endswith(f"`None`: {DISCOVERY:g}")
    assert (EXPLORE, DEBIAS) == (1 / 2, 1 / 4)
    assert f"half of `discovery`; {NEW:g} times as much without events" in rows["explore"][1]
    assert rows["diversity"][1].endswith(f"`None`: {DIVERSITY:g} of `discovery`")
    assert rows["debias"][1].endswith("`None`: a quarter of `discovery`")
    assert (TIRED, RESTED_DAYS) == (5, 7)
    assert "more than five times" in section


def test_purposes_presets_and_reports(pages: dict[str, Any]) -> None:
    page = pages["docs/sdk.md"]
    assert {*PURPOSES} <= {*NAME.findall(page.section("Consent"))}
    assert {*weighting_names()} <= {*NAME.findall(page.section("What an event counts"))}
    report = {field.name for field in dataclasses.fields(ImportReport)}
    assert set(tables(page, "Receipts, other apps, and back")) == report


def test_errors(pages: dict[str, Any]) -> None:
    section = pages["docs/sdk.md"].section("Errors")
    exported = {name for name in palate.__all__ if name.endswith("Error")}
    assert set(NAME.findall("".join(row[0] for row in pages["docs/sdk.md"].rows(section)))) == exported


def test_every_method_is_shown(pages: dict[str, Any]) -> None:
    text = "".join(pages[f"docs/{name}.md"].text for name in ("sdk", "sdk-rounds", "leaving"))
    public = {name for name in vars(palate.Device) if not name.startswith("_")}
    assert {name for name in public if f"{name}(" not in text and f"`{name}`" not in text} <= {"export_lines"}


def test_a_service(pages: dict[str, Any]) -> None:
    rows = tables(pages["docs/sdk-rounds.md"], "Models")
    fields = {field.name: field.default for field in dataclasses.fields(palate.Service)}
    assert set(rows) == {*fields, "palate.Service"}
    for name, default in fields.items():
        if default is not dataclasses.MISSING:
            assert rows[name][0].strip("`") == repr(default)


def test_floors(pages: dict[str, Any]) -> None:
    rows = tables(pages["docs/sdk-rounds.md"], "Floors")
    assert {name: cells[0].strip("`") for name, cells in rows.items() if name != "palate.Floors"} == {
        field.name: str(field.default) for field in dataclasses.fields(palate.Floors)
    }


def test_the_privacy_report_names_its_members(pages: dict[str, Any]) -> None:
    section = pages["docs/sdk-rounds.md"].section("The privacy report").rpartition("```")[2]
    fields = {field.name for field in dataclasses.fields(PrivacyReport)}
    assert fields - {"app", "time", "simulated"} <= {*NAME.findall(section)}


def test_a_published_model(pages: dict[str, Any]) -> None:
    rows = tables(pages["docs/wire-exchange.md"], "A published model")
    files = {published.MANIFEST, published.SIGNATURE, published.ITEMS, published.DOMAINS}
    files |= {published.TABLE, published.MODEL, published.COMPACT, CHANGES, RULES}
    named = {name for row in pages["docs/wire-exchange.md"].rows(
        pages["docs/wire-exchange.md"].section("A published model")
    ) for name in NAME.findall(row[0])}  # fmt: skip
    assert files | set(published.Manifest.model_fields) | {SPENT, STARTS} == named
    assert set(rows) <= named
