"""An archive that somebody else wrote: nothing of it is written unless all of it is a backup's."""

from __future__ import annotations

import gzip
import io
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from palate_core.errors import InputError
from palate_server.folder import archive
from palate_server.folder.archive import MOST_HEADER, unpack

CONTENT = {
    "server.toml": b'population = "p"\n[training]\nfeatures = "genres.npy"\n',
    "items": b"a\n",
    "key": b"k",
    "ledger.db": b"l",
    "enrolment.db": b"e",
    "genres.npy": b"f",
    "public/models/ab/model": b"m",
    "runs/r/terms": b"t",
}
Entry = tuple[tarfile.TarInfo, bytes]


def entry(name: str, data: bytes = b"", *, kind: bytes = tarfile.REGTYPE, link: str = "") -> Entry:
    made = tarfile.TarInfo(name)
    made.type, made.size, made.linkname, made.mode = kind, len(data), link, 0o4777
    return made, data


def made(*more: Entry, without: str = "") -> bytes:
    """A backup, and then something else."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for info, content in (*(entry(name, content) for name, content in CONTENT.items() if name != without), *more):
            tar.addfile(info, io.BytesIO(content))
    return data.getvalue()


def headers(size: int) -> Entry:
    """A file whose headers are so large."""
    info, data = entry("runs/x", b"x")
    info.pax_headers = {"comment": "c" * size}
    return info, data


def long_way_out() -> list[Entry]:
    """Links that seem to stay inside, since os.path.realpath gives up on them (CVE-2025-4517)."""
    part, letters, found, path = "d" * 247, "abcdefghijklmnop", [], "runs/"
    for letter in letters:
        found += [entry(path + part, kind=tarfile.DIRTYPE), entry(path + letter, kind=tarfile.SYMTYPE, link=part)]
        path += f"{part}/"
    link = f"runs/{'/'.join(letters)}/{'l' * 254}"
    out = entry("runs/escape", kind=tarfile.SYMTYPE, link=f"{link}/../../../outside")
    return [*found, entry(link, kind=tarfile.SYMTYPE, link="../" * 16), out, entry("runs/escape/owned", b"x")]


def test_a_backup_comes_back_for_its_owner_alone_and_what_is_public_for_all(tmp_path: Path) -> None:
    (tmp_path / "backup.tar").write_bytes(made(entry("public/directory", kind=tarfile.DIRTYPE), headers(100)))
    unpack(tmp_path / "backup.tar", tmp_path / "site")
    for name, content in CONTENT.items():
        assert (tmp_path / "site" / name).read_bytes() == content
        assert (tmp_path / "site" / name).stat().st_mode & 0o7777 == (0o644 if name.startswith("public") else 0o600)
    assert (tmp_path / "site" / "public" / "directory").stat().st_mode & 0o7777 == 0o755


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: made(*long_way_out()), "neither a file nor a folder"),
        (lambda: made(entry("runs/key", kind=tarfile.SYMTYPE, link="../key")), "neither a file nor a folder"),
        (lambda: made(entry("runs/key", kind=tarfile.LNKTYPE, link="key")), "neither a file nor a folder"),
        (lambda: made(entry("runs/device", kind=tarfile.CHRTYPE)), "neither a file nor a folder"),
        (lambda: made(entry("runs/pipe", kind=tarfile.FIFOTYPE)), "neither a file nor a folder"),
        (lambda: made(entry("runs/sparse", kind=tarfile.GNUTYPE_SPARSE)), "neither a file nor a folder"),
        (lambda: made(entry("runs/../../escaped", b"x")), "leads elsewhere"),
        (lambda: made(entry("/tmp/escaped", b"x")), "leads elsewhere"),  # noqa: S108 - a name
        (lambda: made(entry("key", b"another")), "stands twice"),
        (lambda: made(entry("./runs//r/terms", b"another")), "stands twice"),
        (lambda: made(entry("state/nginx.conf", b"x")), "'state/nginx.conf', which is in no backup"),
        (lambda: made(entry("ledger.db-wal", b"x")), "'ledger.db-wal', which is in no backup"),
        (lambda: made(entry("other.npy", b"x")), "'other.npy', which is in no backup"),
        (lambda: made(entry("genres.npy", kind=tarfile.DIRTYPE), without="genres.npy"), "which is in no backup"),
        (lambda: made(without="enrolment.db"), "one without enrolment.db"),
        (lambda: made(entry("server.toml", b"x" * 9), without="server.toml"), "must be TOML"),
        (lambda: made(entry("runs/large", bytes(5000))), "more than 4096 bytes"),
        (lambda: made(*(entry(f"runs/{number}") for number in range(8))), "more than 15 files"),
        (lambda: made(headers(MOST_HEADER)), "a header of more than"),
        (lambda: made(entry("runs/x", b"x"))[:-9000], "damaged, or cut short"),
        (lambda: made()[:2200] + b"!" + made()[2201:], "damaged, or cut short"),
        (lambda: gzip.compress(made()), "header"),
        (lambda: lzma.compress(made()), "header"),
        (lambda: b"", "empty"),
    ],
)
def test_an_archive_that_is_no_backup_is_refused_before_anything_is_written(
    content: Callable[[], bytes], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "MOST", 4096)
    monkeypatch.setattr(archive, "MANY", 15)
    (tmp_path / "backup.tar").write_bytes(content())
    with pytest.raises(InputError, match=message) as caught:
        unpack(tmp_path / "backup.tar", tmp_path / "in" / "site")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["backup.tar"]
