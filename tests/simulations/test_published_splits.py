"""Splits of published protocols: the very users, items and ratings that the published scripts hold out."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from benchmarks.worlds import film_archives
from palate_cli.cli import app
from palate_common.interactions import Interactions
from palate_core.errors import InputError
from palate_sim.config import load_config
from palate_sim.data import positives, read_log, registry
from palate_sim.evaluation.model_evaluation import headline
from palate_sim.preparation.preparation import Prepared, describe_split, prepare
from palate_sim.preparation.splits import PUBLISHED, Split, split

Pair = tuple[str, str]
HELD = 30


def frame_of(archive: Path) -> pd.DataFrame:
    """The ratings of a made archive as pandas reads the published ones."""
    with zipfile.ZipFile(archive) as bundle:
        name = bundle.namelist()[1]
        text = bundle.read(name).decode()
    if name.endswith(".csv"):
        return pd.read_csv(io.StringIO(text))
    names = ["userId", "movieId", "rating", "timestamp"]
    return pd.read_csv(io.StringIO(text), sep="::", engine="python", names=names)


@pytest.fixture(scope="module")
def twenty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("films") / "ml-20m.zip"
    film_archives.write("ml-20m", path, users=400, films=700, ratings=16_000)
    return unpacked(path)


@pytest.fixture(scope="module")
def ten(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("films") / "ml-10m.zip"
    film_archives.write("ml-10m", path, users=150, films=640, ratings=6_000)
    return unpacked(path)


def unpacked(archive: Path) -> Path:
    with zipfile.ZipFile(archive) as bundle:
        for name in bundle.namelist():
            (archive.parent / Path(name).name).write_bytes(bundle.read(name))
    return archive


def pairs_of(batch: Interactions, users: Any, items: Any) -> set[Pair]:
    return {(users[user], items[item]) for user, item in zip(batch.owners(), batch.indices, strict=True)}


def parts(cut: Split) -> dict[str, set[Pair]]:
    found = {"train": pairs_of(cut.train, cut.train_users, cut.items)}
    for role, held in (("validation", cut.validation), ("test", cut.test)):
        assert held is not None
        found |= {
            f"{role} {part}": pairs_of(getattr(held, part), held.users, cut.items) for part in ("foldin", "target")
        }
    return found


def text(frame: pd.DataFrame) -> set[Pair]:
    return set(zip(frame["userId"].astype(str), frame["movieId"].astype(str), strict=True))


def as_liang(ratings: pd.DataFrame, held: int, seed: int = 98765) -> dict[str, set[Pair]]:
    """What Liang et al.'s protocol holds out, after the description of their script, in pandas."""
    liked = ratings[ratings["rating"] > 3.5]
    counts = liked.groupby("userId").size()
    liked = liked[liked["userId"].isin(counts.index[counts >= 5])]
    users = np.sort(liked["userId"].unique())
    users = users[np.random.RandomState(seed).permutation(len(users))]
    train = liked[liked["userId"].isin(users[: -2 * held])]
    found = {"train": text(train)}
    for role, chosen in (("validation", users[-2 * held : -held]), ("test", users[-held:])):
        own = liked[liked["userId"].isin(chosen) & liked["movieId"].isin(train["movieId"].unique())]
        rng, given, asked = np.random.RandomState(seed), [], []
        for _, group in own.groupby("userId"):
            mask = np.zeros(len(group), bool)
            if len(group) >= 5:
                mask[rng.choice(len(group), size=int(0.2 * len(group)), replace=False)] = True
                given.append(group[~mask])
                asked.append(group[mask])
        found |= {f"{role} foldin": text(pd.concat(given)), f"{role} target": text(pd.concat(asked))}
    return found


def as_chien(ratings: pd.DataFrame, seed: int = 1234) -> dict[str, set[Pair]]:
    """What Chien et al.'s protocol holds out, after the description of their script, in pandas."""
    train = ratings.sample(frac=0.8, replace=False, random_state=seed)
    rest = ratings[~ratings.index.isin(train.index)]
    validation = rest.sample(frac=0.5, replace=False, random_state=seed)
    test = rest[~rest.index.isin(validation.index)]
    return {"train": text(train), "validation target": text(validation), "test target": text(test)}


def prepared(preset: str, archive: Path, tmp_path: Path, **more: Any) -> Prepared:
    keys = {"data.cache": str(tmp_path), **{name.replace("__", "."): value for name, value in more.items()}}
    return prepare(load_config(preset, keys), archive.parent)


@pytest.mark.parametrize("rows_in_memory", [1_000_000, 2_000])
def test_liang2018_holds_out_whom_and_what_the_published_script_does(
    twenty: Path, tmp_path: Path, rows_in_memory: int
) -> None:
    asked = {"split__held_out_users": HELD, "data__rows_in_memory": rows_in_memory}
    made = prepared("liang2018", twenty, tmp_path, **asked)
    wanted = as_liang(frame_of(twenty), HELD)
    assert parts(made.split) == wanted
    assert set(made.split.items) == {item for _, item in wanted["train"]}
    assert (made.draft is None) == (rows_in_memory > 16_000)
    again = prepared("liang2018", twenty, tmp_path, **asked)  # on disk, what is kept
    assert (again.fingerprint, again.split.metrics, again.exclusions()) == (
        made.fingerprint,
        made.split.metrics,
        made.exclusions(),
    )


@pytest.mark.parametrize("rows_in_memory", [1_000_000, 2_000])
def test_chien2021_holds_out_the_ratings_that_the_published_script_does(
    ten: Path, tmp_path: Path, rows_in_memory: int
) -> None:
    made = prepared("chien2021", ten, tmp_path, data__rows_in_memory=rows_in_memory).split
    ratings, found = frame_of(ten), parts(made)
    wanted = as_chien(ratings)
    assert {part: found[part] for part in wanted} == wanted
    assert sum(map(len, wanted.values())) == len(ratings)
    for role, given in (("validation", wanted["train"]), ("test", wanted["train"] | wanted["validation target"])):
        users = {user for user, _ in wanted[f"{role} target"]}
        assert found[f"{role} foldin"] == {pair for pair in given if pair[0] in users}
    stars = ratings.set_index(["userId", "movieId"])["rating"]
    test = made.test
    for user, item, weight in zip(test.target.owners(), test.target.indices, test.target.weights, strict=True):
        assert weight == stars[int(test.users[user]), int(made.items[item])]


def test_another_seed_is_another_draw(twenty: Path, tmp_path: Path) -> None:
    made = prepared("liang2018", twenty, tmp_path, split__held_out_users=HELD, seed=5)
    assert parts(made.split) == as_liang(frame_of(twenty), HELD, seed=5)


def test_ids_that_are_no_numbers_are_cut_in_their_own_order() -> None:
    rows = [(f"u{user:02}", f"i{item}") for user in range(20) for item in range(6)]
    pairs = positives(read_log(pd.DataFrame(rows, columns=["user", "item"])))
    cut = split(pairs, "liang2018", seed=1, held_out_users=4)
    assert [len(cut.train_users), len(cut.test.users)] == [12, 4]
    assert cut.test.target.counts().tolist() == [1] * 4
    everything = parts(split(pairs, "chien2021", seed=1))
    assert [len(everything[part]) for part in ("train", "validation target", "test target")] == [96, 12, 12]


def test_users_of_few_items_and_items_of_no_training_user_are_left_out_and_said() -> None:
    rows = [(user, item) for user in range(30) for item in range(5 + user % 3)]
    rows += [(user, item) for user in range(100, 104) for item in range(4)]
    rows += [(user, 1000 + user) for user in range(30)]
    cut = split(
        positives(read_log(pd.DataFrame(rows, columns=["user", "item"]))), "liang2018", seed=0, held_out_users=5
    )
    assert cut.skipped == {"users_with_fewer_than_5_items": 4}
    assert {int(item) for item in cut.items if int(item) >= 1000} == {1000 + int(user) for user in cut.train_users}
    made = Prepared("x", cut, None, {}, {}, {}, "", "(2,2)-core")
    assert [each["what"] for each in made.exclusions()] == [
        "data preparation: what lies outside the (2,2)-core was left out",
        "data preparation: what lies outside users with 5 positives or more and the items of training users "
        "was left out",
    ]


def test_the_protocols_own_metric_is_the_headline(twenty: Path, tmp_path: Path) -> None:
    cut = prepared("liang2018", twenty, tmp_path, split__held_out_users=HELD).split
    assert load_config("liang2018").evaluation.ks == (20, 50, 100)
    assert headline(cut, (20, 50, 100)) == "recall_capped@20"
    assert headline(cut, (10,)) == "recall_capped@10"
    assert describe_split(cut)["metrics"] == ["recall_capped@20", "recall_capped@50", "ndcg@100"]


def put_there(archive: Path, name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A made archive where the user would put the published one."""
    (folder / name).mkdir()
    shutil.copy(archive, folder / name / archive.name)
    known, found = registry.dataset(name), hashlib.md5(archive.read_bytes(), usedforsecurity=False).hexdigest()
    local = replace(known, remotes=(replace(known.remotes[0], checksum=f"md5:{found}"),))
    monkeypatch.setitem(registry._BY_NAME, name, local)
    monkeypatch.setenv("PALATE_DATA", str(folder))


def test_liang2018_is_one_command(twenty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_there(twenty, "ml-20m", tmp_path, monkeypatch)
    small = ["--set", f"split.held_out_users={HELD}", "--set", "evaluation.baselines=popularity"]
    done = CliRunner().invoke(app, ["simulate", "liang2018", *small, "--out", str(tmp_path / "run")])
    assert done.exit_code == 0, done.output
    header = next(line for line in done.output.splitlines() if line.startswith("model "))
    assert [header.count(each) for each in ("recall_capped@20", "recall_capped@50", "ndcg@100")] == [1, 1, 1]
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (result["metric"], result["delta"], result["config"]["seed"]) == ("recall_capped@20", 8e-6, 98765)
    assert result["split"]["test_users"] == HELD
    assert result["split"]["items_of_no_training_user"] == 0
    card = (tmp_path / "run" / "privacy_card.json").read_text()
    assert "users with 5 positives or more and the items of training users" in card


def test_chien2021_is_one_command(ten: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_there(ten, "ml-10m", tmp_path, monkeypatch)
    done = CliRunner().invoke(app, ["simulate", "chien2021", "--dp", "off", "--out", str(tmp_path / "run")])
    assert done.exit_code == 0, done.output
    header = next(line for line in done.output.splitlines() if line.startswith("model "))
    assert " rmse " in header
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert 0.7 < result["metrics"]["rmse"]["mean"] < 1.1  # chance alone is 0.8
    assert (result["config"]["privacy"]["delta"], result["config"]["seed"]) == (1e-5, 1234)


@pytest.mark.parametrize(
    ("name", "held", "message"),
    [
        ("liang2018", None, r"more than 20000 users of 5 items or more, to hold out 10000 twice, got 20 users"),
        ("liang2018", 10, r"more than 20 users of 5 items or more, .* `split.held_out_users` holds out fewer"),
        ("strong", 3, r"`held_out_users` is for the split liang2018, got 3 for strong"),
    ],
)
def test_what_a_protocol_cannot_hold_out_is_refused(name: str, held: int | None, message: str) -> None:
    rows = [(user, item) for user in range(20) for item in range(6)]
    pairs = positives(read_log(pd.DataFrame(rows, columns=["user", "item"])))
    with pytest.raises(InputError, match=message) as caught:
        split(pairs, name, seed=0, held_out_users=held)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_nothing_that_is_asked_is_given_or_trained_on(name: str) -> None:
    rows = [(user, item) for user in range(40) for item in range(user % 9 + 3)]
    pairs = positives(read_log(pd.DataFrame(rows, columns=["user", "item"])))
    found = parts(split(pairs, name, seed=3, held_out_users=6 if name == "liang2018" else None))
    for role in ("validation", "test"):
        assert found[f"{role} target"]
        assert not found[f"{role} target"] & (found["train"] | found[f"{role} foldin"])
    assert not found["validation target"] & found["test target"]
