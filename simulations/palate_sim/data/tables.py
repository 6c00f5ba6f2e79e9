r"""Tables: the bytes of a log file, as named columns of text.

First step of reading. The first bytes of a file, not its name, decide what kind it is: gzip, parquet, or text
separated by "::", tab, comma, semicolon or bar (RecBole's `.inter` is tab-separated text with typed names). Values
stay as they are.

    >>> table = parse_text(b"user,item\n1,a\n", "log.csv")
    >>> table.columns["item_id"].tolist(), table.repairs
    (['a'], {})
"""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
import pyarrow.csv as pa_csv  # type: ignore[import-untyped]  # it ships no types
import pyarrow.parquet as pa_parquet  # type: ignore[import-untyped]  # it ships no types

from palate_common.errors import InputError
from palate_sim.data.columns import ColumnMap, find_columns, positions, show

SEPARATORS = ("::", "\t", ",", ";", "|")
_LINE_END = re.compile(rb"\r\n|\n|\r")
_CONTROL = bytes(set(range(32)) - {9, 10, 12, 13, 28, 29, 30, 31})  # bytes that no text table holds
_ARCHIVES = {b"PK\x03\x04": "a zip archive", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstandard"}


@dataclass(frozen=True)
class Table:
    """The columns of a file by canonical field, with unchanged values, and the counts of repairs made to read them."""

    columns: dict[str, pd.Series]
    repairs: dict[str, int]


def read_table(path: Path, columns: ColumnMap | None = None) -> Table:
    """Read a file of any supported kind.

    Raises:
        InputError: the file is missing, a folder, unreadable, empty, broken, of no known kind, or lacks columns.
    """
    try:
        if path.is_dir():
            raise InputError(f"`data` must be a file, got the folder {show(str(path))}")
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"`data` must be an existing file, got {show(str(path))}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a file name"
        raise InputError(f"`data` must be a readable file, got {show(str(path))}: {reason}") from None
    if data[:4] == b"PAR1" or path.suffix in (".parquet", ".pq"):
        return _parse_parquet(path, columns)
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error):
            raise InputError(f"`data` must be a whole gzip file, got a broken one: {show(path.name)}") from None
    elif path.suffix == ".gz" and data:
        raise InputError(f"`data` must be gzip as its name says, got something else: {show(path.name)}")
    return parse_text(data, path.name, columns)


def parse_text(data: bytes, name: str, columns: ColumnMap | None = None) -> Table:
    """Parse separated text.

    Args:
        data: the whole file, not compressed.
        name: what to call it in a message.
        columns: explicit columns by name; by position for a file without a header.

    Raises:
        InputError: not text, empty, only a header, without the needed columns, or mostly lines of another width.
    """
    repairs: dict[str, int] = {}
    data = _as_utf8(data, name, repairs)
    data = data.lstrip()
    if not data:
        raise InputError(f"`data` must hold a header and rows, got an empty file: {show(name)}")
    line_end = _LINE_END.search(data)
    first_line = (data[: line_end.start()] if line_end else data).decode()
    separator = next((mark for mark in SEPARATORS if mark in first_line), ",")
    quoted = separator in (",", ";") or (separator == "\t" and '"' in first_line)
    if separator == "::":
        data, first_line, separator = data.replace(b"::", b"\x1f"), first_line.replace("::", "\x1f"), "\x1f"
        line_end = _LINE_END.search(data)
    try:
        header = next(csv.reader([first_line], delimiter=separator, quotechar='"' if quoted else None))
    except csv.Error:
        raise InputError(f"`data` must begin with a header, got a line that is none: {show(name)}") from None
    places, start = positions(columns), 0
    if places is None:
        places, start = find_columns(header, columns), line_end.end() if line_end else len(data)
    elif max(places.values()) >= len(header):
        raise InputError(f"`columns` must be positions below {len(header)}, got {max(places.values())}: {show(name)}")
    table, ragged = _parse_arrow(data, start, name, len(header), places, separator, quoted=quoted)
    if ragged:
        repairs["lines_of_another_width"] = ragged
    if table.num_rows == 0 or ragged > table.num_rows:
        got = f"{ragged} of {ragged + table.num_rows} lines with another number of columns" if ragged else "no rows"
        raise InputError(f"`data` must hold rows as wide as the first line, got {got}: {show(name)}")
    frame = {field: table.column(f"c{place}").to_pandas() for field, place in places.items()}
    return Table(frame, repairs)


def _parse_arrow(
    data: bytes, start: int, name: str, width: int, places: dict[str, int], separator: str, *, quoted: bool
) -> tuple[pa.Table, int]:
    """The wanted columns of the rows from byte `start`, and how many lines had another number of columns."""
    ragged: list[int] = []

    def skip(row: pa_csv.InvalidRow) -> str:
        ragged.append(row.actual_columns)
        return "skip"

    wanted = [f"c{place}" for place in places.values()]
    try:
        table = pa_csv.read_csv(
            pa.py_buffer(data).slice(start),
            read_options=pa_csv.ReadOptions(column_names=[f"c{place}" for place in range(width)], block_size=1 << 23),
            parse_options=pa_csv.ParseOptions(
                delimiter=separator,
                quote_char='"' if quoted else False,
                newlines_in_values=quoted and b'"' in data,
                invalid_row_handler=skip,
            ),
            convert_options=pa_csv.ConvertOptions(
                include_columns=wanted, column_types={column: pa.string() for column in wanted}, check_utf8=False
            ),
        )
    except pa.ArrowInvalid as error:
        if not data[start:].strip():
            raise InputError(f"`data` must hold rows, got only a header: {show(name)}") from None
        raise InputError(f"`data` must be a table of text, got {show(str(error))}: {show(name)}") from None
    return table, len(ragged)


def _as_utf8(data: bytes, name: str, repairs: dict[str, int]) -> bytes:
    """The text in UTF-8 without a byte-order mark; lines that are not UTF-8 are read as latin-1 and counted."""
    for magic, kind in _ARCHIVES.items():
        if data.startswith(magic):
            raise InputError(f"`data` must be a text table, gzip or parquet, got {kind}: {show(name)}")
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        try:
            data = data.decode("utf-16").encode()
        except UnicodeDecodeError:
            raise InputError(f"`data` must be text, got broken UTF-16: {show(name)}") from None
        repairs["read_as_utf16"] = 1
    if data.startswith(b"\xef\xbb\xbf"):
        data = data[3:]
        repairs["byte_order_mark"] = 1
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


def _parse_parquet(path: Path, columns: ColumnMap | None) -> Table:
    try:
        file = pa_parquet.ParquetFile(path)
        header = file.schema_arrow.names
        places = find_columns(header, columns)
        table = file.read([header[place] for place in places.values()])
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"`data` must be a whole parquet file, got {show(reason)}: {show(path.name)}") from None
    return Table({field: table.column(header[place]).to_pandas() for field, place in places.items()}, {})
