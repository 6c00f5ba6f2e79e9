"""Engines carry the messages of a simulated run. All run the same rounds on the server and the same ClientApp.

- `local`: in this process, or one a core for a large population (`palate_sim.engines.local.run_local`); the default.
- `ray`: the machines of a running Ray cluster (`palate_sim.engines.cluster.engine.run_ray`).
- `flower`: Flower's own SuperLink and Ray workers (`palate_sim.engines.flower.engine.run_flower`).

The package doesn't import Flower; the engine that runs does.
"""

from palate_sim.engines.job import Job, OnRelease, Outcome

__all__ = ["Job", "OnRelease", "Outcome"]
