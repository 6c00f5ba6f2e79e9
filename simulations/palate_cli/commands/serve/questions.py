"""Questions: what `palate serve init` asks on a terminal, each with a default and why; nothing is written meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import typer

from palate_cli.commands.starter import place_of
from palate_core.errors import InputError
from palate_core.log.notes import COSIGNATURE, VerifierKey
from palate_server.folder.config import MOST_PORT, NAME
from palate_server.folder.profiles import PROFILES, TRIAL, bounds_of
from palate_server.service.setup import from_start, read_items


@dataclass(frozen=True)
class SetupQuestion:
    """One question.

    Attributes:
        key: what it sets in `server.toml`.
        also: what else it sets.
        ask: its words.
        why: why it is asked, in a sentence.
        read: makes a value of an answer; raises InputError where it isn't one.
        default: the value's text where nothing is typed, from what was answered before.
        whom: the profiles that it is asked for.
    """

    key: str
    ask: str
    why: str
    read: Callable[[str], Any]
    default: Callable[[Mapping[str, Any]], str]
    also: tuple[str, ...] = ()
    whom: frozenset[str] = frozenset(PROFILES)


def read_population(text: str) -> str:
    """A population's name."""
    if not 1 <= len(text.strip()) <= 200:
        raise InputError(f"the population must have a name of 1 to 200 letters, got {text!r:.80}")
    return text.strip()


def read_profile(text: str) -> str:
    """A profile's name."""
    if text not in PROFILES:
        raise InputError(
            f"the profile must be {', '.join(list(PROFILES)[:-1])} or {list(PROFILES)[-1]}, got {text!r:.80}"
        )
    return text


def read_catalogue(text: str) -> Path:
    """A file of item ids, or the folder of a model; it is read again with the rest of what is given."""
    if (folder := Path(place_of(text))).is_dir():
        from_start(folder, None)
        return folder
    if not Path(text).is_file():
        raise InputError(f"the catalogue must be a file of item ids, one a line, got {text!r:.80}")
    read_items(Path(text))
    return Path(text)


def read_address(text: str) -> tuple[str, int]:
    """A host name, and a port or 8443."""
    name, colon, port = text.partition(":")
    if not NAME.fullmatch(name):
        raise InputError(f"the address must be a host name in lower case, NAME or NAME:PORT, got {text!r:.80}")
    if not colon:
        return name, 8443
    if not (port.isascii() and port.isdecimal() and 1 <= int(port) <= MOST_PORT - 3):
        raise InputError(f"the port must be 1 to {MOST_PORT - 3}, as three more follow it, got {port!r:.80}")
    return name, int(port)


def read_devices(text: str) -> int:
    """A number of devices."""
    plain = text.replace(",", "").replace("_", "")
    if not (plain.isascii() and plain.isdecimal() and 2 <= int(plain) <= 10**9):
        raise InputError(f"the devices must be a number from 2 to 1,000,000,000, got {text!r:.80}")
    return int(plain)


def read_epsilon(text: str) -> float:
    """An epsilon."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1e6:
        raise InputError(f"epsilon must be a number above 0, got {text!r:.80}")
    return value


def read_folder(text: str) -> str:
    """A path as `server.toml` has it; "-" for none."""
    return "" if text.strip() == "-" else text.strip()


def read_witness(text: str) -> tuple[tuple[str, str], ...]:
    """A witness's verifier key and address; none for "later"."""
    if text.strip() in ("", "later"):
        return ()
    key, _, url = text.strip().partition(" ")
    if VerifierKey.read(key).kind != COSIGNATURE:
        raise InputError(
            f"a witness must have a key as `palate witness init` prints it, got another kind: {key!r:.120}"
        )
    if not url.strip().startswith("https://"):
        raise InputError(f"a witness must be its key, a space and its address, https://..., got {text!r:.120}")
    return ((key, url.strip()),)


_OUTSIDE = frozenset(name for name, profile in PROFILES.items() if profile.outside)
_WATCHED = frozenset(name for name, profile in PROFILES.items() if profile.watched)

QUESTIONS = (
    SetupQuestion(
        "population", "name of the population",
        "An app is built for one population, and its ledger counts what it spends; the name can't change later.",
        read_population, lambda given: str(given["folder"].resolve().name),
    ),
    SetupQuestion(
        "profile", f"profile: {', '.join(PROFILES)}",
        "It sets the privacy settings, and nothing may be looser:"
        + "".join(f"\n  {name}: {profile.meaning}" for name, profile in PROFILES.items()),
        read_profile, lambda given: TRIAL,
    ),
    SetupQuestion(
        "items", "catalogue",
        "A file of item ids, one a line, which is public: every model has a row for each. Or a model to start from, "
        "whose items it then is: the folder of a finished run on your own log, or `films`.",
        read_catalogue, lambda given: "items",
    ),
    SetupQuestion(
        "name", "address",
        "Devices connect to this host name, and invitations have it: NAME or NAME:PORT, reachable from where they are.",
        read_address, lambda given: "localhost", also=("gateway.port",),
    ),
    SetupQuestion(
        "devices", "expected devices",
        "The size of a cohort, delta and the limits at the gateway follow from it; it can change later.",
        read_devices, lambda given: str(PROFILES[given["profile"]].devices),
    ),
    SetupQuestion(
        "privacy.period_epsilon", "epsilon a year",
        "The most that all releases of a year may tell of one user (one installation, zero-out); less is more private, "
        "and needs more users for the same model. The lifetime's follows, and can only be lowered.",
        read_epsilon, lambda given: f"{PROFILES[given['profile']].epsilon:g}",
    ),
    SetupQuestion(
        "backup.witness", "folder on another disk",
        "Each signed plan is kept there before it is sent; without it a restored server may spend nothing more. A "
        "relative path is seen from the server folder; `-` makes the folder, which doesn't serve before it has one.",
        read_folder, lambda given: f"../{given['folder'].resolve().name}-plans", whom=_OUTSIDE,
    ),
    SetupQuestion(
        "witnesses.keys", "witness of the ledger",
        "Somebody else who cosigns that the ledger only grows, so that nobody has to take your word: its verifier key, "
        "a space and its address. `later` makes the folder, which doesn't serve before it has one.",
        read_witness, lambda given: "later", also=("witnesses.urls",), whom=_WATCHED,
    ),
)  # fmt: skip
"""What must be understood before the first round, in the order in which it is asked; docs/server.md lists them."""


def ask(given: Mapping[str, Any]) -> dict[str, Any]:
    """Ask what isn't given yet, until each answer is one.

    Args:
        given: key -> value of what flags have answered, and `folder`, the server folder, of which defaults are made.

    Returns:
        All answers by key.

    Raises:
        click.Abort: Ctrl-C or the end of the input; nothing was written.
    """
    found = dict(given)
    for question in QUESTIONS:
        if question.key in found or found.get("profile", TRIAL) not in question.whom:
            continue
        typer.echo()
        for line in question.why.splitlines():
            typer.echo(click.wrap_text(line, subsequent_indent="    " * line.startswith(" ")))
        found[question.key] = click.prompt(
            question.ask, default=question.default(found), value_proc=partial(_read, question, found.get("profile"))
        )
    return found


def check_floor(question: SetupQuestion, value: Any, profile: str) -> None:
    """Refuse an answer that is looser than the profile holds, as the whole configuration would be.

    Raises:
        InputError: it is.
    """
    for bound in bounds_of(profile, PROFILES[profile].devices):
        if bound.key == question.key and not bound.is_kept(value):
            raise InputError(f"{question.ask} must be {bound.words} with the profile {profile}, got {value:g}")


def _read(question: SetupQuestion, profile: str | None, text: str) -> Any:
    """An answer's value; what isn't one, or is looser than the profile, is asked for again."""
    try:
        value = question.read(text)
        if profile is not None:
            check_floor(question, value, profile)
    except InputError as error:
        raise click.UsageError(str(error)) from None
    return value
