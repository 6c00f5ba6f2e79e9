"""Setup: makes a new server folder, completely or not at all."""

from __future__ import annotations

import io
import json
import math
import os
import secrets
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from palate_common.algorithms import State
from palate_common.algorithms.parts.panel import check_panel, without_panel
from palate_common.errors import InputError
from palate_common.mechanism.accounting import mu_of
from palate_common.models.catalogue import lines
from palate_common.records.files import create_durably, write_durably
from palate_common.records.signing import SigningKey
from palate_server.folder.certificates import issue, make_authority
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
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"`FOLDER` must be new or empty, got {folder}")
    site = Site(folder.resolve())
    there = folder.exists()
    try:
        site.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_durably(site.config_file, config.encode())
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
    except BaseException:
        shutil.rmtree(site.folder, ignore_errors=True)
        if there:
            site.folder.mkdir(mode=0o700)
        raise
    return site


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
