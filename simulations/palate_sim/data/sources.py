r"""Sources: where the bytes of a log lie: a file, several by a pattern, or a folder of parquet files.

The very first step of reading. Nothing is read whole: a source opens streams, and says how large they are.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for part in "ab":
    ...     _ = (folder / f"part-{part}.csv").write_text("user,item\\n1,2\\n")
    >>> [source.name for source in find_sources(str(folder / "part-*.csv"))]
    ['part-a.csv', 'part-b.csv']
"""

from __future__ import annotations

import glob
import io
import stat
from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import BinaryIO

from palate_core.errors import InputError
from palate_sim.data.columns import show


@dataclass(frozen=True)
class ByteSource:
    """One file.

    Attributes:
        name: its name without folders, for messages.
        open: opens it for reading; where it is a local file, the stream can be sought.
        size: its bytes.
    """

    name: str
    open: Callable[[], BinaryIO]
    size: int


def is_pattern(source: object) -> bool:
    """Whether a source is a pattern such as `log/*.parquet`, and no file of that very name exists."""
    if not isinstance(source, (str, PathLike)) or not glob.has_magic(str(source)):
        return False
    try:
        return not Path(source).exists()
    except (OSError, ValueError):
        return False


def find_sources(source: str | PathLike[str]) -> list[ByteSource]:
    """The files of a source, in the order of their names.

    Args:
        source: a file, a folder of parquet files, or a pattern.

    Raises:
        InputError: there is no such file, or it can't be read.
    """
    path = Path(source)
    if is_pattern(source):
        found = [Path(name) for name in sorted(glob.glob(str(source), recursive=True))]  # noqa: PTH207 - it may be absolute
        files = [each for each in found if not each.is_dir()]
        if not files:
            raise InputError(f"`data` must be a pattern of existing files, got none for {show(str(source))}")
        return [_local(each, part=True) for each in files]
    try:
        if path.is_dir():
            parts = sorted(each for each in path.iterdir() if each.suffix in (".parquet", ".pq") and not each.is_dir())
            if not parts:
                raise InputError(f"`data` must be a file, or a folder of parquet files, got the folder {_shown(path)}")
            return [_local(each, part=True) for each in parts]
    except OSError as error:
        raise InputError(f"`data` must be a readable file or folder, got {_shown(path)}: {error.strerror}") from None
    except ValueError:
        raise InputError(f"`data` must be a readable file, got {_shown(path)}: not a file name") from None
    return [_local(path)]


def _local(path: Path, *, part: bool = False) -> ByteSource:
    """A file of this machine; refused here if it can't be opened. A pipe, which can be read once, is read here."""
    shown = show(path.name if part else str(path))
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode) and not (not part and stat.S_ISFIFO(about.st_mode)):
            raise InputError(f"`data` must be a file, got a device or something like it: {shown}")
        with path.open("rb") as stream:
            if stat.S_ISFIFO(about.st_mode):
                data = stream.read()
                return ByteSource(path.name, lambda: io.BytesIO(data), len(data))
    except FileNotFoundError:
        raise InputError(f"`data` must be an existing file, got {shown}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a file name"
        raise InputError(f"`data` must be a readable file, got {shown}: {reason}") from None
    return ByteSource(path.name, lambda: path.open("rb"), about.st_size)


def _shown(path: Path) -> str:
    return show(str(path))
