"""SuperLink: Flower's own, as it is, behind a guard, with TLS.

    python -m palate_server.flower.superlink --host ... --superexec-auth-secret-file STATE/superlink.secret ...

Its nodes are this server's edges, and no device: nothing that a device sends is parsed here, and no message names one.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import uvicorn
from flwr.superlink.cli.flower_superlink import SuperLinkLifespan, _parse_superlink_lifespan_config
from flwr.superlink.main import create_app

from palate_core.errors import InputError
from palate_server.flower.guard import REGISTERING, TokenGuard, token_of
from palate_server.folder.edges import tokens_for
from palate_server.folder.server_folder import Site

SECRET: Final = "--superexec-auth-secret-file"  # noqa: S105 # an option of Flower's
KEEP_SECONDS: Final = 75
"""Seconds that a connection is kept without a request."""


def superlink_command(site: Site) -> list[str]:
    """The command of a folder's SuperLink: TLS, node authentication, and the ServerApp in another process."""
    tls = site.tls
    return [
        *(sys.executable, "-m", "palate_server.flower.superlink"),
        *("--host", site.config.gateway.superlink_listen, "--port", str(site.config.gateway.superlink_port)),
        *("--ssl-certfile", str(tls / "superlink.pem"), "--ssl-keyfile", str(tls / "superlink.key")),
        *("--ssl-ca-certfile", str(tls / "ca.pem")),
        *("--enable-supernode-auth", "--isolation", "process", "--disable-runtime-dependency-installation"),
        *(SECRET, str(site.superlink_secret)),
    ]


def value_of(arguments: Sequence[str], option: str) -> str:
    """The value of one of Flower's options.

    Raises:
        InputError: it isn't given.
    """
    given = list(arguments)
    if option not in given[:-1]:
        raise InputError(f"`{option}` must be given, got a SuperLink without")
    return given[given.index(option) + 1]


def main() -> None:
    """Run the SuperLink until it is stopped."""
    secret = Path(value_of(sys.argv, SECRET))
    logging.getLogger("flwr").setLevel(logging.WARNING)  # one line for each request says nothing
    application = create_app(_parse_superlink_lifespan_config(), SuperLinkLifespan)
    served = TokenGuard(application, token_of(secret), lambda: tokens_for(secret.parent.parent, REGISTERING))
    uvicorn.run(
        served,
        host=value_of(sys.argv, "--host"),
        port=int(value_of(sys.argv, "--port")),
        ssl_certfile=value_of(sys.argv, "--ssl-certfile"),
        ssl_keyfile=value_of(sys.argv, "--ssl-keyfile"),
        access_log=False,
        log_level="warning",
        timeout_keep_alive=KEEP_SECONDS,
        lifespan="on",
        ws="none",
    )


if __name__ == "__main__":
    main()
