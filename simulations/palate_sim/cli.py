"""The command line: `palate simulate | data | ...`. Exit codes: 0 done, 1 failed, 2 bad usage or input, 3 budget."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

import click
import typer

from palate_common.errors import PalateError
from palate_sim.commands import data, feasibility, frontier, simulate

app = typer.Typer(
    name="palate",
    help="A federated recommender whose privacy can be checked.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("simulate")(simulate.simulate)
app.command("frontier")(frontier.frontier)
app.command("feasibility")(feasibility.feasibility)
app.add_typer(data.app, name="data")


@app.callback()
def _palate() -> None:
    """A federated recommender whose privacy can be checked."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; its exit code. Errors made on purpose become one line on stderr."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that has no letter for epsilon must not end a finished run with a traceback.
        sys.stdout.reconfigure(errors="replace")
    try:
        code = app(args=None if arguments is None else list(arguments), standalone_mode=False)
    except click.exceptions.Abort:
        return _say("interrupted", 130)
    except click.ClickException as error:
        return _say(error.format_message(), 2)
    except PalateError as error:
        return _say(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _say("interrupted; go on with --resume --out DIR", 130)
    except BrokenPipeError:
        return 1
    return code if isinstance(code, int) else 0


def _say(message: str, code: int) -> int:
    """One line on stderr."""
    sys.stderr.write(f"palate: {' '.join(message.split())}\n")
    return code
