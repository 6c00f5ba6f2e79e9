"""Public item features on the server: an input of every run, checked before one is opened, and backed up."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palate_cli.cli import run
from palate_common.algorithms.als.algorithm import FEATURES
from palate_core.errors import InputError
from palate_server.folder.backup import write_backup
from palate_server.operation.releases import latest, publish
from palate_server.operation.schedule import terms_of
from palate_server.service.setup import make_site, server_toml
from palate_server.service.status import unpublished

Maker = Callable[..., Any]
KINDS = np.eye(3, dtype=np.float32)[np.arange(12) % 3]


def test_every_run_is_given_the_features_and_new_items_get_vectors_from_them(
    make_service: Maker, tmp_path: Path
) -> None:
    service = make_service(algorithm="als", features="kinds.npy", matrix=KINDS, epsilon=50.0)
    site = service.site
    assert np.array_equal(site.public_inputs[FEATURES], KINDS)
    service.operate()
    with site.ledger(read_only=True) as ledger:
        name = unpublished(ledger)
        terms = terms_of(ledger, name)
    assert terms.facts.n_features == 3
    assert terms.inputs is not None, "the ledger says which features"
    publish(site, name, lambda extract: b"card")
    found = latest(site)
    assert found is not None
    scores = found.model.algorithm.new_item_scores(found.model.state, service.devices.histories, KINDS[:2])
    assert np.isfinite(scores).all()
    write_backup(site, tmp_path / "backup.tar")
    with tarfile.open(tmp_path / "backup.tar") as tar:
        assert "kinds.npy" in tar.getnames()


@pytest.mark.parametrize(
    ("matrix", "algorithm", "message"),
    [
        (KINDS[:-1], "als", "must have 12 rows, .* got 11 of 3"),
        (KINDS[:, :0], "als", "of 1 to 1024 numbers, got 12 of 0"),
        (KINDS[:, 0], "als", "must be one matrix"),
        (np.full((12, 2), np.nan), "als", "must be finite"),
        (np.full((12, 2), "x"), "als", "must be one matrix of numbers"),
        (None, "als", "must be a NumPy file"),
        (KINDS, "popularity", "must be empty: popularity has no use for features"),
    ],
)
def test_odd_features_are_refused_before_anything_is_made(
    make_service: Maker, tmp_path: Path, matrix: Any, algorithm: str, message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        make_service(algorithm=algorithm, features="kinds.npy", matrix=matrix)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "site").exists()


def test_features_lie_in_the_folder(tmp_path: Path) -> None:
    config = server_toml({"population": "p", "cohort.size": 20})
    with pytest.raises(InputError, match="features"):
        make_site(tmp_path / "site", f'{config}[training]\nfeatures = "../x.npy"\n', ("a",))


def test_the_command_takes_a_table_in_any_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "items").write_text("a\nb\nc\n")
    (tmp_path / "table.csv").write_text("item_id,x,y\nc,3,1\na,1,0\nb,2,0\n")
    common = ["serve", "init", "--population", "p", "--items", str(tmp_path / "items")]
    assert run([*common, str(tmp_path / "site"), "--features", str(tmp_path / "table.csv"), "--cohort", "40"]) == 0
    assert np.load(tmp_path / "site" / "features.npy").shape == (3, 2)
    assert "for_few" not in capsys.readouterr().out
    assert run([*common, str(tmp_path / "few"), "--cohort", "20"]) == 0
    assert "cohorts of 20 devices count on 16 honest ones" in capsys.readouterr().out, "apps refuse them by default"
    assert run([*common, str(tmp_path / "other"), "--features", str(tmp_path / "none.csv")]) == 2
    assert "`--features` must be a CSV file" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
    (tmp_path / "items").write_text("")
    assert run([*common, str(tmp_path / "other")]) == 2
    assert f"`--items` must name at least one item, got an empty file: {tmp_path / 'items'}" in " ".join(
        capsys.readouterr().err.split("\n")
    )
    assert not (tmp_path / "other").exists()
