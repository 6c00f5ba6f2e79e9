"""Gateway: the configuration of nginx, the only part that is reachable from the network.

    POST /v1/fleet/NAME            -> the SuperLink, over verified TLS
    POST /v1/enroll                -> the enrolment service, on loopback
    GET  /models/..., /directory/,
         /round/                   -> files, by hash
    GET  /ledger/...               -> the ledger's mirror: checkpoint, tiles and entries
    GET, POST /console/...         -> the operator's page, if it has a password; else 404
    GET  /.well-known/acme-challenge/TOKEN, by plain HTTP on `acme_port` alone -> what an ACME client has left
    OPTIONS of the first three     -> whether a web page may: an answer, for the pages of `gateway.origins` alone
    everything else                -> 404; another host name: no handshake; plain HTTP: 400

The gateway of a house is the same for several populations: each has these places below a path `/p/NAME`, or below a
host name of its own, and limits of its own.

Flower's port also answers control, runtime and documentation requests without authentication: only requests of the list
above may reach it.

It leaves no trace of clients: it logs no request, as a line would contain the address, and writes no body to the disk,
where it would outlive its attempt. A body is kept in memory until it is complete.
"""

from __future__ import annotations

import grp
import os
import pwd
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from palate_common.errors import InputError
from palate_server.folder.certificates import is_awaited
from palate_server.folder.house import House
from palate_server.folder.places import SLOTS, place_of_slot
from palate_server.folder.server_folder import Site
from palate_server.service.ports import listening, taken

PAGES = """\
                if (${stranger}) {{
                    return 403;
                }}
                # A browser asks first whether it may ask: it is told so, and nothing is passed on.
                if (${preflight} = "{method}") {{
                    add_header Access-Control-Allow-Origin ${page} always;
                    add_header Access-Control-Allow-Methods "{method}" always;
                    add_header Access-Control-Allow-Headers "{headers}" always;
                    add_header Access-Control-Max-Age 600 always;
                    add_header Vary Origin always;
                    return 204;
                }}
                if ($request_method !~ "^({method}{also})$") {{
                    return 403;
                }}
                add_header Access-Control-Allow-Origin ${page} always;
                add_header Vary Origin always;
"""
"""What a location that pages may use begins with. No credentials go with their requests: a node key signs each."""
SIGNED = "accept, content-type, flwr-public-key, flwr-signature, flwr-timestamp"
"""Headers of a request to the SuperLink."""

TEMPLATE = """\
# Made by `palate serve run` from server.toml at each start: changes here are lost.
{user}pid {state}/nginx.pid;
error_log stderr error;  # of nginx itself: `palate serve run` writes it to the log
daemon off;
worker_processes 1;
worker_rlimit_nofile {files};
worker_shutdown_timeout 120s;  # of a former configuration, after a population was opened or shut
events {{ worker_connections {connections}; }}

http {{
    # Every line about a request names its address: together they would say who takes part when.
    access_log off;
    error_log /dev/null emerg;
    server_tokens off;
    default_type application/octet-stream;
    client_body_temp_path {state}/nginx-body;
    proxy_temp_path {state}/nginx-proxy;
    fastcgi_temp_path {state}/nginx-unused;
    uwsgi_temp_path {state}/nginx-unused;
    scgi_temp_path {state}/nginx-unused;
    # Neither a request nor an answer ever lies in one of these folders.
    client_body_buffer_size 16k;
    proxy_max_temp_file_size 0;
    limit_req_status 429;
    limit_conn_status 429;

    client_header_timeout 10s;
    client_body_timeout 15s;
    send_timeout 15s;
    keepalive_timeout 65s;
    reset_timedout_connection on;
    client_header_buffer_size 2k;
    large_client_header_buffers 2 8k;
    client_max_body_size 1k;
    merge_slashes off;
    ignore_invalid_headers on;
    underscores_in_headers off;

    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_prefer_server_ciphers off;
    ssl_session_cache shared:tls:8m;
    ssl_session_tickets off;

    # Whoever doesn't know the name gets no handshake.
    server {{
        listen {listen}:{port} ssl default_server;
        ssl_reject_handshake on;
    }}
{challenges}{behind}{servers}}}
"""
CHALLENGES = """
    # What an ACME authority asks for (RFC 8555, 8.3), and nothing else.
    limit_req_zone $binary_remote_addr zone=challenges:1m rate=10r/s;
    server {{
        listen {listen}:{acme_port};
        location / {{
            limit_req zone=challenges burst=50 nodelay;
            return 404;

            location ~ "^/[.]well-known/acme-challenge/[A-Za-z0-9_-]{{1,128}}$" {{
                limit_except GET {{ deny all; }}
                root ./;
                disable_symlinks on;
            }}
        }}
    }}
"""
BEHIND = """
    limit_req_zone $binary_remote_addr zone=requests{mark}:16m rate={rate}r/s;
    limit_req_zone $binary_remote_addr zone=enrolments{mark}:4m rate={enrol_rate}r/m;
    limit_conn_zone $binary_remote_addr zone=connections{mark}:16m;
{tries}
    # Web pages: those of `gateway.origins`, and no others. Whatever isn't a browser sends no origin.
    map $http_origin ${page} {{
        default "";
{origins}    }}
    map $http_origin ${stranger} {{
        default 1;
        "" 0;
{known}    }}
    map "$request_method $http_access_control_request_method ${page}" ${preflight} {{
        default "";
        "~^OPTIONS GET ." GET;
        "~^OPTIONS POST ." POST;
    }}

{upstreams}"""
"""What is a population's own, apart from its places: whoever fills one's limits leaves the others'."""
SERVER = """
    server {{
        listen {listen}:{port} ssl;
        server_name {name};
        ssl_certificate {certificate};
        ssl_certificate_key {certificate_key};
        autoindex off;

        # The request as it was sent, before any decoding: what isn't spelled exactly so goes nowhere.
        if ($request_uri !~ "{allowed}") {{
            return 404;
        }}
        if ($host != "{name}") {{
            return 404;
        }}
{places}    }}
"""
PLACES = """
        location {path}/ {{
            limit_conn connections{mark} {per_address};
            limit_req zone=requests{mark} burst={burst} nodelay;
            return 404;

            location ^~ {path}/v1/fleet/ {{
{pages_fleet}                client_max_body_size {body}m;
                client_body_buffer_size {body}m;
                {to_superlink}
                proxy_http_version 1.1;
                proxy_set_header Connection "";
                proxy_set_header Host localhost;
                proxy_ssl_verify on;
                proxy_ssl_trusted_certificate {authority};
                proxy_ssl_name localhost;
                proxy_ssl_server_name on;
                proxy_ssl_session_reuse on;
                proxy_connect_timeout 5s;
                proxy_read_timeout 60s;
                proxy_send_timeout 60s;  # the SuperLink takes few large ones at a time
                proxy_next_upstream off;
            }}

            location = {path}/v1/enroll {{
{pages_enrol}                limit_req zone=enrolments{mark} burst={enrol_burst} nodelay;
                client_max_body_size 4k;
                proxy_pass http://127.0.0.1:{enrolment_port}/v1/enroll;
                proxy_connect_timeout 5s;
                proxy_read_timeout 30s;
            }}

            # Paths of files are relative to the folder that nginx is started in.
            location ^~ {path}/models/ {{
{pages_files}                alias {public}models/;
                disable_symlinks on;
                {immutable}
            }}

            location = {path}/models/latest {{
{pages_files}                default_type application/json;
                alias {public}models/latest;
                disable_symlinks on;
                add_header Cache-Control "no-cache";
            }}

            location ^~ {path}/directory/ {{
{pages_files}                alias {public}directory/;
                disable_symlinks on;
                {immutable}
            }}

            location ^~ {path}/round/ {{
{pages_files}                alias {public}round/;
                disable_symlinks on;
                {immutable}
            }}

            location ^~ {path}/ledger/ {{
                limit_except GET {{ deny all; }}
                alias {public}ledger/;
                disable_symlinks on;
            }}

            location = {path}/ledger/checkpoint {{
                limit_except GET {{ deny all; }}
                default_type "text/plain; charset=utf-8";
                alias {public}ledger/checkpoint;
                disable_symlinks on;
                add_header Cache-Control "no-cache";
            }}
{console}        }}
"""
"""Where a population's requests go: `path` is empty, or `/p/NAME` where several share a name and a port."""
CONSOLE = """
            # The operator's page: it asks for its password, and each address has few tries.
            location = {path}/console/enter {{
                limit_except POST {{ deny all; }}
                limit_req zone=tries{mark} burst=5 nodelay;
                client_max_body_size 4k;
                {to_door}
            }}

            location ^~ {path}/console {{
                limit_except GET POST {{ deny all; }}
                {to_page}
                proxy_buffering off;  # what happens is told at once
                proxy_read_timeout 60s;
            }}
"""
TO_PAGE = """proxy_pass http://127.0.0.1:{metrics_port}/console{rest};
                proxy_http_version 1.1;
                proxy_set_header Connection "";
                proxy_set_header Host $host;
                proxy_set_header X-Palate-Gateway 1;
                proxy_connect_timeout 5s;"""
TRIES = "    limit_req_zone $binary_remote_addr zone=tries{mark}:1m rate=6r/m;\n"
"""Passwords that an address may try; 16,000 addresses are kept in memory, and older ones make room."""
UPSTREAM = """\
    upstream {name} {{
        server 127.0.0.1:{port};
        keepalive 1024;
        keepalive_timeout 60s;
    }}
"""
SPLIT = """\
    # Each node is at one SuperLink, by its key: see palate_server.folder.places.
    split_clients "$http_flwr_public_key" {variable} {{
{slots}
    }}
"""
IMMUTABLE = 'add_header Cache-Control "public, max-age=86400, immutable";'
"""What a place of files begins with that are named after their hash."""
LEDGER = "ledger/(checkpoint|tile/([0-9]|entries)/(x[0-9][0-9][0-9]/)*[0-9][0-9][0-9]([.]p/[1-9][0-9]?[0-9]?)?)"
"""The files of the ledger's mirror."""
CONSOLE_FILES = (
    "console(/(live|enter|leave|card/[0-9a-f]{64}|static/(vendor/)?[a-z0-9][a-z0-9.-]*)?([?][a-z0-9=&-]*)?)?"
)
"""The places of the operator's page."""
ALLOWED = (
    "/(v1/(fleet/[a-z-]+|enroll)|models/(latest|[0-9a-f]{64}/[a-z0-9][a-z0-9._-]*)|(directory|round)/[0-9a-f]{64}|"
    f"{LEDGER}%s)"
)
"""The allowed request paths, after a population's own; `%s` is for those of a page."""
AWAITED = "docs/operations.md#a-public-certificate"
NOBODY = "nobody"
"""The account of nginx's workers if root runs the server: one without rights."""


MOST_FILES = 32768
"""The most files of nginx for a population, where the system allows it, and twice its connections: a device that waits
takes two."""
FREED = 10.0
"""Seconds to wait for the parts of a former server to end."""


@dataclass(frozen=True)
class HousePage:
    """The operator's page of a house, where the gateway shows it: at the bare path of the house's name.

    Attributes:
        name: the house's name.
        port: of the loopback interface, where the page is.
        certificate: the files of the house's certificate chain and its key.
    """

    name: str
    port: int
    certificate: tuple[Path, Path]


@dataclass(frozen=True)
class Front:
    """An nginx, and whom it is the gateway of.

    Attributes:
        folder: the folder that it is started in. Workers need no access to the folders above it, which another account
            can't read.
        state: the folder of its configuration and process id.
        logs: the folder of its log.
        listen: the address on which it listens.
        port: its port.
        acme_port: the port on which it answers an ACME authority with what lies in `folder`; 0: there is none.
        sites: the populations; "" or a word that marks what is theirs in nginx, and their server folders.
        page: a house's own page; None: the gateway doesn't show it.
        shut: name and path of populations that aren't served now: their devices are told to come again.
    """

    folder: Path
    state: Path
    logs: Path
    listen: str
    port: int
    sites: Mapping[str, Site]
    shut: Sequence[tuple[str, str]] = ()
    acme_port: int = 0
    page: HousePage | None = None

    @classmethod
    def alone(cls, site: Site) -> Front:
        """The gateway of one server folder."""
        gateway = site.config.gateway
        return cls(
            site.public, site.state, site.logs, gateway.listen, gateway.port, {"": site}, acme_port=gateway.acme_port
        )

    @classmethod
    def of_house(cls, house: House, sites: Mapping[str, Site]) -> Front:
        """The gateway of a house, of whose populations these are served."""
        config = house.config
        shut = house.sites([name for name in house.names() if name not in sites])
        page = HousePage(config.name, config.metrics_port, house.certificate) if config.console.password else None
        return cls(
            folder=house.populations,
            state=house.state,
            logs=house.logs,
            listen=config.listen,
            port=config.port,
            acme_port=config.acme_port,
            sites=dict(sorted(sites.items())),
            page=page,
            shut=[(site.config.name, site.config.gateway.path) for site in shut.values()],
        )


def check_ports(site: Site, *, dev: bool = False, housed: bool = False) -> None:
    """Refuse to start if a port isn't free, for example because a part of a former server still listens.

    Raises:
        InputError: a port isn't free; the message names it.
    """
    for name, host, port in wanted_ports(site, dev=dev, housed=housed):
        check_free({name: (host, port)})


def wanted_ports(site: Site, *, dev: bool = False, housed: bool = False) -> list[tuple[str, str, int]]:
    """The ports that a start needs: setting, host and port of each.

    Args:
        site: the server folder.
        dev: whether there is no nginx.
        housed: whether the gateway is a house's, which has its port already.
    """
    gateway, loopback = site.config.gateway, "127.0.0.1"
    wanted = [] if housed else [("gateway.port", loopback if dev else gateway.listen, gateway.port)]
    if gateway.acme_port and not dev and not housed:
        wanted.append(("gateway.acme_port", gateway.listen, gateway.acme_port))
    wanted += [("gateway.superlink_port", loopback, port) for port in gateway.superlink_ports]
    wanted.append(("gateway.metrics_port", loopback, gateway.metrics_port))
    wanted += [] if dev else [("gateway.enrolment_port", loopback, gateway.enrolment_port)]
    for section, settings in (("metrics", site.config.metrics), ("invitations", site.config.invitations)):
        if settings.address:
            wanted.append((f"{section}.address", *settings.place()))
    return wanted


def house_ports(house: House) -> list[tuple[str, str, int]]:
    """The ports that the start of a house needs for itself: setting, host and port of each."""
    config = house.config
    wanted = [("port", config.listen, config.port), ("metrics_port", "127.0.0.1", config.metrics_port)]
    wanted += [("acme_port", config.listen, config.acme_port)] if config.acme_port else []
    return wanted + ([("metrics.address", *config.metrics.place())] if config.metrics.address else [])


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


def configuration(front: Front) -> str:
    """Make the text of nginx's configuration."""
    named: dict[str, list[Mapping[str, object]]] = {}
    for mark, site in front.sites.items():
        named.setdefault(site.config.name, []).append(_values(front, mark, site))
    page, servers = _shown_page(front), []
    if page is not None:
        named.setdefault(page.name, [])
    for name, group in named.items():
        used = [str(each["path"]) for each in group]
        shut = sorted({path for where, path in front.shut if where == name and path not in used})
        places = [PLACES.format_map(each) for each in group]
        consoles = f"|{CONSOLE_FILES}" if any(each["console"] for each in group) else ""
        places += [f"\n        location {path}/ {{ return 503; }}\n" for path in shut]
        if "" not in (*used, *shut):
            places.append("\n        location / { return 404; }\n")
        allowed = f"({'|'.join((*used, *shut))}){ALLOWED % consoles}"
        first = group[0] if group else _plain(front)
        if page is not None and page.name == name:
            allowed = f"({allowed}|/{CONSOLE_FILES})"
            places.append(_page_places("", "", page.port))
            chain, key = page.certificate
            first = {**first, **_harmless({"certificate": chain, "certificate_key": key})}
        shared = {"name": name, "allowed": f"^{allowed}$", "places": "".join(places)}
        servers.append(SERVER.format_map({**first, **shared}))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = MOST_FILES * max(1, len(front.sites))
    files = files if most == resource.RLIM_INFINITY else min(files, most)
    values: dict[str, object] = {
        "user": _user() if os.geteuid() == 0 else "",
        "files": files,
        "connections": files // 2,
        "challenges": CHALLENGES.format_map(_plain(front)) if front.acme_port else "",
        "behind": "".join(
            [
                *(BEHIND.format_map(each) for group in named.values() for each in group),
                *([] if page is None else [TRIES.format(mark="")]),
            ]
        ),
        "servers": "".join(servers),
    }
    return TEMPLATE.format_map(_plain(front) | values)


def _plain(front: Front) -> dict[str, object]:
    """What all of nginx has in common."""
    plain = {"state": front.state, "listen": front.listen, "port": front.port, "acme_port": front.acme_port}
    return _harmless(plain)


def _values(front: Front, mark: str, site: Site) -> dict[str, object]:
    """What nginx is told of one population."""
    gateway = site.config.gateway
    public = site.public.relative_to(front.folder).as_posix()
    mark, ports = f"_{mark}" if mark else "", gateway.superlink_ports
    behind = {"upstreams": _upstreams(mark, ports), "to_superlink": _to_superlink(gateway.path, mark, len(ports))}
    behind |= _pages(mark, gateway.origins) | _console(site, mark)
    return (
        _plain(front)
        | behind
        | _harmless(
            {
                "mark": mark,
                "path": gateway.path,
                "public": f"{public}/",
                "rate": gateway.requests_per_second,
                "burst": 20 * gateway.requests_per_second,
                "enrol_rate": site.config.enrolment.requests_per_minute,
                "enrol_burst": site.config.enrolment.requests_per_minute,
                "enrolment_port": gateway.enrolment_port,
                "name": site.config.name,
                "certificate": site.certificate[0],
                "certificate_key": site.certificate[1],
                "per_address": gateway.connections,
                "body": gateway.body_mib,
                "authority": site.tls / "ca.pem",
            }
        )
        | {"immutable": IMMUTABLE}
    )


def _harmless(values: dict[str, object]) -> dict[str, object]:
    """The same values; refuse those that nginx would read otherwise."""
    for value in values.values():
        if any(sign in str(value) for sign in " \t\n;{}\"'$\\#"):
            raise InputError(f"a path for nginx must be without spaces and signs, got {value}")
    return values


def _upstreams(mark: str, ports: Sequence[int]) -> str:
    """A population's SuperLinks as nginx's upstreams, and, if there are several, which of them a request goes to."""
    if len(ports) == 1:
        return UPSTREAM.format(name=f"superlink{mark}", port=ports[0])
    names = [f"superlink{mark}_{place + 1}" for place in range(len(ports))]
    made = [UPSTREAM.format(name=name, port=port) for name, port in zip(names, ports, strict=True)]
    shares = [f"{100 / SLOTS:g}%"] * (SLOTS - 1) + ["*"]
    slots = [f"        {share} {names[place_of_slot(slot, len(ports))]};" for slot, share in enumerate(shares)]
    return "\n".join([*made, SPLIT.format(variable=_variable(mark), slots="\n".join(slots))])


def _to_superlink(path: str, mark: str, count: int) -> str:
    """Where a device's request goes: nginx takes no part of a path beside a variable."""
    if count == 1:
        return f"proxy_pass https://superlink{mark}/v1/fleet/;"
    return f"rewrite ^{path}(/.*)$ $1 break;\n{' ' * 16}proxy_pass https://{_variable(mark)};"


def _pages(mark: str, origins: Sequence[str]) -> dict[str, str]:
    """Which web pages may use a population's places, and how those places begin."""
    names = {name: f"{name}{mark.replace('-', '_')}" for name in ("page", "stranger", "preflight")}
    return names | {
        "origins": "".join(f'        "{origin}" "{origin}";\n' for origin in origins),
        "known": "".join(f'        "{origin}" 0;\n' for origin in origins),
        "pages_fleet": PAGES.format(method="POST", also="", headers=SIGNED, **names),
        "pages_enrol": PAGES.format(method="POST", also="", headers="content-type", **names),
        "pages_files": PAGES.format(method="GET", also="|HEAD", headers="accept", **names),
    }


def _console(site: Site, mark: str) -> dict[str, str]:
    """What the gateway has for the operator's page: nothing without a password."""
    if not site.config.console.password:
        return {"console": "", "tries": ""}
    gateway = site.config.gateway
    made = _page_places(gateway.path, mark, gateway.metrics_port)
    return {"console": made, "tries": TRIES.format(mark=mark)}


def _page_places(path: str, mark: str, port: int) -> str:
    """Where the gateway has a page that is on a port of the loopback interface."""
    door, page = (TO_PAGE.format(metrics_port=port, rest=rest) for rest in ("/enter", ""))
    return CONSOLE.format(path=path, mark=mark, to_door=door, to_page=page)


def _shown_page(front: Front) -> HousePage | None:
    """The house's page, unless a population has the bare paths of its name."""
    page = front.page
    places = [(site.config.name, site.config.gateway.path) for site in front.sites.values()]
    return None if page is None or (page.name, "") in [*places, *front.shut] else page


def _variable(mark: str) -> str:
    """The variable that names the SuperLink of a request; such a name has no hyphen, and a mark no underscore."""
    return f"$superlink{mark.replace('-', '_')}"


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


def write_configuration(front: Front) -> Path:
    """Write nginx's configuration once nginx has checked it; make the public folders readable for its workers.

    Raises:
        InputError: nginx is missing, or refuses the configuration; the former one stays.
    """
    for site in front.sites.values():
        for folder in (site.public, site.models, site.directories, site.round_models, site.mirror):
            folder.mkdir(exist_ok=True)  # an earlier version may have made the folder
            folder.chmod(0o755)  # independent of the umask when it was made
    path, new = front.state / "nginx.conf", front.state / "nginx.conf.new"
    new.write_text(configuration(front), encoding="utf-8")
    _try(front, new)
    new.replace(path)
    return path


def check_configuration(front: Front) -> None:
    """Ask nginx whether it would take the configuration; a server that runs keeps its own.

    Raises:
        InputError: nginx is missing, or refuses it.
    """
    with tempfile.TemporaryDirectory(dir=front.state) as folder:
        tried = replace(front, state=Path(folder))
        new = tried.state / "nginx.conf"
        new.write_text(configuration(tried), encoding="utf-8")
        _try(tried, new)


def _try(front: Front, configured: Path) -> None:
    """Let nginx check a configuration.

    Raises:
        InputError: nginx is missing, or refuses it.
    """
    done = subprocess.run(  # noqa: S603 - nginx, on a file of ours
        [*_command(front, configured), "-t", "-q"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=front.folder,
    )
    if done.returncode:
        raise InputError(f"nginx must accept the gateway's configuration, got {' '.join(done.stderr.split())[-300:]}")


def nginx_command(front: Front) -> list[str]:
    """The command of the gateway, to be run in `front.folder` after `write_configuration`."""
    return _command(front, front.state / "nginx.conf")


def _command(front: Front, configured: Path) -> list[str]:
    return [nginx(), "-p", "./", "-e", "stderr", "-c", str(configured)]
