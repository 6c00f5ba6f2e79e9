"""Logs: what each process of a server says, as JSON lines with time, level and part, bounded, and without identifiers.

    stdout and stderr of a part -> PartLog.read -> {"at": ..., "level": "error", "part": "gateway", "text": "..."}

Flower, nginx and libraries write what they like. Here colours are removed, and whatever could name a device: addresses,
numbers of nodes, keys, tokens. A file above its size is renamed, and a few former ones are kept.

>>> harmless("peer 203.0.113.7:4711 is node 18446744073709551615")
'peer ADDRESS is node #'
"""

from __future__ import annotations

import ipaddress
import json
import logging
import re
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Literal

Level = Literal["debug", "info", "warning", "error"]

MOST, KEEP = 2**24, 3
"""Bytes of a file above which it is renamed, and how many former ones are kept."""
LINE = 2**13
"""The most characters of a line; the rest is cut."""
_LEVELS: dict[str, Level] = {
    "debug": "debug", "info": "info", "notice": "info", "warn": "warning", "warning": "warning", "error": "error",
    "crit": "error", "critical": "error", "alert": "error", "emerg": "error", "fatal": "error",
}  # fmt: skip
_COLOUR = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])|[\x7f-\x9f]")
_OURS = re.compile(r"^([A-Z]+)\s*:\s+(.*)$", re.DOTALL)  # Flower, uvicorn
_NGINX = re.compile(r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[([a-z]+)\] (.*)$", re.DOTALL)
_ADDRESS = re.compile(
    r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.]*\.\d)(?::\d+)?|"
    r"\[?(?<![\w:])(?:[0-9A-Fa-f]{0,4}:){2,7}(?:(?:\d{1,3}\.){3}\d{1,3}|[0-9A-Fa-f]{1,4})?(?![\w:])\]?(?::\d+)?"
)
_BRACKETS = re.compile(r"%5B([0-9A-Fa-f:.]+)(?:%25[\w.-]*)?%5D", re.IGNORECASE)  # as gRPC writes a peer
SECRET = re.compile(
    r"(?<![0-9A-Fa-f])[0-9A-Fa-f]{32,}|"
    r"(?<![\w/.-])[A-Za-z0-9_-]{40,}(?![\w/-]|\.\w)|"  # base64url, and not a part of a path
    r"(?<![\w-])(?=[A-Za-z_-]*\d)(?=[a-z0-9_-]*[A-Z])(?=[A-Z0-9_-]*[a-z])[A-Za-z0-9_-]{40,}|"  # or one that looks so
    r"(?<![\w/+.-])[A-Za-z0-9+/]{38,}={1,2}|^[A-Za-z0-9+/=]{40,}$|"  # base64
    r"(?<![\w/+.-])(?=[A-Za-z+/]*\d)(?=[a-z0-9+/]*[A-Z])(?=[A-Z0-9+/]*[a-z])[A-Za-z0-9+][A-Za-z0-9+/]{39,}|"
    r"\bb'[^'\n]*\\x[^'\n]*'|\bb\"[^\"\n]*\\x[^\"\n]*\"|"  # bytes, as Python writes them
    r"(?<!\d)\d{12,}"  # the last one: a key may begin with so many digits
)
"""Numbers of nodes, keys, tokens and other bytes."""


class PartLog:
    """The log of one part. Several processes may write to it: each line is one write.

    Args:
        file: its file, in an existing folder.
        part: the part's name.
        most: bytes above which the file is renamed.
        keep: how many former files are kept, as `NAME.1.log`, `NAME.2.log`...
    """

    def __init__(self, file: Path, part: str, *, most: int = MOST, keep: int = KEEP) -> None:
        self.file, self.part = file, part
        self._most, self._keep = most, keep
        self._traced = False

    def begin(self) -> None:
        """Make the file, so that one who looks for it finds it empty."""
        with suppress(OSError):
            self.file.touch(mode=0o600)

    def tell(self, text: str, level: Level = "info") -> None:
        """Write a line. On a full disk it is lost: no part may stand still for its log."""
        line = {
            "at": datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds"),
            "level": level,
            "part": self.part,
            "text": harmless(text)[:LINE],
        }
        with suppress(OSError):
            self._turn()
            with self.file.open("ab", buffering=0) as file:
                file.write(json.dumps(line, ensure_ascii=False).encode(errors="replace") + b"\n")

    def read(self, line: bytes) -> None:
        """Write what a process has said: a line as it came, its level found in it; empty ones are left out."""
        text = _COLOUR.sub("", line.decode(errors="replace")).rstrip()
        if not text:
            return
        for pattern in (_OURS, _NGINX):
            found = pattern.match(text)
            if found is not None and (level := _LEVELS.get(found[1].lower())) is not None:
                self._traced = False
                self.tell(found[2], level)
                return
        if text.startswith("Traceback ("):
            self._traced = True
        self.tell(text, "error" if self._traced or text.startswith("palate: ") else "info")
        self._traced = self._traced and not re.match(r"\w[\w.]*(Error|Exception|Interrupt|Exit)\b", text)

    def follow(self, stream: BinaryIO) -> None:
        """Write all that comes from a stream, until it ends."""
        with stream, suppress(OSError, ValueError):
            while line := stream.readline(4 * LINE):
                self.read(line)
                while line and not line.endswith(b"\n"):  # in two pieces a key would be none
                    line = stream.readline(4 * LINE)

    def _turn(self) -> None:
        """Rename a file that is too large, and those before it."""
        if not self.file.exists() or self.file.stat().st_size < self._most:
            return
        for number in range(self._keep - 1, 0, -1):
            with suppress(FileNotFoundError):
                self._former(number).replace(self._former(number + 1))
        if self._keep:
            self.file.replace(self._former(1))
        else:
            self.file.unlink()

    def _former(self, number: int) -> Path:
        return self.file.with_suffix(f".{number}{self.file.suffix}")


class LogHandler(logging.Handler):
    """Hands the records of Python's loggers to a log; of an exception its kind alone, as its words may have values.

    Args:
        log: the log.
    """

    def __init__(self, log: PartLog) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        text = record.getMessage()
        if record.exc_info and record.exc_info[0] is not None:
            text += f": {record.exc_info[0].__name__}"
        level: Level = "error" if record.levelno >= logging.ERROR else "warning"
        self._log.tell(text, level if record.levelno >= logging.WARNING else "info")


def harmless(text: str) -> str:
    """A text without colours, addresses but the loopback's, long numbers, keys and tokens."""
    return SECRET.sub("#", _ADDRESS.sub(_place, unwrapped(_COLOUR.sub("", text))))


def unwrapped(text: str) -> str:
    """A text in which addresses whose brackets were encoded have them again."""
    return _BRACKETS.sub(r"[\1]", text)


def _place(found: re.Match[str]) -> str:
    """What stands for an address: itself if it is this machine's or none."""
    whole = found[0]
    plain = whole.strip("[]") if whole.count(":") != 1 and "]:" not in whole else whole.partition("]:")[0].strip("[")
    plain = plain.partition(":")[0] if plain.count(":") == 1 else plain
    try:
        address = ipaddress.ip_address(plain)
    except ValueError:
        return whole
    return whole if address.is_loopback or address.is_unspecified else "ADDRESS"
