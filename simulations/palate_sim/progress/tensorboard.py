"""Export of a run for TensorBoard, without torch or TensorFlow.

It runs on request after a run, and reads the dict of `result.json`.

    export(result, Path("runs/demo/tensorboard"))  # then: tensorboard --logdir runs/demo/tensorboard

Each model is a TensorBoard run of its own, so that a baseline is a line beside Palate's in the same chart: its value
stands at the first and the last round.
"""

import json
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from palate_common.errors import InputError
from palate_sim.progress.wording import epsilon_line, looked_at, point, primary_metric, stamp


def export(result: Mapping[str, Any], folder: Path) -> Path:
    """Write a run and its baselines as TensorBoard event files, and return the log folder.

    Scalars: `validation/<metric>` with the ends of its 95 % interval, `validation/mean_rank` (of held-out items, 0
    first and 1 last) and `privacy/epsilon` by round, counted from 1; `test/<metric>` of each model; `cost/...` in
    seconds and bytes. Texts: `privacy` (eps with its qualifiers, the stamp), `config`, and `validation`, on how many
    users the rounds were looked at.

    Args:
        result: what goes to `result.json`.
        folder: the log folder, made if missing; each export adds files, TensorBoard shows the newest.

    Raises:
        InputError: if the tensorboard package is missing.
    """
    last = max([int(row["round"]) + 1 for row in result.get("curve") or []], default=int(result.get("rounds") or 1))
    words = " · ".join(part for part in (stamp(result), epsilon_line(result)) if part)
    config = "```json\n" + json.dumps(result.get("config") or {}, indent=2, sort_keys=True, default=str) + "\n```"
    users = next((said for row in result.get("curve") or [] if (said := looked_at(row))), "")
    looked = {"validation": users} if users else {}
    _write(folder / "palate", _scalars(result, last), {"privacy": words, "config": config} | looked)
    for name, raw in (result.get("baselines") or {}).items():
        run = re.sub(r"[^A-Za-z0-9._-]+", "-", str(name)).strip(".-") or "baseline"
        if isinstance(raw, Mapping):
            _write(folder / run, _test(raw, last), {})
    return folder


def _scalars(result: Mapping[str, Any], last: int) -> Iterator[tuple[str, int, float]]:
    """Palate's own scalars as (tag, round, value)."""
    metric = primary_metric(result)
    tags = {metric: f"validation/{metric}", "low": f"validation/{metric} low", "high": f"validation/{metric} high"}
    tags |= {"loss": "validation/mean_rank", "epsilon": "privacy/epsilon"}
    for row in result.get("curve") or []:
        yield from (
            (tag, int(row["round"]) + 1, float(row[key])) for key, tag in tags.items() if row.get(key) is not None
        )
    yield from _test(result.get("metrics") or {}, last)
    for part, unit in (("seconds", "seconds"), ("bytes_per_client", "bytes")):
        yield from ((f"cost/{unit}_{key}", last, float(value)) for key, value in (result.get(part) or {}).items())
    for key in ("updates_per_cpu_second", "peak_memory_bytes"):
        if result.get(key) is not None:
            yield f"cost/{key}", last, float(result[key])


def _test(metrics: Mapping[str, Any], last: int) -> Iterator[tuple[str, int, float]]:
    """Test metrics of one model, at both ends of the chart."""
    for metric, value in metrics.items():
        found = point(value)
        if found is not None:
            yield from ((f"test/{metric}", step, found[0]) for step in sorted({1, last}))


def _write(folder: Path, scalars: Iterator[tuple[str, int, float]], texts: Mapping[str, str]) -> None:
    """Write one event file; steps are rounds."""
    try:
        from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[import-untyped]  # ships no types
        from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]  # ships no types
        from tensorboard.compat.proto.tensor_pb2 import TensorProto  # type: ignore[import-untyped]  # ships no types
        from tensorboard.compat.proto.types_pb2 import DT_STRING  # type: ignore[import-untyped]  # ships no types
        from tensorboard.plugins.text.metadata import create_summary_metadata  # type: ignore[import-untyped]  # same
        from tensorboard.summary.writer.event_file_writer import EventFileWriter  # type: ignore[import-untyped]  # same
    except ImportError as error:
        raise InputError("TensorBoard export needs the `tensorboard` package: pip install 'palate[torch]'") from error
    now = time.time()
    writer = EventFileWriter(str(folder))
    try:
        for tag, step, value in scalars:
            writer.add_event(
                Event(step=step, wall_time=now, summary=Summary(value=[Summary.Value(tag=tag, simple_value=value)]))
            )
        for tag, text in texts.items():
            metadata = create_summary_metadata(display_name=tag, description="")
            tensor = TensorProto(dtype=DT_STRING, string_val=[text.encode()])
            writer.add_event(
                Event(wall_time=now, summary=Summary(value=[Summary.Value(tag=tag, metadata=metadata, tensor=tensor)]))
            )
    finally:
        writer.close()
