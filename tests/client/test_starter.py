"""The starter model of films: titles and personal lists on a device that has no server, and what it says of itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import palate
from palate.starter import FOLDERS
from palate_client.starter import Starter
from palate_core.errors import InputError, IntegrityError

Opened = Callable[..., palate.Device]
DIARY = """Date,Name,Year,Letterboxd URI,Rating,Rewatch,Tags,Watched Date
2024-01-03,The Lord of the Rings: The Fellowship of the Ring,2001,https://boxd.it/2c,,,,2024-01-02
2024-02-04,Star Wars,1977,https://boxd.it/2d,,,,2024-02-03
2024-03-05,The House Is Black,1963,https://boxd.it/2e,,,,2024-03-04
"""


@pytest.fixture
def films() -> Starter:
    return palate.starter("films")


@pytest.fixture
def device(open_device: Opened, films: Starter) -> palate.Device:
    found = open_device(service=films.service, key=bytes(range(32)))
    assert found.update_model(films.folder)
    return found


def listed(device: palate.Device, count: int) -> list[str]:
    table = device.items()
    assert table is not None
    return [table.titles[each.item] for each in device.recommend(count, explore=0)]


def test_one_title_makes_the_list_personal(device: palate.Device, films: Starter) -> None:
    assert {each.source for each in device.recommend(5)} <= {"popularity", "exploration"}
    device.track("like", films.item("Toy Story (1995)"))
    shown = device.recommend(5, explore=0)
    assert sum(each.source == "panel" for each in shown) >= 4
    assert {"Toy Story 2 (1999)", "Toy Story 3 (2010)"} <= set(listed(device, 5))
    assert "Toy Story (1995)" in next(each.reason for each in shown if each.source == "panel")


def test_an_imported_history_makes_the_list_personal(device: palate.Device, tmp_path: Path) -> None:
    path = tmp_path / "diary.csv"
    path.write_text(DIARY, encoding="utf-8")
    preview = device.import_history(path)
    assert (preview.items, preview.unknown) == (2, 1), preview.unknown_titles
    assert preview.store().stored == 2
    shown = listed(device, 8)
    assert sum("Lord of the Rings" in title or "Star Wars" in title or "Hobbit" in title for title in shown) >= 3, shown


def test_it_says_what_it_is_made_of_and_that_it_protects_nobody(films: Starter) -> None:
    said = films.provenance
    assert said["licence"] == "MIT (Simon Dooms)"
    assert said["source"] == "https://github.com/sidooms/MovieTweetings"
    assert said["command"] == "palate starter build movietweetings --kind films --ids imdb"
    assert (said["epsilon"], said["privacy"].split(":")[0]) == (None, "not differentially private")
    assert (said["items"], len(said["log"])) == (len(films.published.items), 64)
    assert "Simon Dooms" in (films.folder / "LICENSE").read_text(encoding="utf-8")
    table = films.published.table
    assert table is not None
    assert len(table.titles) == len(films.published.items)
    assert table.ids["imdb"][0] == f"tt{films.published.items[0]}"
    assert films.service.participations == 0


def test_it_is_small_for_what_ships_with_every_install() -> None:
    assert sum(file.stat().st_size for file in FOLDERS["films"].iterdir()) <= 300_000


def test_a_folder_that_was_changed_is_refused(films: Starter, tmp_path: Path) -> None:
    for file in films.folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    assert palate.starter(tmp_path).service == films.service
    (tmp_path / "items").write_bytes((tmp_path / "items").read_bytes().replace(b"0114709", b"0114708"))
    with pytest.raises(IntegrityError, match="items"):
        _ = palate.starter(tmp_path).published
    (tmp_path / "public-key").write_text("ab" * 32)
    with pytest.raises(IntegrityError):
        _ = palate.starter(tmp_path).service
    (tmp_path / "public-key").write_text(films.service.public_key + " " * 10_000)
    with pytest.raises(InputError, match="must be a folder of `palate starter build`"):
        _ = palate.starter(tmp_path).service


def test_a_starter_or_title_that_there_is_none_of_is_said(films: Starter, tmp_path: Path) -> None:
    for name in ("books", tmp_path):
        with pytest.raises(InputError, match="must be films, sample or a folder"):
            palate.starter(name)
    with pytest.raises(InputError, match="must be of one item"):
        films.item("No Such Film (1895)")
