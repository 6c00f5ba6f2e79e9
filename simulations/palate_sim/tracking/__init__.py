"""A run in the experiment trackers that people have already: MLflow, Weights & Biases offline, TensorBoard.

`check_tracker` checks what the user named, `tracking` is the callback, and `replay` gives it a run that is finished.
"""

from palate_sim.tracking.tracker import check_tracker
from palate_sim.tracking.tracking import replay, tracking

__all__ = ["check_tracker", "replay", "tracking"]
