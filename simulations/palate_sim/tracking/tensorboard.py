"""TensorBoard, without torch or TensorFlow.

    TensorBoardTracker("logs")  # then: tensorboard --logdir logs

Each model is a TensorBoard run of its own, `<run>/palate` and `<run>/ease`, so that a baseline is a line beside
Palate's in the same chart: its value stands at the first and the last round.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# These ship no types.
from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[import-untyped]
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]
from tensorboard.compat.proto.tensor_pb2 import TensorProto  # type: ignore[import-untyped]
from tensorboard.compat.proto.types_pb2 import DT_STRING  # type: ignore[import-untyped]
from tensorboard.plugins.text.metadata import create_summary_metadata  # type: ignore[import-untyped]
from tensorboard.summary.writer.event_file_writer import EventFileWriter  # type: ignore[import-untyped]

from palate_sim.tracking.tracker import Begun, Finished


class TensorBoardTracker:
    """Event files below a log folder; a run that goes on adds files to its folders.

    Args:
        place: the log folder, made if missing.
    """

    def __init__(self, place: str) -> None:
        self._folder = Path(place)
        self._writers: dict[str, Any] = {}
        self._run = ""

    def begin(self, run: Begun) -> None:
        """The configuration and what stands beside every epsilon, as texts."""
        self._run = f"{_safe(run.name)}-{run.id[:8]}"
        rows = [f"| {name} | {value} |" for name, value in run.config.items()]
        self._say("config", "\n".join(("| setting | value |", "|---|---|", *rows)))
        self._say("privacy", run.privacy)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Scalars of the run's own model."""
        self._scalars("palate", step, values)
        self._writer("palate").flush()

    def finish(self, result: Finished) -> None:
        """Test metrics of every model, as lines over all rounds; report and card as texts would be unreadable."""
        self._say("privacy", result.privacy)
        self._scalars("palate", result.step, result.values)
        for model, values in result.tested.items():
            for step in sorted({1, result.step}):
                self._scalars(model, step, values)
        for file in result.files:
            kept = self._folder / self._run / file.name
            kept.write_bytes(file.read_bytes())

    def close(self, *, finished: bool) -> None:
        """Close the files."""
        for writer in self._writers.values():
            writer.close()
        self._writers = {}

    def _writer(self, model: str) -> Any:
        name = _safe(model)
        if name not in self._writers:
            self._writers[name] = EventFileWriter(str(self._folder / self._run / name))
        return self._writers[name]

    def _scalars(self, model: str, step: int, values: Mapping[str, float]) -> None:
        for tag, value in values.items():
            summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
            self._writer(model).add_event(Event(step=step, wall_time=time.time(), summary=summary))

    def _say(self, tag: str, text: str) -> None:
        metadata = create_summary_metadata(display_name=tag, description="")
        tensor = TensorProto(dtype=DT_STRING, string_val=[text.encode()])
        summary = Summary(value=[Summary.Value(tag=tag, metadata=metadata, tensor=tensor)])
        self._writer("palate").add_event(Event(wall_time=time.time(), summary=summary))


def _safe(name: str) -> str:
    """A name as a folder's, which can't lead out of the one above."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-") or "unnamed"
