"""The self-contained HTML report of a run.

It is written last, from the dicts of `result.json` and `privacy_card.json`.

    write_report(result, card, Path("runs/demo"))  # -> runs/demo/report.html
"""

from palate_sim.report.page import write_report

__all__ = ["write_report"]
