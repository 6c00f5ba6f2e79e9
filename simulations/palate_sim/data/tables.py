r"""Tables: the bytes of a log, as named columns of raw values, one batch of rows after the other.

First step of reading. The first bytes of a file, not its name, decide what kind it is: gzip, parquet, or text
separated by "::", tab, comma, semicolon or bar (RecBole's `.inter` is tab-separated text with typed names). Values
stay as they are, and only a batch of them is in memory.

    >>> import io
    >>> table = open_table([ByteSource("log.csv", lambda: io.BytesIO(b"user,item\n1,a\n"), 14)])
    >>> [batch["item_id"].tolist() for batch in table.batches({}, lambda rows: None)]
    [['a']]
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import BinaryIO

import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
import pyarrow.csv as pa_csv  # type: ignore[import-untyped]  # it ships no types
import pyarrow.parquet as pa_parquet  # type: ignore[import-untyped]  # it ships no types

from palate_core.errors import InputError
from palate_sim.data.columns import ColumnMap, find_columns, positions, show, unread
from palate_sim.data.sources import ByteSource

SEPARATORS = ("::", "\t", ",", ";", "|")
CHUNK = 1 << 23  # bytes of text read at once
LONGEST_LINE = 1 << 26  # bytes
ROWS_AT_ONCE = 1 << 20  # of a parquet file
_LINE_END = re.compile(rb"\r\n|\n|\r")
_CONTROL = bytes(set(range(32)) - {9, 10, 12, 13, 28, 29, 30, 31})  # bytes that no text table holds
_ARCHIVES = {b"PK\x03\x04": "a zip archive", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstandard"}

Batch = dict[str, pd.Series]
"""Canonical field -> the values of some rows, as they are in the source."""
Repairs = dict[str, int]
Advance = Callable[[int], None]


@dataclass(frozen=True)
class Table:
    """A log whose columns are known, and whose rows can be read, also more than once.

    Attributes:
        fields: the canonical fields that it has.
        batches: reads all rows: adds what reading repaired to the given counts, and calls the given function with the
            number of units read.
        size: how many units there are.
        unit: "rows" or "bytes".
        unread: names of the columns that are no field.
    """

    fields: tuple[str, ...]
    batches: Callable[[Repairs, Advance], Iterator[Batch]]
    size: int
    unit: str
    unread: tuple[str, ...] = ()


def open_table(sources: Sequence[ByteSource], columns: ColumnMap | None = None) -> Table:
    """Open the files of one log; all have the same columns.

    Raises:
        InputError: one is unreadable, empty, of no known kind, or lacks columns that the first one has.
    """
    parts = [_open(source, columns) for source in sources]
    for source, part in zip(sources, parts, strict=True):
        if part.fields != parts[0].fields or part.unit != parts[0].unit:
            got = ", ".join(part.fields) + ("" if part.unit == parts[0].unit else " in a file of another kind")
            raise InputError(f"`data` must be files with {', '.join(parts[0].fields)}, got {got}: {show(source.name)}")
    if len(parts) == 1:
        return parts[0]

    def batches(repairs: Repairs, advance: Advance) -> Iterator[Batch]:
        for part in parts:
            yield from part.batches(repairs, advance)

    return Table(parts[0].fields, batches, sum(part.size for part in parts), parts[0].unit, parts[0].unread)


def _open(source: ByteSource, columns: ColumnMap | None) -> Table:
    """One file as a table."""
    with closing(source.open()) as stream:
        head = stream.read(4)
    if head == b"PAR1" or source.name.endswith((".parquet", ".pq")):
        return _parquet_table(source, columns)
    if not head.startswith(b"\x1f\x8b") and source.name.endswith(".gz") and head:
        raise InputError(f"`data` must be gzip as its name says, got something else: {show(source.name)}")
    return _text_table(source, columns, packed=head.startswith(b"\x1f\x8b"))


@dataclass(frozen=True)
class _Form:
    """How the rows of a text are written.

    Attributes:
        separator: one character.
        double: whether it stands for "::".
        quoted: whether values may stand in quotation marks.
        width: columns.
        places: canonical field -> position.
        header: whether the first line is one.
        unread: names of the columns that are no field.
    """

    separator: str
    double: bool
    quoted: bool
    width: int
    places: dict[str, int]
    header: bool
    unread: tuple[str, ...] = ()


def _text_table(source: ByteSource, columns: ColumnMap | None, *, packed: bool) -> Table:
    """Separated text, as a table."""
    with closing(source.open()) as raw:
        form = _form(next(_lines(raw, source.name, {}, _ignore, packed=packed)), source.name, columns)

    def batches(repairs: Repairs, advance: Advance) -> Iterator[Batch]:
        with closing(source.open()) as raw:
            yield from _rows(_lines(raw, source.name, repairs, advance, packed=packed), form, source.name, repairs)

    return Table(tuple(form.places), batches, source.size, "bytes", form.unread)


def _ignore(count: int) -> None:
    """Count nothing."""


def _form(first: bytes, name: str, columns: ColumnMap | None) -> _Form:
    """How a text is written, by its beginning.

    Raises:
        InputError: the first line is no header and no choice of positions fits, or columns are missing.
    """
    line_end = _LINE_END.search(first)
    first_line = (first[: line_end.start()] if line_end else first).decode()
    separator = next((mark for mark in SEPARATORS if mark in first_line), ",")
    quoted = separator in (",", ";") or (separator == "\t" and '"' in first_line)
    double = separator == "::"
    if double:
        first_line, separator = first_line.replace("::", "\x1f"), "\x1f"
    try:
        header = next(csv.reader([first_line], delimiter=separator, quotechar='"' if quoted else None))
    except csv.Error:
        raise InputError(f"`data` must begin with a header, got a line that is none: {show(name)}") from None
    places = positions(columns)
    if places is None:
        found = find_columns(header, columns)
        return _Form(separator, double, quoted, len(header), found, header=True, unread=unread(header, found))
    if max(places.values()) >= len(header):
        raise InputError(f"`columns` must be positions below {len(header)}, got {max(places.values())}: {show(name)}")
    return _Form(separator, double, quoted, len(header), places, header=False)


def _rows(lines: Iterator[bytes], form: _Form, name: str, repairs: Repairs) -> Iterator[Batch]:
    """The rows of a text; lines with another number of columns are dropped and counted."""
    ragged = rows = 0

    def skip(row: pa_csv.InvalidRow) -> str:
        nonlocal ragged
        ragged += 1
        return "skip"

    first, second = next(lines), next(lines, b"")
    if form.double:
        first, second = first.replace(b"::", b"\x1f"), second.replace(b"::", b"\x1f")
        lines = (chunk.replace(b"::", b"\x1f") for chunk in lines)
    if form.header:
        line_end = _LINE_END.search(first)
        first = first[line_end.end() :] if line_end else b""
    if not first.strip() and not second.strip():
        raise InputError(f"`data` must hold rows, got only a header: {show(name)}")
    names = [f"c{place}" for place in range(form.width)]
    wanted = {field: names[place] for field, place in form.places.items()}
    try:
        reader = pa_csv.open_csv(
            pa.PythonFile(_Stream(first, second, lines), mode="r"),
            read_options=pa_csv.ReadOptions(column_names=names, block_size=CHUNK),
            parse_options=pa_csv.ParseOptions(
                delimiter=form.separator,
                quote_char='"' if form.quoted else False,
                newlines_in_values=form.quoted and (b'"' in first or bool(second)),
                invalid_row_handler=skip,
            ),
            convert_options=pa_csv.ConvertOptions(
                include_columns=list(wanted.values()),
                column_types=dict.fromkeys(wanted.values(), pa.string()),
                check_utf8=False,
            ),
        )
        for batch in reader:
            rows += batch.num_rows
            yield {field: batch.column(column).to_pandas() for field, column in wanted.items()}
    except pa.ArrowInvalid as error:
        if "straddl" in str(error):
            raise InputError(
                f"`data` must have rows of less than {CHUNK} bytes, got a longer one: {show(name)}"
            ) from None
        raise InputError(f"`data` must be a table of text, got {show(str(error))}: {show(name)}") from None
    if ragged:
        repairs["lines_of_another_width"] = repairs.get("lines_of_another_width", 0) + ragged
    if rows == 0 or ragged > rows:
        got = f"{ragged} of {ragged + rows} lines with another number of columns" if ragged else "no rows"
        raise InputError(f"`data` must hold rows as wide as the first line, got {got}: {show(name)}")


class _Stream(io.RawIOBase):
    """Chunks of bytes as a file, as Arrow's reader wants it."""

    def __init__(self, first: bytes, second: bytes, rest: Iterator[bytes]) -> None:
        super().__init__()
        self._waiting, self._rest = memoryview(first), chain([second], rest)

    def readable(self) -> bool:
        """It can be read."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Read `size` bytes, less at the end only: Arrow refuses a row that is longer than one of its reads."""
        parts: list[memoryview] = []
        missing = size if size >= 0 else sys.maxsize
        while missing:
            if not self._waiting:
                chunk = next(self._rest, None)
                if chunk is None:
                    break
                self._waiting = memoryview(chunk)
            parts.append(self._waiting[:missing])
            self._waiting = self._waiting[missing:]
            missing -= len(parts[-1])
        return b"".join(parts)


def _lines(raw: BinaryIO, name: str, repairs: Repairs, advance: Advance, *, packed: bool) -> Iterator[bytes]:
    """The text in UTF-8, in chunks of whole lines, from its first letter on; what was repaired is counted.

    Raises:
        InputError: it isn't text, is empty or a broken gzip file, or has a line without end.
    """
    stream: BinaryIO = _Packed(gzip.GzipFile(fileobj=raw), name) if packed else raw  # type: ignore[assignment]
    place = 0
    waiting = b""
    begun = False
    head = stream.read(4)
    for magic, kind in _ARCHIVES.items():
        if head.startswith(magic):
            raise InputError(f"`data` must be a text table, gzip or parquet, got {kind}: {show(name)}")
    read = _reader(stream, head, name, repairs)
    while True:
        chunk = read(CHUNK)
        at = raw.tell() if raw.seekable() else place
        advance(at - place)
        place = at
        waiting = waiting + chunk if waiting else chunk
        end = len(waiting) if not chunk else _last_line_end(waiting)
        if chunk and not end and len(waiting) < LONGEST_LINE:
            continue
        if chunk and not end:
            raise InputError(f"`data` must have lines, got one of more than {LONGEST_LINE} bytes: {show(name)}")
        lines, waiting = waiting[:end], waiting[end:]
        lines = _as_utf8(lines, name, repairs)
        if not begun:
            lines = lines.lstrip()
            begun = bool(lines)
        if lines:
            yield lines
        if not chunk:
            break
    if not begun:
        raise InputError(f"`data` must hold a header and rows, got an empty file: {show(name)}")


def _last_line_end(data: bytes) -> int:
    """Where the last whole line ends, 0 if none does."""
    return data.rfind(b"\n") + 1 or data.rfind(b"\r") + 1


class _Packed:
    """A gzip stream whose errors are clear."""

    def __init__(self, stream: gzip.GzipFile, name: str) -> None:
        self._stream, self._name = stream, name

    def read(self, size: int) -> bytes:
        """Read some of what was compressed."""
        try:
            return self._stream.read(size)
        except (OSError, EOFError, zlib.error):
            raise InputError(f"`data` must be a whole gzip file, got a broken one: {show(self._name)}") from None


def _reader(stream: BinaryIO, head: bytes, name: str, repairs: Repairs) -> Callable[[int], bytes]:
    """A function that reads the next bytes of the text in its 8-bit encoding, without a byte-order mark."""
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        repairs["read_as_utf16"] = repairs.get("read_as_utf16", 0) + 1
        decoder = codecs.getincrementaldecoder("utf-16")()
        waiting = head

        def decoded(size: int) -> bytes:
            nonlocal waiting
            while True:
                data, waiting = waiting + stream.read(size), b""
                try:
                    text = decoder.decode(data, final=not data).encode()
                except (UnicodeDecodeError, UnicodeEncodeError):
                    raise InputError(f"`data` must be text, got broken UTF-16: {show(name)}") from None
                if text or not data:
                    return text

        return decoded
    if head.startswith(b"\xef\xbb\xbf"):
        repairs["byte_order_mark"] = repairs.get("byte_order_mark", 0) + 1
        head = head[3:]
    first = [head]
    return lambda size: (first.pop() if first else b"") + stream.read(size)


def _as_utf8(data: bytes, name: str, repairs: Repairs) -> bytes:
    """Whole lines in UTF-8; lines that are not are read as latin-1 and counted."""
    if len(data) != len(data.translate(None, _CONTROL)):
        raise InputError(f"`data` must be a text table, got binary data: {show(name)}")
    try:
        data.decode()
    except UnicodeDecodeError:
        lines = data.split(b"\n")
        for number, line in enumerate(lines):
            try:
                line.decode()
            except UnicodeDecodeError:
                lines[number] = line.decode("latin-1").encode()
                repairs["names_read_as_latin1"] = repairs.get("names_read_as_latin1", 0) + 1
        data = b"\n".join(lines)
    return data


def _parquet_table(source: ByteSource, columns: ColumnMap | None) -> Table:
    """A parquet file, as a table."""
    with closing(source.open()) as stream, _clear(source.name):
        file = pa_parquet.ParquetFile(stream)
        header, size = file.schema_arrow.names, int(file.metadata.num_rows)
        places = find_columns(header, columns)
    wanted = {field: header[place] for field, place in places.items()}

    def batches(repairs: Repairs, advance: Advance) -> Iterator[Batch]:
        with closing(source.open()) as stream:
            with _clear(source.name):
                # Neither the whole file nor a whole column of a row group is to be in memory.
                file = pa_parquet.ParquetFile(stream, pre_buffer=False, buffer_size=CHUNK)
                read = file.iter_batches(ROWS_AT_ONCE, columns=list(wanted.values()))
            while True:
                with _clear(source.name):
                    batch = next(read, None)
                if batch is None:
                    return
                advance(batch.num_rows)
                yield {field: _pandas(batch.column(column)) for field, column in wanted.items()}

    return Table(tuple(places), batches, size, "rows", unread(header, places))


@contextmanager
def _clear(name: str) -> Iterator[None]:
    """Turn Arrow's errors into one clear line."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"`data` must be a whole parquet file, got {show(reason)}: {show(name)}") from None


def _pandas(column: pa.Array) -> pd.Series:
    """A column of a batch; whole numbers stay whole where some are missing."""
    if pa.types.is_integer(column.type) and column.null_count:
        dtype = pd.UInt64Dtype() if pa.types.is_unsigned_integer(column.type) else pd.Int64Dtype()
        found: pd.Series = column.to_pandas(types_mapper=lambda _: dtype)
        return found
    plain: pd.Series = column.to_pandas()
    return plain
