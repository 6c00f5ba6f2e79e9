"""Checks: whether a server could start and train, tried before every start and by hand: `palate serve check`.

    configuration, keys, ledger, witness, certificates, nginx, ports -> checked(site) -> what is good, and problems

What `problems` tells of a running server is told here, too; and what is worth a trial: a write to the witness folder,
a signature, nginx's own opinion of its configuration, a port.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from palate_common.records.database import NoRoomError
from palate_core.errors import PalateError
from palate_core.log.signing import verify
from palate_server.flower.control import check_version
from palate_server.folder.server_folder import Site
from palate_server.folder.witness import Witness
from palate_server.ledger.witnesses import UncosignedError
from palate_server.operation.releases import latest
from palate_server.operation.terms import check_config
from palate_server.service.gateway import check_configuration, wanted_ports
from palate_server.service.metrics import check_pair, read_token
from palate_server.service.parts import read_parts
from palate_server.service.problems import KINDS, ServerProblem, broken, kinds_of, line_of, problems, told_of, told_once
from palate_server.service.processes.ports import listening, taken

CHECKS = kinds_of("checks.toml")
"""What is told by `palate serve check` and at a start alone: code -> what it means and what to do."""
TRIAL = "palate/check/v1"
"""What the release key signs to be tried: nothing that anybody takes."""


@dataclass(frozen=True)
class Preflight:
    """What a check has found.

    Attributes:
        good: what was tried and is well, a line each.
        problems: what isn't, the worst first.
    """

    good: tuple[str, ...]
    problems: tuple[ServerProblem, ...]

    @property
    def exit_code(self) -> int:
        """0: nothing but notes; 2: it can't start or can't train; 4: it can, and there is a warning."""
        found = {problem.severity for problem in self.problems}
        return 2 if "error" in found else 4 if "warning" in found else 0


def checked(site: Site, *, now: float, dev: bool = False, starting: bool = False) -> Preflight:
    """Try what a start and a run need. It writes nothing but a trial file in the witness folder.

    Args:
        site: the server folder.
        now: seconds since 1970.
        dev: whether there is no nginx.
        starting: whether a supervisor asks that is about to start, so that nothing runs.
    """
    parts = None if starting else read_parts(site)
    looks: list[Callable[[Site], Iterator[str | ServerProblem]]] = [_signing, _pair, _pages, _disk_of_its_own]
    if not starting:  # a start refuses these itself
        ports = wanted_ports(site, dev=dev)
        looks += [_settings, _flower, _witness, _cosigners, _elsewhere]
        looks += [] if dev else [_nginx]
        looks += [] if parts is not None else [lambda site: _free(ports, site.public)]
    tried = [each for look in looks for each in _safely(look, site)]
    found = [each for each in tried if isinstance(each, ServerProblem)]
    known = [each for each in problems(site, now=now, parts=parts) if each.code not in ("not_running", "part_down")]
    order = ("error", "warning", "note")
    both = sorted(dict.fromkeys(told_once([*found, *known])), key=lambda problem: order.index(problem.severity))
    return Preflight(tuple(each for each in tried if isinstance(each, str)), tuple(both))


def _safely(look: Callable[[Site], Iterator[str | ServerProblem]], site: Site) -> list[str | ServerProblem]:
    """What a look finds; one that can't look is a problem of the folder."""
    try:
        return list(look(site))
    except (PalateError, OSError, ValueError) as error:
        return [broken(error)]


def _tell(code: str, said: str = "", act: str = "") -> ServerProblem:
    return told_of(code, {**KINDS, **CHECKS}, said=said, act=act)


def _settings(site: Site) -> Iterator[str | ServerProblem]:
    """Whether a run could be opened."""
    try:
        items = len(site.catalogue.items)
        check_config(site.config, n_items=items, inputs=site.public_inputs)
    except PalateError as error:
        yield _tell("settings_unfit", line_of(error))
        return
    for each in site.config.missing(site.folder):
        yield _tell("profile_lacks", each)
    cohort = site.config.cohort
    parts = f" in {cohort.subcohorts:,} sub-cohorts" if cohort.subcohorts > 1 else ""
    yield f"configuration: {items:,} items, attempts of {cohort.size:,} devices{parts}"


def _flower(_: Site) -> Iterator[str | ServerProblem]:
    try:
        check_version()
    except PalateError as error:
        yield _tell("flower_unknown", line_of(error))
        return
    yield "Flower: the version that was tried"


def _signing(site: Site) -> Iterator[str | ServerProblem]:
    """Whether the release key signs, and is the one of the latest model."""
    try:
        key = site.key()
    except (PalateError, OSError):
        return  # `problems` says so
    verify(key.public, TRIAL, b"", key.sign(TRIAL, b""))
    try:
        latest(site)
    except NoRoomError:
        raise
    except PalateError as error:
        yield _tell("key_unfit", line_of(error))
        return
    yield f"release key: {key.public}"


def _witness(site: Site) -> Iterator[str | ServerProblem]:
    """A durable write to the witness folder."""
    try:
        Witness(site.witness).check()
    except PalateError as error:
        yield _tell("witness_unwritable", line_of(error))
        return
    yield f"witness folder: written, {site.witness}"


def _disk_of_its_own(site: Site) -> Iterator[str | ServerProblem]:
    """Whether the witness folder would survive the server folder's disk."""
    if not site.witness.is_dir():
        return  # `problems` says so
    if site.witness.stat().st_dev == site.folder.stat().st_dev:
        yield _tell("witness_beside")
    else:
        yield "witness folder: on another disk"


def _elsewhere(site: Site) -> Iterator[str | ServerProblem]:
    """Whether metrics and invitations can be served at addresses of their own."""
    for name, settings in (("metrics", site.config.metrics), ("invitations", site.config.invitations)):
        if not settings.address:
            continue
        try:
            read_token(site.folder / settings.token)
            if settings.certificate:
                check_pair(site.folder / settings.certificate, site.folder / settings.certificate_key)
        except PalateError as error:
            yield _tell("token_unfit", line_of(error))
            continue
        yield f"{name}: at {settings.address}, with a token"


def _cosigners(site: Site) -> Iterator[str | ServerProblem]:
    """Whether enough of the ledger's witnesses are there."""
    if not site.config.witnesses.keys:
        return
    with site.ledger(read_only=True) as ledger:
        found = site.witnesses(ledger)
        if found is None:
            return
        with found:
            try:
                found.ready(ledger)
            except UncosignedError as error:
                yield _tell("witnesses_missing", line_of(error))
                return
    yield f"witnesses: at least {site.config.witnesses.needed} cosign"


def _pair(site: Site) -> Iterator[str | ServerProblem]:
    """Whether the gateway's certificate is for its name, and its key for the certificate."""
    chain, secret = site.certificate
    if not chain.exists() and not site.config.gateway.certificate:
        return  # the start makes it
    try:
        found = x509.load_pem_x509_certificates(chain.read_bytes())
        key = load_pem_private_key(secret.read_bytes(), password=None)
        names = found[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, TypeError, x509.ExtensionNotFound) as error:
        yield _tell("certificate_unfit", f"{chain} and {secret} can't be used: {line_of(error)}")
        return
    known = {*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))}
    name = site.config.name
    if not any(name == each or (each.startswith("*.") and name.partition(".")[2] == each[2:]) for each in known):
        yield _tell("certificate_unfit", f"{chain} must be for {name}, got {', '.join(sorted(known))}")
    elif key.public_key() != found[0].public_key():
        yield _tell("certificate_unfit", f"{secret} must be the key of {chain}, got another")
    elif not _is_chain(found):
        yield _tell("certificate_unfit", f"{chain} must be a chain, each certificate issued by the next, and isn't")
    else:
        yield f"certificate: for {name}, until {found[0].not_valid_after_utc:%Y-%m-%d}"


def _pages(site: Site) -> Iterator[str | ServerProblem]:
    """Whether browsers know who issued the gateway's certificate, where there are pages for them."""
    gateway = site.config.gateway
    if (gateway.origins or any(site.pages.glob("*"))) and not gateway.certificate and not gateway.acme_port:
        yield _tell("page_certificate")


def _is_chain(found: list[x509.Certificate]) -> bool:
    """Whether each certificate is issued by the next one."""
    try:
        for each, issuer in pairwise(found):
            each.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _nginx(site: Site) -> Iterator[str | ServerProblem]:
    """Whether nginx is there and takes the configuration."""
    try:
        check_configuration(site)
    except PalateError as error:
        yield _tell("nginx_unfit", line_of(error))
        return
    yield "nginx: takes the gateway's configuration"


def _free(wanted: Iterable[tuple[str, str, int]], home: Path) -> Iterator[str | ServerProblem]:
    """Whether each port is free; `home` is the folder that the gateway is started in."""
    busy = False
    for name, host, port in wanted:
        holders = listening(port)
        if all(each.orphan and each.folder == home for each in holders) and holders:
            continue  # the start ends them
        if reason := taken(host, port):
            busy, by = True, ", ".join(map(str, holders)) or reason
            yield _tell("port_busy", f"`{name}` {port} isn't free on {host}: {by}")
    if not busy:
        yield "ports: free"
