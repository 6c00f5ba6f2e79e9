"""Writes all vectors: `python docs/vectors/make`."""

import importlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
importlib.import_module("make").write()
