"""Simulations: data, engines, baselines, metrics and the report of a run, for `palate.simulate` and the command line.

`__all__` is what is public. It is imported when it is asked for: a server needs some of these modules, and none of the
libraries.
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
"""Name -> where it is."""

__all__ = ["Result", "SimulationConfig", "load_config"]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """What is imported when it is asked for."""
        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(import_module(_LATER[name]), name)
        return found

    def __dir__() -> list[str]:
        """What an editor offers."""
        return sorted({*globals(), *_LATER})
