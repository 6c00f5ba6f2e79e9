"""Extras: what to install where a package is missing, and how much that is.

>>> to_install("delivery")
"pip install 'palate[delivery]' (120 MB on disk)"
"""

from __future__ import annotations

SIZES = {
    "server": 350,
    "node": 120,
    "simulations": 620,
    "demo-data": 410,
    "text": 650,
    "keyring": 110,
    "delivery": 120,
    "ray": 420,
    "torch": 850,
    "notebook": 160,
}
"""Extra -> megabytes of all that it brings, what a device carries included; on Linux, with torch for processors."""


def to_install(extra: str) -> str:
    """The command that installs an extra, with its size."""
    size = f" ({SIZES[extra]} MB on disk)" if extra in SIZES else ""
    return f"pip install 'palate[{extra}]'{size}"
