"""The command line: `palate simulate | data | ...`. Exit codes: docs/cli.md."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from typing import Annotated

import click
import typer
import typer.core
import typer.main

from palate_cli.commands import (
    audit,
    bench,
    config,
    data,
    device,
    feasibility,
    frontier,
    online,
    releases,
    serve,
    simulate,
    survey,
)
from palate_common.errors import PalateError

EXTRAS = {
    "dp_accounting": "server",
    "flwr": "server",
    "opacus": "torch",
    "prv_accountant": "audit",
    "ray": "ray",
    "riskcal": "audit",
    "sklearn": "text",
    "torch": "torch",
}
"""Package -> the extra that installs it; packages that are not listed come with `simulations`."""

# Help is plain text here, in which typer would still escape its brackets for rich: \[required].
typer.core.HAS_RICH = False

app = typer.Typer(
    name="palate",
    help="A federated recommender whose privacy can be checked.",
    no_args_is_help=True,
    add_completion=False,
    suggest_commands=False,  # click does
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("simulate")(simulate.simulate)
app.command("frontier")(frontier.frontier)
app.command("releases")(releases.releases)
app.command("feasibility")(feasibility.feasibility)
app.command("config")(config.config)
app.add_typer(audit.app, name="audit")
app.add_typer(data.app, name="data")
for command in (online.enroll, online.sync, online.fleet):
    device.app.command()(command)
app.add_typer(device.app, name="device")
app.add_typer(serve.app, name="serve")
app.add_typer(survey.app, name="survey")
app.add_typer(bench.app, name="bench")


def _version(asked: bool) -> None:
    """Print the version, if asked for, and end."""
    if asked:
        typer.echo(f"palate {version('palate')}")
        raise typer.Exit


@app.callback()
def _palate(
    asked: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """A federated recommender whose privacy can be checked."""


@cache
def _command() -> click.Command:
    return typer.main.get_command(app)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code. Intended errors become one line on stderr."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal encoding without the letter ε must not end a finished run with a traceback.
        sys.stdout.reconfigure(errors="replace")
    try:
        code = _command()(args=arguments, prog_name="palate", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Abort:
        return _say("interrupted", 130)
    except click.exceptions.NoArgsIsHelpError as error:
        sys.stderr.write(f"{error.format_message()}\n")
        return 2
    except click.UsageError as error:
        where = f" (see `{error.ctx.command_path} --help`)" if error.ctx else ""
        return _say(error.format_message().rstrip(".") + where, 2)
    except click.ClickException as error:
        return _say(error.format_message(), 2)
    except PalateError as error:
        return _say(str(error), error.exit_code)
    except ModuleNotFoundError as error:  # as with `palate[server]`, which has what `palate serve` needs
        if (error.name or "").startswith("palate"):
            raise
        return _say(missing(error), 2)
    except BrokenPipeError:
        # The reader of the output has gone: the rest of the buffer must not fail again when Python exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _say(f"the system refused: {error.strerror or error}: {error.filename}", 1)
    return code if isinstance(code, int) else 0


def missing(error: ModuleNotFoundError) -> str:
    """The message that says what to install for a missing module."""
    extra = EXTRAS.get((error.name or "").partition(".")[0], "simulations")
    return f"this needs {error.name}: pip install 'palate[{extra}]'"


def _say(message: str, code: int) -> int:
    """Print one line to stderr; return the exit code."""
    sys.stderr.write(f"palate: {' '.join(message.split())}\n")
    return code
