"""Edges: the other hosts on which devices may wait, and what each of them is given.

    palate serve edge FOLDER NAME   -> edges/NAME.key in the server folder, and a grant: one secret file
    palate edge GRANT FOLDER        -> an edge's folder, made anew at each start: nothing in it is worth keeping

A grant has what the gateway of that host needs, and a key that it shares with the server's folder: by it the edge opens
what it may at the server (registering itself, the public files without limits), and shows that a reply is its own.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from pathlib import Path
from typing import Annotated, Any, Final

from cryptography import x509
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from palate_common.records.files import create_durably, write_durably
from palate_core.errors import InputError
from palate_core.log.canonical import canonical_json
from palate_server.folder.server_folder import Site, write_format
from palate_server.ledger.history import one_line

OWN: Final = "edge"
"""The name of the edge beside the server itself."""
NAME: Final = re.compile("[a-z0-9][a-z0-9-]{0,39}")
"""The name of an edge on another host; one of several that share a grant adds a number to it, as in `name/2`."""
NAMED: Final = re.compile(NAME.pattern + "(/(0|[1-9][0-9]?))?")
HOST: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\]")
"""A name, or an address, as certificates and nginx have it: of IPv6 in brackets."""
MOST_HOST: Final = 253
MOST_NUMBER: Final = 99
MOST_GRANT: Final = 2**20
KEY_BYTES: Final = 32
GRANT_FILE: Final = "edge.json"
TRUST_FILE: Final = "server-authority.pem"
"""By what the gateway of an edge verifies the server's."""
_KEPT: Final[dict[str, Any]] = {
    "population": True,
    "name": True,
    "gateway": {"port", "path", "superlink_port", "requests_per_second", "connections", "body_mib", "origins"},
    "enrolment": {"requests_per_minute"},
    "cohort": {"size"},
}
"""The keys of a configuration that an edge needs."""


class EdgeGrant(BaseModel):
    """What another host needs to be an edge of a server; secret.

    Attributes:
        name: the edge's.
        key: what it shares with the server's folder, hexadecimal.
        host: the name or address by which it reaches the server.
        gateway_port: the port of the server's gateway.
        superlink_port: the port of the server's SuperLink.
        config: the part of the server's configuration that it needs, JSON.
        link_authority: PEM of the authority of the SuperLink's certificate.
        authority: PEM of the authority of the gateway's certificate.
        certificate: PEM chain with which the edge's own gateway meets devices, under the server's name.
        certificate_key: PEM of its key.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, StringConstraints(pattern=f"^{NAMED.pattern}$")]
    key: Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
    host: str
    gateway_port: int
    superlink_port: int
    config: str
    link_authority: str
    authority: str
    certificate: str
    certificate_key: str

    @property
    def secret(self) -> bytes:
        """The key's bytes."""
        return bytes.fromhex(self.key)

    def numbered(self, number: int) -> EdgeGrant:
        """The grant of one of several edges that share it.

        Raises:
            InputError: the number is none.
        """
        if not 0 <= number <= MOST_NUMBER:
            raise InputError(f"`--number` must be 0 to {MOST_NUMBER}, got {number}")
        return self.model_copy(update={"name": f"{self.name}/{number}"})


def grant_edge(site: Site, name: str, host: str, *, authority: str, adds: bool = False) -> EdgeGrant:
    """Let another host be an edge; a name that has a grant gets it again, with what is configured now.

    Args:
        site: the server folder.
        name: the edge's.
        host: the name or address by which that host reaches this one.
        authority: PEM of the authority of the gateway's certificate.
        adds: whether it may add up masked vectors, which is then for it to do right.

    Raises:
        InputError: the name or the host is none, or the server has no link for other hosts.
    """
    gateway, path = site.config.gateway, _key_file(site.folder, name)
    if len(host) > MOST_HOST or not HOST.fullmatch(host):
        raise InputError(f"`--host` must be a name, or an address, of IPv6 in brackets, got {host!r:.80}")
    if gateway.link != "flower" or gateway.superlink_listen == "127.0.0.1":
        raise InputError(
            "`gateway.superlink_listen` must be an address that other hosts reach, with `gateway.link` at flower, got "
            f"{gateway.superlink_listen} and {gateway.link}"
        )
    chain, secret = site.certificate
    ends = min(each.not_valid_after_utc for each in x509.load_pem_x509_certificates(chain.read_bytes()))
    now = {"host": host, "ends": int(ends.timestamp()), "adds": adds}
    if not path.exists():
        path.parent.mkdir(mode=0o700, exist_ok=True)
        create_durably(path, canonical_json({"key": secrets.token_hex(KEY_BYTES), **now}), mode=0o600)
    kept = json.loads(path.read_bytes()) | now
    write_durably(path, canonical_json(kept), mode=0o600)
    return EdgeGrant(
        name=name,
        key=kept["key"],
        host=host,
        gateway_port=gateway.port,
        superlink_port=gateway.superlink_port,
        config=json.dumps(site.config.model_dump(mode="json", include=_KEPT)),
        link_authority=(site.tls / "ca.pem").read_text(),
        authority=authority,
        certificate=chain.read_text(),
        certificate_key=secret.read_text(),
    )


def end_grant(site: Site, name: str) -> None:
    """Let a host be an edge no more: what it says isn't heard from now on.

    Raises:
        InputError: there is no such edge.
    """
    try:
        _key_file(site.folder, name).unlink()
    except FileNotFoundError:
        raise InputError(f"`NAME` must be an edge's, got {name!r}: there are {granted_edges(site.folder)}") from None


def granted_edges(folder: Path) -> list[str]:
    """The names of the edges on other hosts."""
    return sorted(path.stem for path in (folder / "edges").glob("*.key"))


def ends_of_edges(folder: Path) -> dict[str, float]:
    """When the certificate ends that each edge was given, in seconds since 1970: only a new grant renews it."""
    return {name: float(_kept(folder, name)["ends"]) for name in granted_edges(folder)}


def hosts_of_edges(folder: Path) -> list[str]:
    """The names and addresses by which the edges reach this host."""
    return sorted({str(_kept(folder, name)["host"]).strip("[]") for name in granted_edges(folder)})


def key_of(site: Site, name: str) -> bytes | None:
    """The key of an edge; None: there is none of this name."""
    if name == OWN:
        return site.superlink_secret.read_bytes()
    try:
        return bytes.fromhex(_granted(site, name)["key"])
    except (ValueError, KeyError):
        return None


def adds(site: Site, name: str) -> bool:
    """Whether an edge may add up masked vectors: the server's own, and others by their grants."""
    return name == OWN or _granted(site, name).get("adds") is True


def token_for(key: bytes, purpose: str) -> str:
    """What opens something to an edge: at the SuperLink's guard ("register"), at the gateway ("gateway")."""
    return hmac.new(key, f"palate edge {purpose}".encode(), hashlib.sha256).hexdigest()


def tokens_for(folder: Path, purpose: str) -> list[str]:
    """The tokens of all edges."""
    return [token_for(bytes.fromhex(_kept(folder, name)["key"]), purpose) for name in granted_edges(folder)]


def read_grant(path: Path) -> EdgeGrant:
    """Read a grant.

    Raises:
        InputError: it is none.
    """
    try:
        with path.open("rb") as file:
            return EdgeGrant.model_validate_json(file.read(MOST_GRANT))
    except OSError as error:
        raise InputError(f"`GRANT` must be readable, got {path}: {error.strerror}") from None
    except ValidationError as error:
        raise InputError(f"`GRANT` must be what `palate serve edge` wrote, got {one_line(error)}: {path}") from None


def make_edge_folder(folder: Path, grant: EdgeGrant, *, listen: str, port: int) -> Site:
    """Make an edge's folder, or make it anew.

    Args:
        folder: where.
        grant: what the server has given.
        listen: the address on which the edge's gateway listens.
        port: its port.

    Raises:
        InputError: the folder is something else.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / GRANT_FILE).exists():
        raise InputError(f"`FOLDER` must be empty, or an edge's, got {folder}")
    own = json.loads(grant.config)
    own["gateway"] |= {"listen": listen, "port": port}
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_durably(folder / GRANT_FILE, grant.model_dump_json().encode(), mode=0o600)
    write_durably(folder / "server.toml", _toml(own).encode(), mode=0o600)
    write_format(folder)
    site = Site.at(folder)
    site.make_folders()
    for place, text in (
        ("ca.pem", grant.link_authority),
        (TRUST_FILE, grant.authority),
        ("server.key", grant.certificate_key),
        ("server.pem", grant.certificate),
    ):
        write_durably(site.tls / place, text.encode(), mode=0o600)
    return site


def grant_of(site: Site) -> EdgeGrant | None:
    """The grant in an edge's folder; None: the folder is a server's."""
    path = site.folder / GRANT_FILE
    return read_grant(path) if path.exists() else None


def _toml(sections: dict[str, object]) -> str:
    """A configuration's text: JSON's strings, numbers and lists are TOML's, too."""
    top = [f"{key} = {_value(value)}" for key, value in sections.items() if not isinstance(value, dict)]
    for name, section in sections.items():
        if isinstance(section, dict):
            top += [f"[{name}]", *(f"{key} = {_value(value)}" for key, value in section.items())]
    return "\n".join([*top, ""])


def _value(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)  # TOML has no pairs of surrogates


def _granted(site: Site, name: str) -> dict[str, Any]:
    """What is kept of the edge that says this name; empty: there is none."""
    try:
        return _kept(site.folder, name.partition("/")[0]) if NAMED.fullmatch(name) else {}
    except (OSError, ValueError, InputError):
        return {}


def _kept(folder: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_key_file(folder, name).read_bytes())
    return found


def _key_file(folder: Path, name: str) -> Path:
    if not NAME.fullmatch(name) or name == OWN:
        raise InputError(f"`NAME` must be lower-case letters, digits and hyphens, and not {OWN!r}, got {name!r:.80}")
    return folder / "edges" / f"{name}.key"
