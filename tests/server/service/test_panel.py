"""People who share their log openly, on the server: the public model of it goes into every run, and can be renewed."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palate_cli.cli import run
from palate_common.algorithms import State
from palate_common.algorithms.parts.links import Links
from palate_common.algorithms.parts.panel import panel_inputs
from palate_core.errors import InputError
from palate_server.folder.backup import read_backup, write_backup
from palate_server.folder.server_folder import Site
from palate_server.ledger.extract import verify_extract
from palate_server.operation.schedule import terms_of
from palate_server.rounds.registry import Registry
from palate_server.service.setup import renew_panel
from palate_server.service.status import unpublished
from palate_sim.card.card import card_payload

Maker = Callable[..., Any]


def panel(users: int, seed: int = 0) -> State:
    item_map = np.random.default_rng(seed).normal(size=(6, 6))
    return panel_inputs(Links.strongest(np.arange(0, 12, 2), item_map, most=3), users=users)


def test_every_run_is_given_the_panel_that_the_folder_has_as_it_begins(make_service: Maker, tmp_path: Path) -> None:
    service = make_service(algorithm="als", epsilon=50.0)
    site = service.site
    renew_panel(site, panel(9), {"origin": "the log ml-1m", "licence": "for research"})
    service.operate()
    with site.ledger(read_only=True) as ledger:
        name = unpublished(ledger)
        terms, extract = terms_of(ledger, name), ledger.extract(name, site.key())
    given = Registry(site.run(name)).read_inputs(terms.inputs)
    assert np.array_equal(given["panel_links"], panel(9)["panel_links"])
    assert terms.about["panel"]["users"] == 9
    assert terms.about["panel"]["licence"] == "for research"
    card = card_payload(verify_extract(extract, site.key().public))
    assert card["panel"] == terms.about["panel"]
    assert "The 9 people of the panel (the log ml-1m) have none for the log that they opened" in (card["guarantee"])
    renew_panel(site, panel(8, seed=1))
    assert site.public_inputs["panel_users"].tolist() == [8]
    assert np.array_equal(Registry(site.run(name)).read_inputs(terms.inputs)["panel_users"], [9]), "it keeps its own"
    renew_panel(site, None)
    assert site.public_inputs == {}
    renew_panel(site, None)


def test_it_is_backed_up(make_service: Maker, tmp_path: Path) -> None:
    site = make_service(algorithm="als").site
    write_backup(site, tmp_path / "without.tar")
    renew_panel(site, panel(9))
    write_backup(site, tmp_path / "with.tar")
    for name, there in (("without", False), ("with", True)):
        with tarfile.open(tmp_path / f"{name}.tar") as tar:
            assert ("panel.safetensors" in tar.getnames()) == there
        read_backup(tmp_path / f"{name}.tar", tmp_path / name, witnesses=[], without_witness=True)
        assert (tmp_path / name / "panel.safetensors").exists() == there


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "must be what `palate serve panel` wrote for these items"),
        (b"x" * 100, "must be what `palate serve panel` wrote for these items"),
        (b"x" * (12 * (8 * 128 + 8) + 2**16 + 1), "must have at most 77920 bytes for 12 items"),
    ],
)
def test_an_odd_file_is_refused_in_one_line(make_service: Maker, data: bytes, message: str) -> None:
    site = make_service(algorithm="als").site
    site.panel_file.write_bytes(data)
    if len(data) <= 100:
        with pytest.raises(InputError, match="must be what `palate serve panel` wrote"):
            _ = site.panel_about
    with pytest.raises(InputError, match=message) as refused:
        _ = site.public_inputs
    assert "\n" not in str(refused.value)


def test_a_panel_that_does_not_fit_leaves_the_former_one(make_service: Maker) -> None:
    site = make_service(algorithm="als").site
    renew_panel(site, panel(9))
    with pytest.raises(InputError, match="of 12 items, in lists without repeats"):
        renew_panel(site, panel(9) | {"panel_items": np.arange(8, 14, dtype=np.int32)})
    assert site.public_inputs["panel_users"].tolist() == [9]
    other = make_service("other", algorithm="popularity").site
    with pytest.raises(InputError, match="a panel must be left out: popularity has no use for it"):
        renew_panel(other, panel(9))
    assert not other.panel_file.exists()


def test_the_commands_make_renew_and_remove_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "items").write_text("a\nb\nc\nd\n")
    (tmp_path / "open.csv").write_text("user_id,item_id\n1,a\n1,b\n2,c\n2,a\n3,b\n")
    (tmp_path / "less.csv").write_text("user_id,item_id\n1,a\n1,b\n")
    (tmp_path / "odd.csv").write_text("user_id,item_id\n1,y\n1,z\n")
    common = ["serve", "init", "--population", "p", "--items", str(tmp_path / "items"), "--cohort", "40"]
    assert run([*common, str(tmp_path / "odd"), "--panel", str(tmp_path / "odd.csv")]) == 2
    assert "`--panel` must have items of the catalogue, got" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "odd").exists()
    assert run([*common, str(tmp_path / "none"), "--panel", str(tmp_path / "none.csv")]) == 2
    assert "`--panel` must be a log that can be read" in " ".join(capsys.readouterr().err.split())


def test_a_public_log_with_other_ids_is_matched_by_title(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    titles = {"a": "Alien (1979)", "b": "Brazil (1985)", "c": "Casablanca (1942)"}
    (tmp_path / "items.csv").write_text("item_id,title\n" + "".join(f"{i},{t}\n" for i, t in titles.items()))
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "items.csv").write_text("item_id,title\n7,ALIEN (1980)\n8,Brazil (1985)\n9,Dune (2021)\n")
    (theirs / "interactions.csv").write_text("user_id,item_id\n1,7\n1,8\n2,8\n2,9\n3,9\n")
    site = tmp_path / "site"
    init = ["serve", "init", "--population", "p", "--items", str(tmp_path / "items.csv"), "--cohort", "40", str(site)]
    assert run(init) == 0
    assert run(["serve", "panel", str(site), str(theirs), "--source", "Theirs", "--licence", "CC0"]) == 0
    said = capsys.readouterr().out
    assert "its items: 2 by title and year, 1 not in the catalogue, left out" in said
    assert "panel: 2 people" in said
    opened = Site.at(site)
    assert opened.panel_about == {"origin": "Theirs", "licence": "CC0"}
    assert opened.public_inputs["panel_items"].tolist() == [0, 1]
    assert opened.table is not None
    assert opened.table.titles["a"] == "Alien (1979)"


def test_more_than_a_run_reads_of_a_log_is_not_kept(make_service: Maker) -> None:
    """Each run would refuse the file, long after the command that wrote it."""
    site = make_service(algorithm="als").site
    renew_panel(site, panel(9), {"origin": "the log ml-1m"})
    with pytest.raises(InputError, match="`--source` and `--licence` must be at most 65536 bytes"):
        renew_panel(site, panel(8, seed=1), {"origin": "x" * 70_000})
    assert site.panel_about == {"origin": "the log ml-1m"}
