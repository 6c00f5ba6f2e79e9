"""The self-contained HTML report of a run.

Place in the path: the last thing a run writes; it reads the dicts of `result.json` and `privacy_card.json`.

    write_report(result, card, Path("runs/demo"))  # -> runs/demo/report.html
"""

from palate_sim.report.page import write_report

__all__ = ["write_report"]
