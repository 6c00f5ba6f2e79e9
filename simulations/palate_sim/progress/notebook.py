"""The bar of a run in a notebook: one output of the cell, drawn anew with each step and empty at the end.

It needs no widgets: a browser draws `<progress>`, and a page that was saved has no bar in it.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from palate_sim.progress.steps import said


class NotebookBar:
    """One output below a cell; nothing is shown until `show` is called."""

    def __init__(self) -> None:
        self._output: Any = None

    def show(self, doing: str, latest: Mapping[str, Any] | None) -> None:
        """Draw the latest step, or else what is done."""
        event = latest or {}
        words = doing if latest is None else said(latest)
        done, of = event.get("done"), event.get("of")
        share = f' value="{int(done or 0)}" max="{int(of)}"' if isinstance(of, int) and of else ""
        self._draw(f"<progress{share}></progress> <small>{html.escape(words)}</small>")

    def clear(self) -> None:
        """Leave nothing of it."""
        if self._output is not None:
            self._draw("")
            self._output = None

    def _draw(self, markup: str) -> None:
        from IPython.display import HTML, display  # only a notebook has it

        if self._output is None:
            self._output = display(HTML(markup), display_id=True)  # type: ignore[no-untyped-call]  # IPython's
        else:
            self._output.update(HTML(markup))  # type: ignore[no-untyped-call]  # IPython's
