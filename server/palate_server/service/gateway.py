"""Gateway: the configuration of nginx, the only part that is reachable from the network.

    POST /v1/fleet/NAME            -> the SuperLink, over verified TLS
    POST /v1/enroll                -> the enrolment service, on loopback
    GET  /models/..., /directory/  -> files, by hash
    GET  /ledger/...               -> the ledger's mirror: checkpoint, tiles and entries
    OPTIONS of the first three     -> whether a web page may: an answer, for the pages of `gateway.origins` alone
    everything else                -> 404; another host name: no handshake; plain HTTP: 400

Flower's port also answers control, runtime and documentation requests without authentication: only requests of the list
above may reach it.

It leaves no trace of clients: it logs no request, as a line would contain the address, and writes no body to the disk,
where it would outlive its attempt. A body is kept in memory until it is complete.
"""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import socket
import subprocess
import time
from pathlib import Path

from palate_common.errors import InputError
from palate_server.folder.server_folder import Site

PAGES = """\
            if ($stranger) {{
                return 403;
            }}
            # A browser asks first whether it may ask: it is told so, and nothing is passed on.
            if ($preflight = "{method}") {{
                add_header Access-Control-Allow-Origin $page always;
                add_header Access-Control-Allow-Methods "{method}" always;
                add_header Access-Control-Allow-Headers "{headers}" always;
                add_header Access-Control-Max-Age 600 always;
                add_header Vary Origin always;
                return 204;
            }}
            if ($request_method !~ "^({method}{also})$") {{
                return 403;
            }}
            add_header Access-Control-Allow-Origin $page always;
            add_header Vary Origin always;
"""
"""What a location that pages may use begins with. No credentials go with their requests: a node key signs each."""
SIGNED = "accept, content-type, flwr-public-key, flwr-signature, flwr-timestamp"
"""Headers of a request to the SuperLink."""

TEMPLATE = """\
# Made by `palate serve run` from server.toml at each start: changes here are lost.
{user}pid {state}/nginx.pid;
error_log {logs}/gateway.log error;  # of nginx itself
daemon off;
worker_processes 1;
worker_rlimit_nofile {files};
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

    limit_req_zone $binary_remote_addr zone=requests:16m rate={rate}r/s;
    limit_req_zone $binary_remote_addr zone=enrolments:4m rate={enrol_rate}r/m;
    limit_conn_zone $binary_remote_addr zone=connections:16m;
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

    # Web pages: those of `gateway.origins`, and no others. Whatever isn't a browser sends no origin.
    map $http_origin $page {{
        default "";
{origins}    }}
    map $http_origin $stranger {{
        default 1;
        "" 0;
{known}    }}
    map "$request_method $http_access_control_request_method $page" $preflight {{
        default "";
        "~^OPTIONS GET ." GET;
        "~^OPTIONS POST ." POST;
    }}

    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_prefer_server_ciphers off;
    ssl_session_cache shared:tls:8m;
    ssl_session_tickets off;

    upstream superlink {{
        server 127.0.0.1:{superlink_port};
        keepalive 32;
        keepalive_timeout 60s;
    }}

    # Whoever doesn't know the name gets no handshake.
    server {{
        listen {listen}:{port} ssl default_server;
        ssl_reject_handshake on;
    }}

    server {{
        listen {listen}:{port} ssl;
        server_name {name};
        ssl_certificate {certificate};
        ssl_certificate_key {certificate_key};
        root .;  # nginx is started in the folder of what is public
        autoindex off;
        limit_conn connections {per_address};
        limit_req zone=requests burst={burst} nodelay;

        # The request as it was sent, before any decoding: what isn't spelled exactly so goes nowhere.
        if ($request_uri !~ "{allowed}") {{
            return 404;
        }}
        if ($host != "{name}") {{
            return 404;
        }}

        location ^~ /v1/fleet/ {{
{pages_fleet}            client_max_body_size {body}m;
            client_body_buffer_size {body}m;
            proxy_pass https://superlink;
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

        location = /v1/enroll {{
{pages_enrol}            limit_req zone=enrolments burst={enrol_burst} nodelay;
            client_max_body_size 4k;
            proxy_pass http://127.0.0.1:{enrolment_port};
            proxy_connect_timeout 5s;
            proxy_read_timeout 30s;
        }}

        location ^~ /models/ {{
{pages_files}            disable_symlinks on;
        }}

        location = /models/latest {{
{pages_files}            default_type application/json;
            disable_symlinks on;
            add_header Cache-Control "no-cache";
        }}

        location ^~ /directory/ {{
{pages_files}            disable_symlinks on;
        }}

        location ^~ /ledger/ {{
            limit_except GET {{ deny all; }}
            disable_symlinks on;
        }}

        location = /ledger/checkpoint {{
            limit_except GET {{ deny all; }}
            default_type "text/plain; charset=utf-8";
            disable_symlinks on;
            add_header Cache-Control "no-cache";
        }}

        location / {{ return 404; }}
    }}
}}
"""


OURS = ("user", "allowed", "origins", "known", "pages_fleet", "pages_enrol", "pages_files")
"""Values that are no paths."""
LEDGER = "ledger/(checkpoint|tile/([0-9]|entries)/(x[0-9][0-9][0-9]/)*[0-9][0-9][0-9]([.]p/[1-9][0-9]?[0-9]?)?)"
"""The files of the ledger's mirror."""
ALLOWED = (
    "^/(v1/(fleet/[a-z-]+|enroll)|models/(latest|[0-9a-f]{64}/[a-z0-9][a-z0-9._-]*)|directory/[0-9a-f]{64}|"
    f"{LEDGER})$"
)
"""The allowed request paths."""
NOBODY = "nobody"
"""The account of nginx's workers if root runs the server: one without rights."""


FREED = 10.0
"""Seconds to wait for the parts of a former server to end."""


def check_ports(site: Site, *, dev: bool) -> None:
    """Refuse to start if a port isn't free, for example because a part of a former server still listens.

    Raises:
        InputError: a port isn't free; the message names it.
    """
    gateway, loopback = site.config.gateway, "127.0.0.1"
    hosts = {"port": loopback if dev else gateway.listen, "superlink_port": loopback, "metrics_port": loopback}
    hosts |= {} if dev else {"enrolment_port": loopback}
    deadline = time.monotonic() + FREED
    for name, host in hosts.items():
        port = getattr(gateway, name)
        while (reason := _taken(host, port)) and time.monotonic() < deadline:
            time.sleep(0.1)
        if reason:
            raise InputError(f"`gateway.{name}` must be a port that is free on {host}, got {port}: {reason}")


def _taken(host: str, port: int) -> str:
    """Why this port can't be used; empty if it can."""
    try:
        family, *_, address = socket.getaddrinfo(
            host.strip("[]*") or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        socket.create_server(address[:2], family=family).close()
    except OSError as error:
        return (error.strerror or str(error)).partition(" (")[0]
    return ""


def configuration(site: Site) -> str:
    """Make the text of nginx's configuration."""
    gateway = site.config.gateway
    values = {
        "user": _user() if os.geteuid() == 0 else "",
        "state": site.state,
        "logs": site.logs,
        "files": 8192,
        "connections": 4096,
        "rate": gateway.requests_per_second,
        "burst": 20 * gateway.requests_per_second,
        "enrol_rate": site.config.enrolment.requests_per_minute,
        "enrol_burst": site.config.enrolment.requests_per_minute,
        "superlink_port": gateway.superlink_port,
        "enrolment_port": gateway.enrolment_port,
        "listen": gateway.listen,
        "port": gateway.port,
        "name": site.config.name,
        "certificate": certificate(site)[0],
        "certificate_key": certificate(site)[1],
        "per_address": gateway.connections,
        "body": gateway.body_mib,
        "authority": site.tls / "ca.pem",
        "allowed": ALLOWED,
        "origins": "".join(f'        "{origin}" "{origin}";\n' for origin in gateway.origins),
        "known": "".join(f'        "{origin}" 0;\n' for origin in gateway.origins),
        "pages_fleet": PAGES.format(method="POST", also="", headers=SIGNED),
        "pages_enrol": PAGES.format(method="POST", also="", headers="content-type"),
        "pages_files": PAGES.format(method="GET", also="|HEAD", headers="accept"),
    }
    for name, value in values.items():
        if name not in OURS and any(sign in str(value) for sign in " \t\n;{}\"'$\\#"):
            raise InputError(f"a path for nginx must be without spaces and signs, got {value}")
    return TEMPLATE.format(**values)


def _user() -> str:
    """The line that gives workers an account other than root; they only read public files."""
    try:
        account = pwd.getpwnam(NOBODY)
        return f"user {account.pw_name} {grp.getgrgid(account.pw_gid).gr_name};\n"
    except KeyError:
        raise InputError(
            f"`palate serve run` must have an account for nginx's workers where root starts it, got no {NOBODY!r}"
        ) from None


def certificate(site: Site) -> tuple[Path, Path]:
    """The gateway's certificate chain and its key."""
    gateway = site.config.gateway
    if gateway.certificate:
        return site.folder / gateway.certificate, site.folder / gateway.certificate_key
    return site.tls / "server.pem", site.tls / "server.key"


def trust_anchor(site: Site) -> str:
    """The PEM certificates by which a device verifies this gateway: the folder's authority, or the operator's chain."""
    if not site.config.gateway.certificate:
        return (site.tls / "ca.pem").read_text()
    return certificate(site)[0].read_text()


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
    """Write nginx's configuration and let nginx check it; make the public folders readable for its workers.

    Raises:
        InputError: nginx is missing, or refuses the configuration.
    """
    for folder in (site.public, site.models, site.directories, site.mirror):
        folder.chmod(0o755)  # independent of the umask when it was made
    path = site.state / "nginx.conf"
    path.write_text(configuration(site), encoding="utf-8")
    done = subprocess.run(  # noqa: S603 - nginx, on a file of ours
        [*nginx_command(site), "-t", "-q"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode:
        raise InputError(f"nginx must accept the gateway's configuration, got {' '.join(done.stderr.split())[-300:]}")
    return path


def nginx_command(site: Site) -> list[str]:
    """The command of the gateway, to be run in the folder `site.public` after `write_configuration`.

    Paths of served files are relative to that folder: workers need no access to the folders above it, which another
    account can't read.
    """
    return [nginx(), "-p", "./", "-e", str(site.logs / "gateway.log"), "-c", str(site.state / "nginx.conf")]
