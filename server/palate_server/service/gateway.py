"""Gateway: the configuration of nginx, the only part that is reachable from the network; see `templates/nginx.conf`.

    POST /v1/device/exchange       -> the edge, on a Unix socket, as it comes
    POST /v1/enroll                -> the edge's enrolment service
    GET  /models/..., /round/      -> files, by hash
    GET  /ledger/...               -> the ledger's mirror: checkpoint, tiles and entries
    GET  /app/...                  -> what the operator has put into `public/app`: pages of the same origin
    GET  /.well-known/acme-challenge/TOKEN, by plain HTTP on `acme_port` alone -> what an ACME client has left
    OPTIONS of the first three     -> whether a web page may: an answer, for the pages of `gateway.origins` alone
    everything else                -> 404; another host name: no handshake; plain HTTP: 400

With `gateway.path` each of these places is below it. The gateway of an edge on another host passes on to the server's
what isn't an exchange, and keeps files.

It leaves no trace of clients: it logs no request, as a line would contain the address, and writes no body to the disk,
where it would outlive its attempt. A body is passed on as it comes: nobody has memory here before the edge knows whose
it is.
"""

from __future__ import annotations

import grp
import os
import pwd
import resource
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from palate_common.rounds.exchange import HEADERS, REPLY_HEADERS
from palate_core.errors import InputError
from palate_server.folder.certificates import is_awaited
from palate_server.folder.edges import TRUST_FILE, grant_of, token_for, tokens_for
from palate_server.folder.server_folder import Site
from palate_server.service.processes.ports import listening, taken

LEDGER = "ledger/(checkpoint|tile/([0-9]|entries)/(x[0-9][0-9][0-9]/)*[0-9][0-9][0-9]([.]p/[1-9][0-9]?[0-9]?)?)"
"""The files of the ledger's mirror."""
APP = "app/([A-Za-z0-9_-][A-Za-z0-9._-]*/)*([A-Za-z0-9_-][A-Za-z0-9._-]*)?"
"""Pages of the operator's own, of which no name begins with a dot."""
ALLOWED = (
    "/(v1/(device/exchange|enroll)|models/(latest|[0-9a-f]{64}/[a-z0-9][a-z0-9._-]*)|round/[0-9a-f]{64}"
    f"|{LEDGER}|{APP})"
)
"""The allowed request paths, after `gateway.path`."""
AWAITED = "docs/setup.md#a-public-certificate"
NOBODY = "nobody"
"""The account of nginx's workers if root runs the server: one without rights."""


PROXYING = "gateway"
"""What an edge's token is for, at the server's gateway."""
MOST_FILES = 32768
"""Files of nginx for a population, where the system allows it; more where its cohort needs them."""
FILES = 4
"""Files that nginx may open for each device of a cohort."""
FREED = 10.0
"""Seconds to wait for the parts of a former server to end."""


def check_ports(site: Site, *, dev: bool = False) -> None:
    """Refuse to start if a port isn't free, for example because a part of a former server still listens.

    Raises:
        InputError: a port isn't free; the message names it.
    """
    for name, host, port in wanted_ports(site, dev=dev):
        check_free({name: (host, port)})


def wanted_ports(site: Site, *, dev: bool = False) -> list[tuple[str, str, int]]:
    """The ports that a start needs: setting, host and port of each.

    Args:
        site: the server folder.
        dev: whether there is no nginx.
    """
    gateway, loopback = site.config.gateway, "127.0.0.1"
    wanted = [("gateway.port", loopback if dev else gateway.listen, gateway.port)]
    if gateway.acme_port and not dev:
        wanted.append(("gateway.acme_port", gateway.listen, gateway.acme_port))
    if gateway.link == "flower":
        wanted.append(("gateway.superlink_port", gateway.superlink_listen, gateway.superlink_port))
    wanted.append(("gateway.metrics_port", loopback, gateway.metrics_port))
    for section, settings in (("metrics", site.config.metrics), ("invitations", site.config.invitations)):
        if settings.address:
            wanted.append((f"{section}.address", *settings.place()))
    return wanted


def check_free(ports: Mapping[str, tuple[str, int]]) -> None:
    """Refuse ports, setting -> host and port, that don't become free within a few seconds.

    Raises:
        InputError: a port isn't free; the message names it.
    """
    deadline = time.monotonic() + FREED
    for name, (host, port) in ports.items():
        while (reason := taken(host, port)) and time.monotonic() < deadline:
            time.sleep(0.1)
        if reason:
            by = ", ".join(map(str, listening(port)))
            by = f" by {by}" if by else ""
            raise InputError(f"`{name}` must be a port that is free on {host}, got {port}: {reason}{by}")


def answers_at(listen: str, port: int, name: str, *, seconds: float = 5.0) -> bool:
    """Whether a gateway does a handshake for a name, or refuses it: a worker that hangs does neither."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "[::]": "::1"}.get(listen, listen.strip("[]"))  # noqa: S104
    try:
        with socket.create_connection((host, port), seconds) as plain, context.wrap_socket(plain, server_hostname=name):
            return True
    except ssl.SSLEOFError:
        return False
    except ssl.SSLError:
        return True
    except (OSError, ValueError):
        return False


def configuration(site: Site, *, state: Path | None = None) -> str:
    """Make the text of nginx's configuration: `templates/nginx.conf`, with what is the folder's own.

    Args:
        site: the server folder.
        state: where nginx keeps its process id and its folders; None: where it is served from.
    """
    gateway, enrolment, grant = site.config.gateway, site.config.enrolment, grant_of(site)
    chain, key = site.certificate
    made = Environment(
        loader=PackageLoader("palate_server.service"), autoescape=False, undefined=StrictUndefined,  # noqa: S701, no HTML
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    return made.get_template("nginx.conf").render(
        _harmless(
            {
                "state": state or site.state,
                "listen": gateway.listen,
                "port": gateway.port,
                "acme_port": gateway.acme_port,
                "name": site.config.name,
                "certificate": chain,
                "certificate_key": key,
                "path": gateway.path,
                "rate": gateway.requests_per_second,
                "burst": 20 * gateway.requests_per_second,
                "enrol_rate": enrolment.requests_per_minute,
                "per_address": gateway.connections,
                "body": gateway.body_mib,
                "upstream": "" if grant is None else f"{grant.host}:{grant.gateway_port}",
                "authority": site.tls / TRUST_FILE,
                "token": "" if grant is None else token_for(grant.secret, PROXYING),
            }
        ),
        edges=tokens_for(site.folder, PROXYING),
        user=_user() if os.geteuid() == 0 else "",
        files=_files(site),
        allowed=f"^{gateway.path}{ALLOWED}$",
        origins=site.origins,
        request_headers=", ".join(("content-type", *HEADERS)),
        reply_headers=", ".join(REPLY_HEADERS),
    )


def _files(site: Site) -> int:
    """How many files nginx opens at most: twice its connections, of which a device that waits takes two.

    Raises:
        InputError: the system allows fewer than a cohort needs.
    """
    size, (_, most) = site.config.cohort.size, resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = FILES * size
    if most != resource.RLIM_INFINITY and most < needed:
        raise InputError(
            f"`cohort.size` must leave nginx {FILES} open files for each device, got {size:,} devices and "
            f"{most:,} files: raise `LimitNOFILE` of the unit, or `ulimit -Hn`"
        )
    files = max(MOST_FILES, needed * 5 // 4)
    return files if most == resource.RLIM_INFINITY else min(files, most)


def _harmless(values: dict[str, object]) -> dict[str, object]:
    """The same values; refuse those that nginx would read otherwise."""
    for value in values.values():
        if any(sign in str(value) for sign in " \t\r\n;{}\"'$\\#"):
            raise InputError(f"a path for nginx must be without spaces and signs, got {value}")
    return values


def _user() -> str:
    """The line that gives workers an account other than root; they only read public files."""
    try:
        account = pwd.getpwnam(NOBODY)
        return f"user {account.pw_name} {grp.getgrgid(account.pw_gid).gr_name};\n"
    except KeyError:
        raise InputError(
            f"`palate serve run` must have an account for nginx's workers where root starts it, got no {NOBODY!r}"
        ) from None


def stamp_of(files: Iterable[Path]) -> tuple[int, ...]:
    """What is another once one of the files is: nginx reads certificates when it starts, and on SIGHUP."""
    return tuple(found.stat().st_mtime_ns if found.exists() else 0 for found in files)


def trust_anchor(site: Site) -> str:
    """The PEM certificates by which a device verifies this gateway: the folder's authority, or the operator's chain.

    Raises:
        InputError: a public authority hasn't issued the certificate yet, and no device is to pin what keeps its place.
    """
    gateway, chain = site.config.gateway, site.certificate[0]
    if is_awaited(chain):
        raise InputError(
            f"`gateway.acme_port` must have led to a certificate before anybody is invited, got none yet: see {AWAITED}"
        )
    return chain.read_text() if gateway.certificate or gateway.acme_port else (site.tls / "ca.pem").read_text()


def nginx() -> str:
    """The nginx command.

    Raises:
        InputError: it isn't installed.
    """
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if found is None:
        raise InputError("nginx must be installed for `palate serve run`: apt-get install nginx, or use --dev")
    return found


def write_configuration(site: Site) -> Path:
    """Write nginx's configuration once nginx has checked it; make the public folders readable for its workers.

    Raises:
        InputError: nginx is missing, or refuses the configuration; the former one stays.
    """
    site.pages.mkdir(exist_ok=True)  # whoever takes their pages away may take it, too
    for folder in (site.public, site.models, site.round_models, site.mirror, site.pages):
        folder.chmod(0o755)  # independent of the umask when it was made
    path, new = site.state / "nginx.conf", site.state / "nginx.conf.new"
    new.write_text(configuration(site), encoding="utf-8")
    _try(site, new)
    new.replace(path)
    return path


def check_configuration(site: Site) -> None:
    """Ask nginx whether it would take the configuration; a server that runs keeps its own.

    Raises:
        InputError: nginx is missing, or refuses it.
    """
    with tempfile.TemporaryDirectory(dir=site.state) as folder:
        new = Path(folder) / "nginx.conf"
        new.write_text(configuration(site, state=Path(folder)), encoding="utf-8")
        _try(site, new)


def _try(site: Site, configured: Path) -> None:
    """Let nginx check a configuration.

    Raises:
        InputError: nginx is missing, or refuses it.
    """
    done = subprocess.run(  # noqa: S603 - nginx, on a file of ours
        [*_command(configured), "-t", "-q"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=site.public,
    )
    if done.returncode:
        raise InputError(f"nginx must accept the gateway's configuration, got {' '.join(done.stderr.split())[-300:]}")


def nginx_command(site: Site) -> list[str]:
    """The command of the gateway, to be run in `site.public` after `write_configuration`.

    Workers need no access to the folders above it, which another account can't read.
    """
    return _command(site.state / "nginx.conf")


def _command(configured: Path) -> list[str]:
    return [nginx(), "-p", "./", "-e", "stderr", "-c", str(configured)]
