"""Tuned: whether a run's settings were chosen on users who take no part in it, read and checked before it starts.

`palate tune` leaves a study; `tuned_on` names its folder. The study must be of the same data and split, so that its
validation users are this run's, and the run must have the settings that it found. Then, and only then, the card says
so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from palate_core.errors import InputError
from palate_core.log.canonical import digest
from palate_sim.config import SimulationConfig

STUDY = "study.json"


def read_study(folder: Path) -> tuple[dict[str, Any], str]:
    """A study, and the hash of its file.

    Raises:
        InputError: there is none.
    """
    try:
        data = (folder / STUDY).read_bytes()
        study = json.loads(data)
    except (OSError, ValueError):
        study = None
    if not isinstance(study, dict) or study.get("palate") != "tuning" or study.get("format") != 1:
        raise InputError(f"`tuned_on` must be the folder of a study of `palate tune`, got {str(folder)!r:.200}")
    return study, digest(data)


def refuse_warm_start(config: SimulationConfig) -> None:
    """Refuse a former release: users whom a study looks at may have trained it, and its guarantee covers them.

    Raises:
        InputError: the configuration starts from one.
    """
    if config.warm_start is not None:
        raise InputError(
            "`tuned_on` needs a run without `warm_start`: users that settings are chosen on may have trained the "
            "former release, and the choice would cost them"
        )


def tuning_of(config: SimulationConfig, *, fingerprint: str) -> dict[str, Any] | None:
    """What a run's terms and card say of how its settings were chosen; None without a study.

    Args:
        config: of the run.
        fingerprint: of its data and split.

    Raises:
        InputError: no study there, one of other data or another split, other settings than it found, or a former
            release to start from.
    """
    if config.tuned_on is None:
        return None
    refuse_warm_start(config)
    study, hashed = read_study(Path(config.tuned_on))
    if study["fingerprint"] != fingerprint:
        raise InputError(
            "`tuned_on` must be a study of this run's data, split and seed: users of another one may train here, and "
            "the choice would cost them"
        )
    chosen: Mapping[str, Any] = study["algorithm"]
    if (chosen["name"], chosen["settings"]) != (config.algorithm.name, config.algorithm.settings):
        raise InputError("`tuned_on` needs the algorithm and the settings that the study found, as best.toml has them")
    return {"users": study["users"], "trials": study["trials"], "study": hashed}
