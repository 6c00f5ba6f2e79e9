"""Files: the records of a file that a service hands out, one after another: of a CSV, of JSON, or of a zip of them.

    file -> records, each a function of a column's name -> FileFormat -> rows

What a file is, its content says: a service's files are renamed, and their names differ by language. Sizes, counts and
ratios are bounded before anything is unpacked, and a file is never in memory as a whole. The browser's `files.ts` reads
the same.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from palate_client.history.formats import TABLES, FileFormat, column
from palate_core.errors import InputError

MOST_BYTES = 2**30
"""Bytes of a file, and of what a zip file holds, at most."""
MOST_MEMBERS = 10_000
"""Files of a zip file at most."""
MOST_DIRECTORY = 2**22
"""Bytes that say which files a zip file has, at most: they are read at once."""
MOST_RATIO = 300
"""How many times a file of a zip file may be larger than what it was packed to; what services pack is below 50."""
MOST_RECORD = 2**20
"""Characters of a record of CSV, or of a value of a JSON list, at most."""
HEAD, CHUNK = 2**16, 2**16
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, UnicodeDecodeError)
"""What a damaged or encrypted zip file raises while it is read."""
_ASIDE = re.compile(r"(^|/)(deleted|orphaned|likes|lists|__MACOSX)/|(^|/)\.", re.IGNORECASE)
"""Files of a zip file that are not looked at: what was deleted, what was only liked or planned, a system's own."""

Record = Callable[[str], str]
"""A column's name -> what the record has there, as text; empty: nothing."""
Records = Iterator[Record | None]
"""None: a line of a CSV with more or fewer cells than its header, of which no cell can be trusted."""


@dataclass(frozen=True)
class ServiceFile:
    """A file, or one of a zip file, that a table describes."""

    table: FileFormat
    opened: Callable[[], IO[bytes]]
    delimiter: str

    def records(self) -> Records:
        """Its records, read anew.

        Raises:
            InputError: it is damaged, or a record too long.
        """
        try:
            with self.opened() as file:
                text = _text(file)
                if not self.table.json:
                    yield from _csv(text, self.table, self.delimiter)
                    return
                for value in _objects(text):
                    yield partial(at_path, value)
        except _BROKEN as error:
            raise InputError(f"`path` must be a whole file, got one that can't be read: {error!s:.80}") from None


class _Bounded(io.BufferedReader):
    """A zip file of which no more is read at once than a directory may have: `zipfile` reads as much as it says."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Read so many bytes."""
        if size is not None and size > MOST_DIRECTORY:
            raise InputError(f"`path` must be a zip file of at most {MOST_MEMBERS} files, got {size} bytes of names")
        return super().read(size)


@contextmanager
def members_of(path: Path) -> Iterator[list[ServiceFile]]:
    """The files that some table describes, in the order of the tables.

    Raises:
        InputError: the file can't be read, is too large, or nothing that a service hands out.
    """
    with ExitStack() as stack:
        try:
            if path.stat().st_size > MOST_BYTES:
                raise InputError(f"`path` must be a file of at most {MOST_BYTES} bytes, got more")
            head = stack.enter_context(path.open("rb")).read(4)
            if head != b"PK\x03\x04":
                found, why = [_member(path.name, lambda: path.open("rb"))], ""
            else:
                archive = stack.enter_context(zipfile.ZipFile(stack.enter_context(_Bounded(io.FileIO(path)))))
                found, why = [_member(name, opened) for name, opened in _unpacked(archive)], "a zip file without one"
        except _BROKEN as error:
            raise InputError(f"`path` must be a readable file, got {path}: {error!s:.80}") from None
        members = [each for each in found if isinstance(each, ServiceFile)]
        services = sorted({each.table.format for each in members})
        if len(services) > 1:
            raise InputError(f"`path` must have the files of one service, got {', '.join(services)}")
        if not members:
            known = ", ".join(dict.fromkeys(table.format for table in TABLES))
            why = why or next(each for each in found if isinstance(each, str))
            raise InputError(f"`path` must be a file of one of {known}, got {why}")
        yield sorted(members, key=lambda each: TABLES.index(each.table))


def _unpacked(archive: zipfile.ZipFile) -> Iterator[tuple[str, Callable[[], IO[bytes]]]]:
    """Names of the files in a zip file that may be looked at, and what opens them."""
    infos = archive.infolist()
    if len(infos) > MOST_MEMBERS:
        raise InputError(f"`path` must be a zip file of at most {MOST_MEMBERS} files, got {len(infos)}")
    chosen = [
        each
        for each in infos
        if each.filename.lower().endswith((".csv", ".json", ".jsonl")) and not _ASIDE.search(each.filename)
    ]
    if sum(each.file_size for each in chosen) > MOST_BYTES:
        raise InputError(f"`path` must be a zip file of at most {MOST_BYTES} bytes when unpacked, got more")
    for each in chosen:
        if each.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # what a browser reads
            raise InputError("`path` must be a zip file as a service packs it, got one packed in another way")
        if each.file_size > HEAD + MOST_RATIO * each.compress_size:
            raise InputError(f"`path` must be a zip file as a service packs it, got one packed over {MOST_RATIO} times")
        yield each.filename.rpartition("/")[2], partial(archive.open, each)


def _member(name: str, opened: Callable[[], IO[bytes]]) -> ServiceFile | str:
    """The file with its table, or what it is instead."""
    with opened() as file:
        head = _decoder(file.read(HEAD))[1]
    start = head.lstrip()[:1]
    if start == "<":
        return "a page: ask the service for JSON or CSV"
    if start in ("[", "{"):
        first = next(_objects(io.StringIO(head), cut=True), {})
        for table in TABLES:
            if table.json and table.fits(name, first):
                return ServiceFile(table, opened, "")
        return "JSON of another kind"
    line = next(iter(head.splitlines()), "")
    for delimiter in ",;\t":
        try:
            header = next(csv.reader([line], delimiter=delimiter), [])
        except csv.Error:
            continue
        for table in TABLES:
            if not table.json and table.fits(name, header):
                return ServiceFile(table, opened, delimiter)
    return f"the columns {line[:200]!r}"


def _decoder(head: bytes) -> tuple[str, str]:
    """The encoding of a file, and the text of its head. Spreadsheets write UTF-16, or what Windows once wrote."""
    encoding = "utf-16" if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
    try:
        codecs.getincrementaldecoder(encoding)().decode(head)
    except UnicodeDecodeError:
        encoding = encoding if encoding == "utf-16" else "cp1252"
    return encoding, codecs.getincrementaldecoder(encoding)("replace").decode(head)


def _text(file: IO[bytes]) -> io.TextIOWrapper:
    """A file as text, from its start."""
    encoding = _decoder(file.read(HEAD))[0]
    file.seek(0)
    return io.TextIOWrapper(file, encoding, errors="replace", newline="")


def _csv(text: IO[str], table: FileFormat, delimiter: str) -> Records:
    places: dict[str, int] = {}
    length = size = 0

    def lines() -> Iterator[str]:
        nonlocal size
        while line := text.readline(MOST_RECORD + 1):
            size += len(line)  # a record goes on as long as its quotes are open
            if size > MOST_RECORD:
                raise InputError(f"a line of `path` must be at most {MOST_RECORD} characters, got more")
            yield line

    try:
        for cells in csv.reader(lines(), delimiter=delimiter):
            size = 0
            if not any(cells):
                continue
            if not places:
                header = [column(each) for each in (table.columns or cells)]
                places, length = {name: place for place, name in enumerate(header)}, len(header)
                if not table.columns:
                    continue
            yield _line(cells, places) if len(cells) == length else None
    except csv.Error as error:
        raise InputError(f"`path` must be a CSV file, got one with a line that isn't: {error!s:.80}") from None


def _line(cells: Sequence[str], places: dict[str, int]) -> Record:
    def value(column: str) -> str:
        place = places.get(column)
        if place is None:
            return ""
        cell = cells[place].strip()
        return cell[2:-1] if cell.startswith('="') and cell.endswith('"') and len(cell) > 2 else cell  # for Excel

    return value


def _objects(text: IO[str], *, cut: bool = False) -> Iterator[dict[str, Any]]:
    """The objects of a JSON list, or those of lines.

    Args:
        text: the file.
        cut: whether the text is only the start of one.
    """
    buffer, place, decoder, more = "", 0, json.JSONDecoder(parse_constant=_refuse), True
    while True:
        while place < len(buffer) and buffer[place] in " \t\r\n,[]\ufeff":
            place += 1
        try:
            value, place = decoder.raw_decode(buffer, place)
        except RecursionError:
            raise InputError("`path` must be JSON, got levels of nesting without end") from None
        except ValueError as error:
            if more and len(buffer) - place <= MOST_RECORD:
                read = text.read(CHUNK)
                buffer, place, more = buffer[place:] + read, 0, bool(read)
                continue
            if place < len(buffer) and not cut:
                raise InputError(f"`path` must be JSON, got something else: {str(error)[:80]}") from None
            return
        if isinstance(value, dict):
            yield value


def at_path(value: Any, path: str) -> str:  # called a million times
    """What is at a path of keys and places, such as `movie.ids.imdb`."""
    if type(found := value.get(path)) is str:
        return found.strip()
    for name in path.split("."):
        if isinstance(value, dict):
            value = value.get(name)
        elif isinstance(value, list) and name.isdigit():
            value = value[int(name)] if int(name) < len(value) else None
        else:
            return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e15:
        return str(int(value)) if value == int(value) else repr(value)
    return ""


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
