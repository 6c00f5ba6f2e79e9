"""Setup: makes a new server folder, completely or not at all: beside its place, and then it is moved there."""

from __future__ import annotations

import io
import json
import math
import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unicodedata import category

import numpy as np
import numpy.typing as npt
import safetensors.numpy

from palate_common.algorithms import State
from palate_common.algorithms.als.algorithm import FEATURES
from palate_common.algorithms.als.factors import LINKS
from palate_common.algorithms.parts.links import Links
from palate_common.algorithms.parts.panel import check_panel, panel_inputs, without_panel
from palate_common.models.catalogue import ItemCatalogue, lines, read_lines
from palate_common.models.item_rows import TABLES, read_facts, rows_of
from palate_common.models.item_table import ItemTable
from palate_common.models.published import Published, read_named
from palate_common.records.files import create_durably, write_durably
from palate_common.records.key_file import save_key
from palate_common.score_sources import PANEL
from palate_common.system import sync_folder
from palate_core.accounting import mu_of
from palate_core.errors import InputError
from palate_core.log.canonical import canonical_json
from palate_core.log.signing import SigningKey
from palate_server.folder.certificates import issue, keep_place, make_authority
from palate_server.folder.config import parse_config
from palate_server.folder.edges import hosts_of_edges
from palate_server.folder.enrolments import Enrolments
from palate_server.folder.profiles import PILOT
from palate_server.folder.server_folder import ABOUT, MOST_ABOUT, Site, write_format
from palate_server.operation.releases import catalogue_out, check_keeps, log_of, publish_start, publishing
from palate_server.operation.terms import check_config
from palate_server.rounds.terms import noise_delta

HEAD = """\
# What follows from this, and why: palate serve config FOLDER. Every key is described in docs/server.md.
"""
LOOPBACK = ("localhost", "127.0.0.1")
FEATURES_FILE = "features.npy"
"""The file of public item features in a new folder."""
SAID: Mapping[str, str] = {
    "profile": "what is left out follows from it, and nothing may be looser",
    "devices": "how many are expected",
    "name": "the host name that devices connect to",
    "privacy": "unit: user (one installation); adjacency: zero-out",
    "privacy.epsilon": "of one run",
    "privacy.lifetime_epsilon": "of the population, for ever",
    "privacy.period_epsilon": "of the runs that begin in one period",
    "cohort.size": "most devices in an attempt",
    "gateway.port": "the gateway's; others are on the loopback interface alone",
    "gateway.acme_port": "docs/setup.md#a-public-certificate",
    "backup.witness": "on another disk: signed plans with their charges",
    "training.settings": "it starts from a model, which runs of a few people aren't to make forgotten",
    "training.features": "public numbers of each item",
}
"""Key or section -> what is said of it beside it."""


def server_toml(settings: Mapping[str, Any]) -> str:
    """Make the text of a new `server.toml`, which has the settings that are given and no others.

    Args:
        settings: key, such as `privacy.epsilon`, -> value; one that is None or empty is left out.

    >>> print(server_toml({"population": "readers", "gateway.port": 443, "gateway.path": ""}).partition("FOLDER")[2])
    . Every key is described in docs/server.md.
    population = "readers"
    <BLANKLINE>
    [gateway]
    port = 443  # the gateway's; others are on the loopback interface alone
    <BLANKLINE>
    """
    sections: dict[str, list[str]] = {}
    for key, value in settings.items():
        if value is not None and value not in ("", ()):
            section, _, name = key.rpartition(".")
            sections.setdefault(section, []).append(f"{name} = {as_toml(value)}{_beside(key)}\n")
    parts = [f"\n[{name}]{_beside(name)}\n" * bool(name) + "".join(lines) for name, lines in sections.items()]
    return HEAD + "".join(parts)


def _beside(key: str) -> str:
    return f"  # {SAID[key]}" if key in SAID else ""


def as_toml(value: Any) -> str:
    """A setting's value as TOML has it."""
    if isinstance(value, Mapping):
        inner = ", ".join(f"{json.dumps(key, ensure_ascii=False)} = {as_toml(each)}" for key, each in value.items())
        return f"{{{inner}}}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(as_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)


def make_site(
    folder: Path,
    config: str,
    items: tuple[str, ...],
    features: npt.NDArray[np.floating[Any]] | None = None,
    panel: State | None = None,
    table: ItemTable | None = None,
    panel_about: Mapping[str, str] = MappingProxyType({}),
    start: Published | None = None,
) -> Site:
    """Make a server folder.

    Args:
        folder: a new or empty folder.
        config: the text of its `server.toml`.
        items: the catalogue.
        features: public features of each item, [items, features], if `training.features` names a file.
        panel: the public model of people who share their log openly; None if nobody does.
        table: titles and other facts of the items; None: there are none.
        panel_about: `origin` and `licence` of the panel's log.
        start: a model made elsewhere, over the first items of the catalogue, which the population starts from.

    Raises:
        InputError: the folder isn't empty, or no run is possible with the configuration, or from that model.
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
            _save_features(site, features)
        if panel is not None:
            _save_panel(site, panel, panel_about)
        if table is not None:
            _save_table(site, table)
        check_config(site.config, n_items=len(site.catalogue.items), inputs=site.public_inputs)
        save_key(SigningKey.generate(), site.folder / "key")
        # Browsers of a pilot's people trust it: it is one machine, and never signs for another.
        make_authority(site.tls, [site.config.name, *LOOPBACK] if site.config.profile == PILOT else [])
        make_certificates(site)
        make_databases(site)
        publish_start(site, start)
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


def read_table(path: Path, name: str = "`--items`") -> ItemTable | None:
    """Titles and other facts, where an operator gives the catalogue as CSV or JSON; None: it is ids alone.

    Raises:
        InputError: it is no such table.
    """
    return read_facts(path, name) if path.suffix.lower() in TABLES else None


def read_items(path: Path, name: str = "`--items`") -> tuple[str, ...]:
    """Read a catalogue as an operator gives it: ids, one a line, or a table of items. Messages call it by its name.

    Raises:
        InputError: it can't be read, was cut off, or has a line that is no id, or an id twice.
    """
    if (table := read_table(path, name)) is not None:
        return _checked(table.items, path, name)
    try:
        listed = read_lines(path.read_bytes())
    except OSError as error:
        raise InputError(f"{name} must be a readable file, got {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{name} must be text in UTF-8, got other bytes: {path}") from None
    except ValueError:
        raise InputError(
            f"{name} must end with a line break, as a file that was cut off doesn't, got one without: {path}"
        ) from None
    return _checked(listed, path, name)


def _checked(listed: tuple[str, ...], path: Path, name: str) -> tuple[str, ...]:
    """The same ids, if they can be a catalogue."""
    if not listed:
        raise InputError(f"{name} must name at least one item, got an empty file: {path}")
    places: dict[str, int] = {}
    for number, each in enumerate(listed, start=1):
        if each.endswith("\r"):
            raise InputError(
                f"{name} must have line ends of Unix, got those of Windows: tr -d '\\r' < {path} > {path}.unix"
            )
        if not each.strip() or any(category(letter) == "Cc" for letter in each):
            raise InputError(f"{name} must have an item id in each line, got {each!r:.80} in line {number}: {path}")
        if (first := places.setdefault(each, number)) != number:
            raise InputError(f"{name} must name each item once, got {each!r:.80} in lines {first} and {number}: {path}")
    return listed


@dataclass(frozen=True)
class AddedItems:
    """A new list of items beside the one that devices have.

    Attributes:
        items: all of them: those that devices have in their order, then new ones in the list's.
        added: how many are new.
    """

    items: tuple[str, ...]
    added: int


def new_items(site: Site, listed: tuple[str, ...]) -> AddedItems:
    """Put a list beside the one that devices have; it may have any order, and must have all that they have.

    Raises:
        InputError: it lacks an item that devices have.
    """
    out = catalogue_out(site)
    return _behind(site.afresh().catalogue.items if out is None else out.items, listed, "`FILE`")


def _behind(had: tuple[str, ...], listed: tuple[str, ...], name: str) -> AddedItems:
    check_keeps(listed, had, name)
    known = set(had)
    added = [item for item in listed if item not in known]
    return AddedItems((*had, *added), len(added))


@dataclass(frozen=True)
class StartingModel:
    """What a new server starts from, where that is a model.

    Attributes:
        model: the model.
        items: the catalogue: the model's items first.
        table: titles and other facts of the items; None: there are none.
    """

    model: Published
    items: tuple[str, ...]
    table: ItemTable | None

    @property
    def panel(self) -> State | None:
        """The links that it has from an open log, as public inputs of the runs; None: it has none."""
        state, users = self.model.model.state, self.model.model.header.facts.n_users
        name = LINKS[PANEL]
        return panel_inputs(Links.of_state(state, name), users=users) if f"{name}_items" in state else None

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of runs that don't make it forgotten, as few people would.

        A model of links alone has no directions of taste that rounds could go on from: theirs count popularity.
        """
        return {"former_discount": 1.0} if "basis" in self.model.model.state else {"rounds": 1}

    @property
    def about(self) -> dict[str, str]:
        """`origin` and `licence` of its log, as far as its manifest says them."""
        known = log_of(self.model.manifest)
        origin = known.pop("source", self.model.manifest.population)
        return {"origin": origin, **known}


def from_start(folder: Path, items: Path | None) -> StartingModel:
    """Read a model to start from, and the catalogue, which is the model's unless the operator gives a longer one.

    Raises:
        InputError: it is no signed model, or the operator's catalogue lacks an item of it.
    """
    found = read_named(folder, "--start")
    if items is None:
        return StartingModel(found, found.items, found.table)
    listed = _behind(found.items, read_items(items), "`--items`")
    return StartingModel(found, listed.items, read_table(items) or found.table)


def add_items(
    site: Site, listed: AddedItems, features: npt.NDArray[np.floating[Any]] | None, table: ItemTable | None = None
) -> None:
    """Install a list of items; the operation publishes the latest model over it once no run is open.

    Args:
        site: the server folder.
        listed: the list.
        features: public features of each item, [items, features], if `training.features` names a file.
        table: titles and other facts of the items, in the place of those that the folder has; None: it keeps them.

    Raises:
        InputError: features are missing or superfluous, no run is possible with it, or the folder can't be written.
    """
    named = site.config.training.features
    if bool(named) != (features is not None):
        raise InputError("`--features` must be given where `training.features` names a file, and only there")
    fresh = site.afresh()
    vars(fresh)["catalogue"] = ItemCatalogue(listed.items)
    if features is not None:
        vars(fresh)["_features"] = {FEATURES: np.ascontiguousarray(features, np.float32)}
    check_config(site.config, n_items=len(listed.items), inputs=fresh.public_inputs)
    try:
        with publishing(site):  # who publishes it sees both files or none
            if features is not None:
                _save_features(site, features)
            if table is not None:
                _save_table(site, table)
            write_durably(site.items_file, lines(listed.items))
    except OSError as error:
        raise InputError(f"`FOLDER` must be writable, got {site.folder}: {error.strerror}") from None


def _save_table(site: Site, table: ItemTable) -> None:
    write_durably(site.table_file, canonical_json(rows_of(table)))


def _save_features(site: Site, features: npt.NDArray[np.floating[Any]]) -> None:
    with io.BytesIO() as data:
        np.save(data, features, allow_pickle=False)
        write_durably(site.folder / site.config.training.features, data.getvalue())


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


def _save_panel(site: Site, panel: State, about: Mapping[str, str]) -> None:
    arrays = {name: np.ascontiguousarray(panel[name]) for name in sorted(panel)}
    said = canonical_json(dict(about))
    if len(said) > MOST_ABOUT:
        raise InputError(f"`--source` and `--licence` must be at most {MOST_ABOUT} bytes, got {len(said)}")
    data: bytes = safetensors.numpy.save(arrays, {ABOUT: said.decode()})
    write_durably(site.panel_file, data)


def renew_panel(site: Site, panel: State | None, about: Mapping[str, str] = MappingProxyType({})) -> None:
    """Give the runs that begin from now on another panel, or none; one that is open keeps its own.

    Args:
        site: the server folder.
        panel: the public model of people who share their log openly; None if nobody does.
        about: `origin` and `licence` of their log, for terms and cards.

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
            _save_panel(site, panel, about)
    except OSError as error:
        raise InputError(f"`FOLDER` must be writable, got {site.folder}: {error.strerror}") from None


def make_certificates(site: Site) -> None:
    """Issue the folder's own certificates, if they are missing or end soon."""
    issue(site.tls, "superlink", [*LOOPBACK, *hosts_of_edges(site.folder)])
    if site.config.gateway.acme_port:
        keep_place(site.tls, site.config.name)
    elif not site.config.gateway.certificate:
        issue(site.tls, "server", [site.config.name])


def make_secret(site: Site) -> None:
    """Make the secret that opens what the SuperLink guards, new at each start."""
    site.state.mkdir(exist_ok=True, mode=0o700)
    path = site.superlink_secret
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
