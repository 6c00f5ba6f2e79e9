"""The log of a run's events and its lines in the terminal.

The training loop calls a `Progress` with one event dict after each step; the same dicts are the lines of the run
folder's `events.jsonl`.

    with Progress(Path("runs/demo/events.jsonl")) as progress:
        progress({"event": "round", "round": 1, "rounds": 3, "epsilon": 2.1, "recall_capped@20": 0.23, "seconds": 0.8})

Keys read from an event, all optional but `event`: `prepared` name, algorithm, users, items, interactions, privacy
(what stands beside every ε below: dp, delta, unit, adjacency, accountant); `round` round and rounds (the last one),
both counted from 0 as in the ledger, epsilon, mean_rank (of held-out items: 0 top, 1 end), seconds since the start and
the validation metric under its own name (or `quality`); `baseline` name and the metric; `evaluated` the metric;
`measured` what a study measured: seed, what, epsilon, value; `note` words; `done`
seconds; `failed` error. Any other event (`release`,
say) is logged and not shown.

A `step` of `palate_sim.steps` is a bar below the lines on a terminal and in a notebook. Elsewhere, where it takes long,
it is a line every 2 s at most. Only its end is logged.
"""

import json
import os
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.text import Text

from palate_common.records.closing import Closing
from palate_sim.metrics import RATING_METRICS
from palate_sim.progress.notebook import NotebookBar
from palate_sim.progress.steps import said, title
from palate_sim.progress.wording import (
    MEAN_RANK,
    PRIMARY,
    clean,
    display_name,
    epsilon_text,
    first_round,
    looked_at,
    point,
    round_text,
    rounds_line,
)

LAST_EVENTS = frozenset({"done", "failed"})
STYLES = {"failed": "bold red", "note": "yellow", "done": "bold green", "baseline": "dim"}
LINES_EVERY = 2.0
"""Seconds between two lines of a step where no bar can be drawn, and before the first one."""


class Progress(Closing):
    """Consumes event dicts: appends each to a log and shows it. Use as a context manager, or call `close()`.

    Args:
        path: the `events.jsonl` to append to, one JSON object a line, flushed at once; None shows only.
        console: where to draw; None makes one on stderr, so that stdout stays clean for results.
        quiet: True logs only.
        every: seconds between two lines of a step where no bar can be drawn.
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        console: Console | None = None,
        quiet: bool = False,
        every: float = LINES_EVERY,
    ) -> None:
        self._console = console or Console(stderr=True)
        self._quiet = quiet
        self._algorithm: Any = None
        self._doing = ""
        self._open: dict[str, Mapping[str, Any]] = {}  # the latest event of each step that isn't over
        self._bars: Bars | None = None
        self._rows: dict[str, TaskID] = {}
        self._every, self._said = every, time.monotonic()
        self._cell = NotebookBar()
        self._log = None
        if path is not None:
            torn = _ends_in_half_a_line(path)
            self._log = path.open("a", encoding="utf-8")
            if torn:
                self._log.write("\n")

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Log and show one event; `at` (UTC, ISO 8601) is added where it is missing."""
        if self._log is not None and (event.get("event") != "step" or event.get("over")):
            stamped = {
                **event,
                "at": event.get("at") or datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds"),
            }
            self._log.write(json.dumps(stamped, ensure_ascii=False, default=_plain) + "\n")
            self._log.flush()
        if not self._quiet:
            self._show(event)

    def _show(self, event: Mapping[str, Any]) -> None:
        """Print the line of an event; keep a bar or a spinner below it, on a terminal, for what is done next."""
        if event.get("event") == "step":
            self._step(event)
            return
        self._algorithm = event.get("algorithm", self._algorithm)
        terminal = self._console.is_terminal
        line = _line({"algorithm": self._algorithm, **event}, self._console.width if terminal else None)
        if line is not None:
            style = STYLES.get(str(event.get("event")), "")
            self._console.print(Text(line, style=style), soft_wrap=not terminal)
            self._said = time.monotonic()
        if isinstance(event.get("privacy"), Mapping):
            for words in (rounds_line(event["privacy"]), MEAN_RANK):
                self._console.print(Text(words, style="dim"), soft_wrap=not terminal)
        if event.get("event") in LAST_EVENTS:
            self._end()
        elif event.get("event") != "note":
            self._doing = _next_step({"algorithm": self._algorithm, **event})
            self._draw()

    def _step(self, event: Mapping[str, Any]) -> None:
        """Take in a step's event; without a terminal, say of one that takes long how far it is, from time to time."""
        name = str(event.get("step"))
        if event.get("over"):
            self._open.pop(name, None)
        else:
            self._open[name] = dict(event)
            now, drawn = time.monotonic(), self._console.is_jupyter or self._console.is_terminal
            if not drawn and event.get("seconds", 0.0) >= self._every <= now - self._said:
                self._console.print(Text(said(event), style="dim"), soft_wrap=True)
                self._said = now
        self._draw()

    def _draw(self) -> None:
        """What is done, and below it a bar for each step that isn't over; nothing without a terminal."""
        if self._console.is_jupyter:
            self._cell.show(self._doing, next(reversed(self._open.values()), None))
            return
        if not self._console.is_terminal:
            return
        if self._bars is None:
            words = TextColumn("{task.description}", markup=False)
            columns = (SpinnerColumn(), words, BarColumn(bar_width=20), TaskProgressColumn(), TimeRemainingColumn())
            self._bars = Bars(*columns, console=self._console, transient=True)
            self._bars.start()
        rows = {**({"": {"step": self._doing}} if self._doing else {}), **self._open}
        for name in self._rows.keys() - rows.keys():
            self._bars.remove_task(self._rows.pop(name))
        for name, event in rows.items():
            if name not in self._rows:
                self._rows[name] = self._bars.add_task(title(event), total=event.get("of"))
            self._bars.update(self._rows[name], description=title(event), completed=event.get("done") or 0)

    def _end(self) -> None:
        """Stop drawing."""
        self._open.clear()
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
            self._rows.clear()
        self._cell.clear()

    def close(self) -> None:
        """Stop drawing and close the log; a second call does nothing."""
        self._end()
        if self._log is not None:
            self._log.close()
            self._log = None


def wanted(progress: bool | None) -> bool:
    """Whether to show progress, where None asks for it on a terminal and in a notebook."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules if progress is None else progress


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
    metric = PRIMARY if PRIMARY in event else next((k for k in event if "@" in k or k in RATING_METRICS), "quality")
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
            rank = f"mean rank {event['mean_rank']:.3f}" if isinstance(event.get("mean_rank"), int | float) else ""
            low, high = event.get("low"), event.get("high")
            sure = isinstance(low, int | float) and isinstance(high, int | float)
            looked = f"validation {quality}{f' ({low:.3f} – {high:.3f})' if sure else ''}" if quality else ""
            on = looked_at(event).replace("validation ", "")  # the line says so already
            parts = [_round(event), spent, looked, on, rank, seconds]
            less = [on, rank, seconds]
        case "baseline":
            parts = [f"baseline {display_name(clean(event.get('name', '?')))}", quality, seconds]
        case "evaluated":
            parts = ["evaluated on the test users", quality, seconds]
        case "measured":
            spent = f"ε {event['epsilon']:g}" if event.get("epsilon") is not None else ""
            value = f"{clean(event.get('words', ''))} {event['value']:.4f}".strip()
            parts = [f"seed {event['seed']}", clean(event.get("what", "?")), spent, value]
        case "done":
            parts = ["done", seconds]
        case "note":
            parts = [clean(event.get("words", ""))]
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
