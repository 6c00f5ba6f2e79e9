"""Setup: makes a new server folder, completely or not at all: beside its place, and then it is moved there."""

from __future__ import annotations

import io
import json
import math
import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unicodedata import category

import numpy as np
import numpy.typing as npt

from palate_common.algorithms import State
from palate_common.algorithms.parts.panel import check_panel, without_panel
from palate_common.errors import InputError
from palate_common.mechanism.accounting import mu_of
from palate_common.models.catalogue import lines, read_lines
from palate_common.records.files import create_durably, write_durably
from palate_common.records.signing import SigningKey
from palate_common.system import sync_folder
from palate_server.folder.certificates import issue, make_authority
from palate_server.folder.config import parse_config
from palate_server.folder.enrolments import Enrolments
from palate_server.folder.server_folder import Site, write_format
from palate_server.operation.releases import publish_start
from palate_server.operation.terms import check_config
from palate_server.rounds.registry import pack_inputs
from palate_server.rounds.terms import noise_delta

TEMPLATE = """\
# Every key is described in docs/operations.md; a key that is left out has its default.
population = {population}
name = {name}                 # the host name that devices connect to

[privacy]                     # unit: user (one installation); adjacency: zero-out
epsilon = {epsilon}                   # of one run
lifetime_epsilon = {lifetime}         # of the population, for ever
period_epsilon = {period}           # of the runs that begin in one period

[cohort]
size = {size}                    # most devices in an attempt

[gateway]
port = {port}                   # the gateway's; the others are on the loopback interface alone
{shared}superlink_port = {ports[0]}
enrolment_port = {ports[1]}
metrics_port = {ports[2]}
"""
SHARED = """\
path = {path}               # of this population, at the house's name and port
certificate = {certificate[0]}          # the house's
certificate_key = {certificate[1]}
"""
ANSWERS = """\
# What follows from this, and why: palate serve config FOLDER. Every key is described in docs/operations.md.
population = {population}
profile = {profile}  # what is left out follows from it, and nothing may be looser
devices = {devices}  # how many are expected
name = {name}  # the host name that devices connect to

[privacy]  # unit: user (one installation); adjacency: zero-out
period_epsilon = {period}  # of a year
{single}
[gateway]
port = {port}{next}
{shared}{loopback}"""
KEPT = """
[backup]
witness = {kept}  # on another disk: signed plans with their charges
"""
WATCHED = """
[witnesses]
keys = {keys}
urls = {urls}
"""
FEATURED = """
[training]
features = "features.npy"     # public numbers of each item
"""


def template(
    *,
    population: str,
    name: str,
    epsilon: float,
    lifetime: float,
    period: float,
    size: int,
    port: int,
    featured: bool = False,
    loopback: tuple[int, int, int] | None = None,
    path: str = "",
    certificate: tuple[str, str] | None = None,
) -> str:
    """Make the text of a new `server.toml`. Epsilon: unit user, adjacency zero-out.

    Args:
        population: the server's population.
        name: the host name.
        epsilon: epsilon of one run.
        lifetime: epsilon of the population.
        period: epsilon of the runs of one period.
        size: the most devices in an attempt.
        port: the gateway's port; the next three are for the loopback interface.
        featured: whether items have public features.
        loopback: the three ports for the loopback interface, where they aren't the next ones.
        path: what the paths begin with, at the name and port of a house.
        certificate: the house's certificate and its key, as seen from the folder, with `path`.
    """
    named = [json.dumps(each) for each in certificate or ()]
    shared = SHARED.format(path=json.dumps(path), certificate=named) if named else ""
    return (TEMPLATE + FEATURED * featured).format(
        shared=shared,
        population=json.dumps(population, ensure_ascii=False),
        name=json.dumps(name),
        epsilon=float(epsilon),
        lifetime=float(lifetime),
        period=float(period),
        size=size,
        port=port,
        ports=loopback or (port + 1, port + 2, port + 3),
    )


@dataclass(frozen=True)
class Answers:
    """What `palate serve init` is told, where the rest follows from a profile. Epsilon: unit user, adjacency zero-out.

    Attributes:
        population: the server's population.
        profile: the profile.
        devices: the number of devices that is expected.
        name: the host name.
        port: the gateway's port.
        period: epsilon of a year.
        kept: the folder of `backup.witness`, or empty.
        witnesses: verifier key and address of each witness of the ledger.
        epsilon: epsilon of one run, where it isn't to follow.
        lifetime: epsilon of the population, where it isn't to follow.
        size: the most devices in an attempt, where they aren't to follow.
    """

    population: str
    profile: str
    devices: int
    name: str
    port: int
    period: float
    kept: str = ""
    witnesses: tuple[tuple[str, str], ...] = ()
    epsilon: float | None = None
    lifetime: float | None = None
    size: int | None = None


def answered(
    answers: Answers,
    *,
    featured: bool = False,
    loopback: tuple[int, int, int] | None = None,
    path: str = "",
    certificate: tuple[str, str] | None = None,
) -> str:
    """Make the text of a new `server.toml` from answers: what follows from them isn't in it.

    Args:
        answers: the answers.
        featured: as in `template`, like the others.
        loopback: the three ports for the loopback interface, where they aren't the next ones.
        path: what the paths begin with, at the name and port of a house.
        certificate: the house's certificate and its key, with `path`.
    """
    named = [json.dumps(each) for each in certificate or ()]
    epsilons = {"epsilon": answers.epsilon, "lifetime_epsilon": answers.lifetime}
    single = [f"{key} = {float(value)}\n" for key, value in epsilons.items() if value is not None]
    ports = zip(("superlink_port", "enrolment_port", "metrics_port"), loopback or (), strict=False)
    text = ANSWERS.format(
        population=json.dumps(answers.population, ensure_ascii=False),
        profile=json.dumps(answers.profile),
        devices=answers.devices,
        name=json.dumps(answers.name),
        period=float(answers.period),
        single="".join(single),
        port=answers.port,
        next="" if loopback else "  # and the next three, on the loopback interface",
        shared=SHARED.format(path=json.dumps(path), certificate=named) if named else "",
        loopback="".join(f"{key} = {port}\n" for key, port in ports),
    )
    if answers.size is not None:
        text += f"\n[cohort]\nsize = {answers.size}\n"
    if answers.kept:
        text += KEPT.format(kept=json.dumps(answers.kept, ensure_ascii=False))
    if answers.witnesses:
        keys, urls = zip(*answers.witnesses, strict=True)
        text += WATCHED.format(keys=json.dumps(keys), urls=json.dumps(urls, ensure_ascii=False))
    return text + FEATURED * featured


def make_site(
    folder: Path,
    config: str,
    items: tuple[str, ...],
    features: npt.NDArray[np.floating[Any]] | None = None,
    panel: State | None = None,
) -> Site:
    """Make a server folder.

    Args:
        folder: a new or empty folder.
        config: the text of its `server.toml`.
        items: the catalogue.
        features: public features of each item, [items, features], if `training.features` names a file.
        panel: the public model of people who share their log openly; None if nobody does.

    Raises:
        InputError: the folder isn't empty, or no run is possible with the configuration.
    """
    check_new(folder)
    final = folder.resolve()
    parsed = parse_config(config.encode(), "server.toml")
    final.parent.mkdir(parents=True, exist_ok=True)
    # A volume's own folder can't be replaced, nor one in a folder that belongs to somebody else.
    apart = not final.is_mount() and os.access(final.parent, os.W_OK | os.X_OK)
    site = Site(final.with_name(f".{final.name}-{secrets.token_hex(4)}") if apart else final)
    vars(site)["config"] = parsed  # its file comes last: with it, a folder is a server's
    try:
        site.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        site.make_folders()
        write_durably(site.folder / "items", lines(items))
        if features is not None:
            with io.BytesIO() as data:
                np.save(data, features, allow_pickle=False)
                write_durably(site.folder / site.config.training.features, data.getvalue())
        if panel is not None:
            write_durably(site.panel_file, pack_inputs(panel))
        check_config(site.config, n_items=len(site.catalogue.items), inputs=site.public_inputs)
        SigningKey.generate().save(site.folder / "key")
        make_authority(site.tls)
        make_certificates(site)
        make_databases(site)
        publish_start(site)
        write_format(site.folder)
        write_durably(site.config_file, config.encode())
        if apart:
            site.folder.rename(final)  # an empty folder that is there is replaced
            sync_folder(final.parent)
    except BaseException:
        shutil.rmtree(site.folder, ignore_errors=True)
        if not apart:
            site.folder.mkdir(exist_ok=True, mode=0o700)
        raise
    return Site(final)


def read_items(path: Path) -> tuple[str, ...]:
    """Read a catalogue as an operator gives it: item ids, one a line.

    Raises:
        InputError: it can't be read, was cut off, or has a line that is no id, or an id twice.
    """
    try:
        listed = read_lines(path.read_bytes())
    except OSError as error:
        raise InputError(f"`--items` must be a readable file, got {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"`--items` must be text in UTF-8, got other bytes: {path}") from None
    except ValueError:
        raise InputError(
            f"`--items` must end with a line break, as a file that was cut off doesn't, got one without: {path}"
        ) from None
    if not listed:
        raise InputError(f"`--items` must name at least one item, got an empty file: {path}")
    places: dict[str, int] = {}
    for number, each in enumerate(listed, start=1):
        if each.endswith("\r"):
            raise InputError(
                f"`--items` must have line ends of Unix, got those of Windows: tr -d '\\r' < {path} > {path}.unix"
            )
        if not each.strip() or any(category(letter) == "Cc" for letter in each):
            raise InputError(f"`--items` must have an item id in each line, got {each!r:.80} in line {number}: {path}")
        if (first := places.setdefault(each, number)) != number:
            raise InputError(
                f"`--items` must name each item once, got {each!r:.80} in lines {first} and {number}: {path}"
            )
    return listed


def check_affordable(config: str) -> None:
    """Refuse a configuration, the text of a new `server.toml`, whose budgets could never pay for a run.

    Raises:
        InputError: they couldn't, or it isn't valid.
    """
    privacy = parse_config(config.encode(), "server.toml").privacy
    most = min(privacy.period_epsilon, privacy.lifetime_epsilon)
    if privacy.epsilon > most:
        raise InputError(
            f"`--epsilon`, of one run, must be at most {most:g}, the period's or the lifetime's, or no run could ever "
            f"begin, got {privacy.epsilon:g}"
        )


def check_new(folder: Path) -> None:
    """Refuse a folder in which there is something.

    Raises:
        InputError: it isn't new or empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"`FOLDER` must be new or empty, got {folder}")


def renew_panel(site: Site, panel: State | None) -> None:
    """Give the runs that begin from now on another panel, or none; one that is open keeps its own.

    Args:
        site: the server folder.
        panel: the public model of people who share their log openly; None if nobody does.

    Raises:
        InputError: no run is possible with it, or the folder can't be written; the former panel stays.
    """
    if panel is not None:
        check_panel(panel, n_items=len(site.catalogue.items))
        inputs = without_panel(site.public_inputs) | panel
        check_config(site.config, n_items=len(site.catalogue.items), inputs=inputs)
    try:
        if panel is None:
            site.panel_file.unlink(missing_ok=True)
        else:
            write_durably(site.panel_file, pack_inputs(panel))
    except OSError as error:
        raise InputError(f"`FOLDER` must be writable, got {site.folder}: {error.strerror}") from None


def make_certificates(site: Site) -> None:
    """Issue the folder's own certificates, if they are missing or end soon."""
    issue(site.tls, "superlink", ["localhost", "127.0.0.1"])
    if not site.config.gateway.certificate:
        issue(site.tls, "server", [site.config.name])


def make_secret(site: Site) -> None:
    """Make the secret by which the SuperLink recognises its SuperExec, new at each start."""
    site.state.mkdir(exist_ok=True, mode=0o700)
    path = site.state / "superexec.secret"
    path.unlink(missing_ok=True)
    create_durably(path, secrets.token_hex(32).encode(), mode=0o600)


def make_databases(site: Site) -> None:
    """Make the ledger, with the population's lifetime budget, and the register."""
    privacy = site.config.privacy
    delta = noise_delta(privacy.dp, privacy.delta)
    mu2 = math.nextafter(mu_of(epsilon=privacy.lifetime_epsilon, delta=delta) ** 2, 0.0)
    with site.ledger() as ledger:
        ledger.set_budget(mu2=mu2, epsilon=privacy.lifetime_epsilon, delta=privacy.delta)
    with Enrolments(site.enrolment_file):
        pass
    for path in (site.ledger_file, site.enrolment_file):
        os.chmod(path, 0o600)  # noqa: PTH101 - one call for both
