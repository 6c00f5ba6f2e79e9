"""What a person sees in the terminal: a line per round while it runs, a table when it is done.

The training loop emits event dicts; this package logs and shows them.

    with Progress(folder / "events.jsonl") as progress:
        run(config, on_event=progress)
    print_result(Console(), result, report=folder / "report.html")
"""

from palate_sim.progress.live import Progress, wanted
from palate_sim.progress.table import print_result, result_table

__all__ = ["Progress", "print_result", "result_table", "wanted"]
