"""Numbers that a machine may round in another way, to as many digits as every machine agrees on."""

from __future__ import annotations

from typing import Any

import numpy as np


def digits(value: Any) -> Any:
    """Numbers to eight digits: the last bits of a sum depend on the machine."""
    if isinstance(value, np.ndarray):
        return [digits(each) for each in value.tolist()]
    return float(f"{value:.8g}") + 0.0
