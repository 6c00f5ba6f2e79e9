"""The command line: `palate simulate | data | ...`. Exit codes: docs/cli.md."""

from __future__ import annotations

import importlib
import io
import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import click
import typer
import typer.core
import typer.main
from click.shell_completion import CompletionItem

from palate_common.extras import to_install
from palate_core.errors import InputError, PalateError

EXTRAS = {
    "dp_accounting": "server",
    "flwr": "server",
    "opacus": "torch",
    "ray": "ray",
    "starlette": "node",
    "uvicorn": "node",
    "sklearn": "text",
    "torch": "torch",
}
"""Package -> the extra that installs it; packages that are not listed come with `simulations`."""

COMMANDS = {
    "simulate": (
        "simulate:simulate",
        "Train a federated recommender on a log with privacy, and show its quality and that of the baselines.",
    ),
    "recommend": (
        "recommend:recommend",
        "Print what a finished run recommends for some titles, or for a whole history, and why.",
    ),
    "sandbox": (
        "sandbox:sandbox",
        "Live some weeks of a made population with Palate: real devices, rounds, budgets, surveys; made people.",
    ),
    "frontier": (
        "frontier:frontier",
        "Measure what privacy costs on this data, and how more users reduce the cost. Nothing is charged or released.",
    ),
    "feasibility": ("feasibility:feasibility", "Plan a run of the default algorithm from public numbers alone."),
    "config": (
        "config:config",
        "Print every configuration key, as TOML: for `palate simulate CONFIG.toml`, or one by one for --set.",
    ),
    "audit": (
        "audit:app",
        "Evidence about a run, a mechanism or an attack: exit code 4 where it exceeds the claim (docs/audit.md).",
    ),
    "data": ("data:app", "Named data sets, and what is in a log."),
    "playground": (
        "playground:playground",
        "Pick films in your browser and watch the list change, until Ctrl-C. Nothing leaves the page.",
    ),
    "starter": ("starter:app", "Models of public logs, to start with."),
    "device": ("online:app", "A device's encrypted store: what the SDK does, from a shell."),
    "node": ("node:app", "The devices of a household beside its media servers, in one service."),
    "serve": ("serve:app", "A server that devices take part in: rounds, models, budgets."),
    "edge": (
        "serve.edges:edge",
        "An edge of a server on a host of its own, until Ctrl-C or SIGTERM: devices wait there.",
    ),
    "witness": ("witness:app", "A witness of ledgers: it cosigns what only ever grew."),
    "survey": ("survey:app", "Surveys of a server: figures for the operator, and what they cost."),
}
"""Command -> where it is in `palate_cli.commands`, and what its help begins with: only what runs is imported."""

GROUPS = {
    "On a log of yours": ("simulate", "recommend", "frontier", "feasibility", "data", "config", "starter"),
    "Evidence": ("audit",),
    "People, simulated and real": ("playground", "sandbox", "device", "node", "serve", "edge", "survey", "witness"),
}
"""Sections of the help, a beginner's first; commands that no section names come last."""

EXAMPLES = {
    "simulate": ("palate simulate", "palate simulate my.csv --epsilon 2"),
    "recommend": (
        'palate recommend "Alien (1979)" "Blade Runner"',
        "palate recommend runs/mine --history letterboxd.zip",
    ),
    "frontier": ("palate frontier my.csv --epsilons 1,5 --users 1,10",),
    "feasibility": ("palate feasibility --users 100000 --items 5000",),
    "data": ("palate data describe my.csv",),
    "config": ("palate config shop > mine.toml",),
    "audit": ("palate audit ledger runs/mine", "palate audit attacks runs/mine"),
    "starter": ("palate starter list", 'palate starter build my-log --kind books --licence "CC BY 4.0" --out books'),
    "playground": ("palate playground", "palate playground --out site"),
    "sandbox": ("palate sandbox --scenario shop --days 20",),
    "node": ("palate node add home anna", "palate node run home"),
    "serve": ("palate serve init shop", "palate serve run shop"),
    "edge": ("palate edge grant.toml edge-2",),
    "survey": ("palate survey plan shop",),
    "witness": ("palate witness init seen --name witness.example/palate",),
    "device": ("palate device open --store shelf --key shelf.key",),
}
"""Command -> what to type, for the end of its help."""

WIDEST = max(map(len, COMMANDS))
"""Letters of the longest command, beside which all that is said of commands begins."""

SERVERS = {"edge", "sandbox", "serve"}
"""Commands that have a server in them, which there is none of on Windows."""

# Help is plain text here, in which typer would still escape its brackets for rich: \[required].
typer.core.HAS_RICH = False


class _Loading(Mapping[str, click.Command]):
    """The commands by name, each imported when it is asked for."""

    def __getitem__(self, name: str) -> click.Command:
        if name in SERVERS and sys.platform == "win32":
            raise InputError(
                f"`palate {name}` must run on Linux, got Windows, where devices and simulations run, but no server"
            )
        return _loaded(name)

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


@cache
def _loaded(name: str) -> click.Command:
    """A command, imported. Raises KeyError if there is none of that name."""
    module, _, attribute = COMMANDS[name][0].partition(":")
    found = getattr(importlib.import_module(f"palate_cli.commands.{module}"), attribute)
    alone = typer.Typer(add_completion=False, **_PLAIN)
    if isinstance(found, typer.Typer):
        alone.add_typer(found, name=name, cls=_Group)
    else:
        alone.command(name)(found)
    command = typer.main.get_group(alone).commands[name]
    if name in EXAMPLES:
        command.epilog = "\n".join(("\b", "For example:", *(f"  {each}" for each in EXAMPLES[name])))
    return command


class _Commands(typer.core.TyperGroup):
    """The group of all commands, whose own help imports none of them."""

    def __init__(self, **given: Any) -> None:  # typer passes what click's group takes
        super().__init__(**given)
        self.commands = _Loading()  # type: ignore[assignment]  # click reads it, and only to add a command would it write

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Section by section, from the summaries."""
        named = {name for names in GROUPS.values() for name in names}
        others = {"More": tuple(name for name in COMMANDS if name not in named)}
        for title, names in (GROUPS | others).items():
            if names:
                with formatter.section(title):
                    formatter.write_dl([(f"{name:{WIDEST}}", COMMANDS[name][1]) for name in names])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The commands that begin so, without importing any; and options."""
        named = [CompletionItem(name, help=said) for name, (_, said) in COMMANDS.items() if name.startswith(incomplete)]
        return named + click.Command.shell_complete(self, ctx, incomplete)


class _Group(typer.core.TyperGroup):
    """The commands of a group, with the whole first sentence of each."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, command.get_short_help_str(10_000)) for name, command in self.commands.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


_PLAIN: dict[str, Any] = {"rich_markup_mode": None, "pretty_exceptions_enable": False}
app = typer.Typer(
    name="palate",
    help="A federated recommender whose privacy can be checked.",
    epilog="Begin with: palate simulate. All commands with examples: docs/cli.md.",
    no_args_is_help=True,
    suggest_commands=False,  # click does
    cls=_Commands,
    **_PLAIN,
)


def _version(asked: bool) -> None:
    """Print the version, if asked for, and end."""
    if asked:
        from importlib.metadata import version

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
    """Run the command line; return its exit code. Intended errors become one line on stderr.

    A command finds its own line, as it was typed, as the context's object.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal encoding without the letter ε must not end a finished run with a traceback.
        sys.stdout.reconfigure(errors="replace")
    try:
        given = sys.argv[1:] if arguments is None else arguments
        typed = shlex.join(["palate", *given]).encode(errors="replace").decode()
        code = _command()(args=given, prog_name="palate", standalone_mode=False, obj=typed)
        sys.stdout.flush()
    except click.exceptions.Abort:
        return _say("interrupted", 130)
    except click.exceptions.NoArgsIsHelpError as error:
        sys.stderr.write(f"{error.format_message()}\n")
        return 2
    except click.UsageError as error:
        where = f" (see `{error.ctx.command_path} --help`)" if error.ctx else ""
        said = error.message if "Did you mean" in error.message else error.format_message()  # typer's, then click's
        return _say(said.rstrip(".") + where, 2)
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
        named = "" if error.filename is None else f": {error.filename}"
        return _say(f"the system refused: {error.strerror or error}{named}", 1)
    return code if isinstance(code, int) else 0


def called() -> str:
    """How this command line is typed here: `palate`, or its path where the shell doesn't find it."""
    typed = Path(sys.argv[0])
    return "palate" if typed.name != "palate" or shutil.which("palate") else shlex.quote(os.path.relpath(typed))


def missing(error: ModuleNotFoundError) -> str:
    """The message that says what to install for a missing module."""
    extra = EXTRAS.get((error.name or "").partition(".")[0], "simulations")
    return f"this needs {error.name}: {to_install(extra)}"


def _say(message: str, code: int) -> int:
    """Print one line to stderr; return the exit code."""
    sys.stderr.write(f"palate: {' '.join(message.split())}\n")
    return code
