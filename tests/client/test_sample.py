"""The sample model: it recommends on a plain install, and takes part in nothing."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import palate
from palate_common.models import published


@pytest.fixture
def device(tmp_path: Path) -> palate.Device:
    found = palate.open(tmp_path / "store", app="bookshop", key=bytes(range(32)), service=palate.sample().service)
    found.consent.grant("store")
    found.consent.grant("train")
    return found


def test_a_reader_of_one_shelf_is_recommended_that_shelf(device: palate.Device) -> None:
    with device:
        assert device.update_model(palate.sample().folder)
        for number in (7, 15, 23):
            device.track("like", f"book-{number}")
        shown = [int(each.item.removeprefix("book-")) for each in device.recommend(5)]
        assert sum(number % 8 == 7 for number in shown) >= 4, shown
        assert not {7, 15, 23} & set(shown)


def test_it_takes_part_in_no_round_even_of_a_server_with_its_key(tmp_path: Path, make_run: Callable[..., Any]) -> None:
    run = make_run(dp="central")
    known = replace(palate.sample().service, public_key=run.key.public, population="readers", floors=run.floors)
    first, published_model = run.first(), run.publish(run.coordinator())
    for service, reason in ((palate.sample().service, "sign"), (known, "limit of its own")):
        with palate.open(tmp_path / reason[:4], app="bookshop", key=bytes(range(32)), service=service) as device:
            device.consent.grant("store")
            device.consent.grant("train")
            device.update_model(palate.sample().folder if service is not known else published_model)
            assert device.contribute(*first) == b"refused"
            assert reason in str(device.refusal), device.refusal


def test_what_ships_is_what_the_script_makes(tmp_path: Path) -> None:
    runpy.run_path(str(Path(__file__).parents[2] / "docs/examples/make_sample.py"))["main"](tmp_path)
    sample = palate.sample()
    kept, again = (
        published.read(folder, public_key=(folder / "public-key").read_text().strip(), most=2**20, small=True)
        for folder in (sample.folder, tmp_path)
    )
    assert kept.items == again.items
    assert kept.manifest.population == again.manifest.population == sample.service.population
    ours, theirs = kept.model.state, again.model.state
    assert ours.keys() == theirs.keys()
    for name in ours:
        allowed = 0.02 * np.abs(theirs[name]).max()  # another machine's linear algebra may round an int8 step apart
        np.testing.assert_allclose(ours[name], theirs[name], atol=allowed, err_msg=name)
