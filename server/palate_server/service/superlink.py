"""The SuperLink's process: Flower's own command, which here overwrites what it deletes and logs no request.

python -m palate_server.service.superlink --host 127.0.0.1 ...
"""

from __future__ import annotations

import logging
from typing import Any

import uvicorn
from flwr.supercore import sql_mixin
from flwr.supercore.constant import SQLITE_PRAGMAS
from flwr.superlink.cli import flower_superlink

KEEP_SECONDS = 75
"""How long an idle connection is kept. The gateway ends its own after 60: were the SuperLink first, as after uvicorn's
five seconds, a request could meet a connection that has just gone, and a device would be told 502."""


def main() -> None:
    """Run it until it is told to end."""
    # An update that was taken out of the database must not be found on the disk.
    vars(sql_mixin)["SQLITE_PRAGMAS"] = (*SQLITE_PRAGMAS, ("secure_delete", "ON"))
    # A line for each request, and for each node that comes, would say who takes part when.
    logging.getLogger("flwr").setLevel(logging.WARNING)
    serve = uvicorn.run

    def quietly(**settings: Any) -> None:
        serve(**{**settings, "access_log": False, "log_level": "warning", "timeout_keep_alive": KEEP_SECONDS})

    vars(uvicorn)["run"] = quietly
    flower_superlink()


if __name__ == "__main__":
    main()
