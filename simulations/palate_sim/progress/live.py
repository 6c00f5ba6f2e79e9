"""The log of a run's events and its lines in the terminal.

The training loop calls a `Progress` with one event dict after each step; the same dicts are the lines of the run
folder's `events.jsonl`.

    with Progress(Path("runs/demo/events.jsonl")) as progress:
        progress({"event": "round", "round": 1, "rounds": 3, "epsilon": 2.1, "recall_capped@20": 0.23, "seconds": 0.8})

Keys read from an event, all optional but `event`: `prepared` name, algorithm, users, items, interactions, privacy
(what stands beside every ε below: dp, delta, unit, adjacency, accountant); `round` round and rounds (the last one),
both counted from 0 as in the ledger, epsilon, loss, seconds since the start and the validation metric under its own
name (or `quality`); `baseline` name and the metric; `evaluated` the metric; `done` seconds; `failed` error. Any other
event (`release`, say) is logged and not shown.
"""

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.status import Status
from rich.text import Text

from palate_common.records.closing import Closing
from palate_sim.progress.wording import (
    PRIMARY,
    clean,
    display_name,
    epsilon_text,
    first_round,
    point,
    round_text,
    rounds_line,
)

LAST_EVENTS = frozenset({"done", "failed"})


class Progress(Closing):
    """Consumes event dicts: appends each to a log and shows it. Use as a context manager, or call `close()`.

    Args:
        path: the `events.jsonl` to append to, one JSON object a line, flushed at once; None shows only.
        console: where to draw; None makes one on stderr, so that stdout stays clean for results.
        quiet: True logs only.
    """

    def __init__(self, path: Path | None = None, *, console: Console | None = None, quiet: bool = False) -> None:
        self._console = console or Console(stderr=True)
        self._quiet = quiet
        self._algorithm: Any = None
        self._status: Status | None = None
        self._log = None
        if path is not None:
            torn = _ends_in_half_a_line(path)
            self._log = path.open("a", encoding="utf-8")
            if torn:
                self._log.write("\n")

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Log and show one event; `at` (UTC, ISO 8601) is added where it is missing."""
        if self._log is not None:
            stamped = {**event, "at": event.get("at") or datetime.now(UTC).isoformat(timespec="milliseconds")}
            self._log.write(json.dumps(stamped, ensure_ascii=False, default=_plain) + "\n")
            self._log.flush()
        if not self._quiet:
            self._show(event)

    def _show(self, event: Mapping[str, Any]) -> None:
        """Print the line of a finished step; on a terminal, keep a spinner below it for the next step."""
        self._algorithm = event.get("algorithm", self._algorithm)
        terminal = self._console.is_terminal
        line = _line({"algorithm": self._algorithm, **event}, self._console.width if terminal else None)
        if line is not None:
            style = {"failed": "bold red", "done": "bold green", "baseline": "dim"}.get(str(event.get("event")), "")
            self._console.print(Text(line, style=style), soft_wrap=not terminal)
        if isinstance(event.get("privacy"), Mapping):
            self._console.print(Text(rounds_line(event["privacy"]), style="dim"), soft_wrap=not terminal)
        if event.get("event") in LAST_EVENTS:
            self._spin(None)
        elif terminal:
            self._spin(_next_step({"algorithm": self._algorithm, **event}))

    def _spin(self, text: str | None) -> None:
        """Start, change or stop the spinner."""
        if text is None:
            if self._status is not None:
                self._status.stop()
                self._status = None
        elif self._status is None:
            self._status = self._console.status(Text(text))
            self._status.start()
        else:
            self._status.update(Text(text))

    def close(self) -> None:
        """Stop drawing and close the log; a second call does nothing."""
        self._spin(None)
        if self._log is not None:
            self._log.close()
            self._log = None


def _ends_in_half_a_line(path: Path) -> bool:
    """Whether a killed run left an incomplete line, to which no event may be appended."""
    if not path.exists() or path.stat().st_size == 0:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() != b"\n"


def _plain(value: Any) -> Any:
    """A numpy number as Python's, anything else as text, so that a value can't fail the log."""
    return value.item() if hasattr(value, "item") else str(value)


def _line(event: Mapping[str, Any], width: int | None) -> str | None:
    """One event in words, None if there is nothing to show; cut to `width` columns, None for no limit."""
    metric = PRIMARY if PRIMARY in event else next((k for k in event if "@" in k), "quality")
    found = point(event.get(metric))
    quality = f"{metric} {found[0]:.3f}" if found else ""
    seconds = f"{event['seconds']:.1f} s" if isinstance(event.get("seconds"), int | float) else ""
    less: list[str] = []  # what is left out first in a narrow terminal
    match event.get("event"):
        case "prepared":
            counts = [f"{event[k]:,} {k}" for k in ("users", "items", "interactions") if isinstance(event.get(k), int)]
            parts = [f"prepared {clean(event.get('name', 'data'))}", *counts, seconds]
        case "round":
            spent = f"ε {epsilon_text(event['epsilon'])} spent" if event.get("epsilon") is not None else ""
            rank = f"mean rank {event['loss']:.3f}" if isinstance(event.get("loss"), int | float) else ""
            parts = [_round(event), spent, f"validation {quality}" if quality else "", rank, seconds]
            less = [rank, seconds]
        case "baseline":
            parts = [f"baseline {display_name(clean(event.get('name', '?')))}", quality, seconds]
        case "evaluated":
            parts = ["evaluated on the test users", quality, seconds]
        case "done":
            parts = ["done", seconds]
        case "failed":
            parts = [f"failed: {clean(event.get('error', 'no reason given'))}"]
        case _:
            return None
    parts = [part for part in parts if part]
    while width is not None and less and len(" · ".join(parts)) > width:
        parts = [part for part in parts if part != less[0]]
        less = less[1:]
    return " · ".join(parts)


def _round(event: Mapping[str, Any]) -> str:
    """Which round, of how many."""
    index, last = event.get("round"), event.get("rounds")
    if not isinstance(index, int):
        return "round ?"
    return round_text(index, last if isinstance(last, int) else None, event.get("algorithm"))


def _next_step(event: Mapping[str, Any]) -> str:
    """What the run does after this event, for the spinner."""
    match event.get("event"):
        case "prepared":
            what = first_round(event.get("algorithm"))
            return f"round 1{f' ({what})' if what else ''}"
        case "round" if isinstance(event.get("rounds"), int) and isinstance(event.get("round"), int):
            more = event["round"] < event["rounds"]
            return round_text(event["round"] + 1, event["rounds"]) if more else "evaluating on the test users"
        case "evaluated":
            return "fitting baselines"
        case "baseline":
            return "baselines, projection, report"
        case _:
            return "working"
