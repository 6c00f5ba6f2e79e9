"""RunTracker: what an experiment tracker is told of a run, and which there are.

A tracked run's id follows from the run, so that one that was cut off goes on under the same id.

    >>> check_tracker("mlfow:sqlite:///mlflow.db")
    Traceback (most recent call last):
        ...
    palate_core.errors.InputError: `track` must be mlflow:URI, wandb:DIR or tensorboard:DIR, got 'mlfow:...'
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlsplit

from palate_core.errors import InputError

SQLITE = "sqlite:///"
SECRETS = {"password", "passwd", "pwd", "token", "sslpassword"}
"""Names in the address of a database whose values are nobody's to see."""
PROJECT = "palate"
"""The experiment of MLflow and the project of W&B that runs are in."""


@dataclass(frozen=True)
class Begun:
    """A run as a tracker meets it.

    Attributes:
        id: 32 hexadecimal digits, the same after a resume, of the run's public key.
        name: its folder's name.
        config: dotted setting -> a value of JSON.
        privacy: what stands beside every epsilon.
        earlier: rounds that an earlier process of the run has seen, as (step, values): a tracker that may have lost
            them with that process is told again.
    """

    id: str
    name: str
    config: Mapping[str, Any]
    privacy: str
    earlier: tuple[tuple[int, Mapping[str, float]], ...] = ()


@dataclass(frozen=True)
class Finished:
    """What a finished run leaves to a tracker.

    Attributes:
        step: the last round, counted from 1.
        values: what the run cost in time and bytes.
        tested: model -> `test/<metric>` -> mean over test users; the run's own model is "palate".
        privacy: epsilon with all that must stand beside it, and the stamp.
        files: the report and the card.
    """

    step: int
    values: Mapping[str, float]
    tested: Mapping[str, Mapping[str, float]]
    privacy: str
    files: tuple[Path, ...] = field(default=())


class RunTracker(Protocol):
    """One experiment tracker, for one run. Each method may raise anything: the run goes on without it."""

    def begin(self, run: Begun) -> None:
        """Begin the run, or go on with the one of the same id."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """What is known after a round, counted from 1."""

    def finish(self, result: Finished) -> None:
        """What is known at the end."""

    def close(self, *, finished: bool) -> None:
        """Let go of everything; a run that isn't finished was cut off, or failed."""


@dataclass(frozen=True)
class TrackerKind:
    """A tracker that can be named: its package, and `module:class` of what tells it."""

    package: str
    made_by: str


KINDS = {
    "mlflow": TrackerKind("mlflow", "palate_sim.tracking.mlflow:MlflowTracker"),
    "wandb": TrackerKind("wandb", "palate_sim.tracking.wandb:WandbTracker"),
    "tensorboard": TrackerKind("tensorboard", "palate_sim.tracking.tensorboard:TensorBoardTracker"),
}


def check_tracker(where: str) -> str:
    """Check `kind:place`, and return it with an absolute path, so that a resumed run finds it from anywhere.

    Raises:
        InputError: no such tracker, its package isn't installed, the place is no address, or has a password or token.
    """
    kind, _, place = where.partition(":")
    if kind not in KINDS or not place.strip():
        shown = kind if len(kind) < 30 else f"{kind[:30]}..."
        raise InputError(f"`track` must be mlflow:URI, wandb:DIR or tensorboard:DIR, got {f'{shown}:...'!r}")
    if _tells_a_secret(place):
        raise InputError(
            "`track` must have no password in it, nor a token, since configurations are shown: "
            "MLflow reads MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD and MLFLOW_TRACKING_TOKEN"
        )
    if find_spec(KINDS[kind].package) is None:
        raise InputError(f"`track` needs the package {KINDS[kind].package}: pip install 'palate[track]'")
    return f"{kind}:{_located(place)}"


def _tells_a_secret(place: str) -> bool:
    """Whether there is a password in an address, or what may be a token: a user alone of a web address, or a query.

    Raises:
        InputError: it is no address.
    """
    try:
        parts = urlsplit(place.strip())
        web, names = parts.scheme in ("http", "https"), {name.lower() for name, _ in parse_qsl(parts.query)}
    except ValueError as error:
        raise InputError(f"`track` must name a place, got one that isn't an address: {error}") from None
    return bool(parts.password or (web and (parts.username or parts.query)) or names & SECRETS)


def _located(place: str) -> str:
    """A place that means the same in another working folder: files and SQLite databases by their absolute path."""
    head, file = (SQLITE, place.removeprefix(SQLITE)) if place.startswith(SQLITE) else ("", place)
    return place if "://" in file else f"{head}{Path(file).resolve()}"


def tracker_of(where: str) -> RunTracker:
    """The tracker of `kind:place`, as `check_tracker` returned it."""
    kind, _, place = where.partition(":")
    module, _, name = KINDS[kind].made_by.partition(":")
    made: RunTracker = getattr(import_module(module), name)(place)
    return made
