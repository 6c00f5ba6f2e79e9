"""Command lines in processes of their own, without the seconds that each would spend on imports.

    python command_server.py        one JSON job a line on stdin: {"argv", "cwd", "out", "err", "environment"}

A child is forked for each job, with its output in two files; its exit status is told on stdout. An error that is
nobody's purpose ends it as Python would: a traceback and status 1.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from importlib import import_module

from palate_sim.cli import run

EAGER = ("experiment", "engines.local", "report", "plots", "baselines.ease", "baselines.ials", "datasets.shipped")


def perform(job: dict[str, object]) -> int:
    """Run one command line in this process."""
    try:
        return run([str(word) for word in job["argv"]])  # type: ignore[attr-defined]  # a list, as JSON carries it
    except SystemExit as leave:
        return int(leave.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1


def serve() -> None:
    """Until stdin ends."""
    for name in EAGER:
        import_module(f"palate_sim.{name}")
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if child == 0:
            os.chdir(job["cwd"])
            os.environ.update(job["environment"])
            for number, name in ((1, "out"), (2, "err")):
                os.dup2(os.open(job[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)
            status = perform(job)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    serve()
