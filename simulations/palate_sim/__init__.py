"""Simulations: data, engines, baselines, metrics and reports of runs, for `palate.simulate` and the command line.

`__all__` lists the public names. Each is imported at its first use: a server needs some of these modules, but none of
their libraries.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from palate_sim.config import SimulationConfig, load_config
    from palate_sim.run.result import Result

_LATER = {
    "Result": "palate_sim.run.result",
    "SimulationConfig": "palate_sim.config",
    "load_config": "palate_sim.config",
}
"""Name -> the module that defines it."""

__all__ = ["Result", "SimulationConfig", "load_config"]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import a public name at its first use."""
        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(import_module(_LATER[name]), name)
        return found

    def __dir__() -> list[str]:
        """List the public names, for completion in an editor."""
        return sorted({*globals(), *_LATER})
