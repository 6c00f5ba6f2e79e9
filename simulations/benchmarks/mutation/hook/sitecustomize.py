"""Loads one mutated module in the place of its original, in this process and in those that it starts.

`PALATE_MUTANT` names a JSON file with `module` and `source`. With this folder on PYTHONPATH, every interpreter that a
test starts has the mutant, and no file of the checkout is changed: tracebacks, `inspect` and whoever reads the file see
the original.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType

VARIABLE = "PALATE_MUTANT"


class MutatedLoader(SourceFileLoader):
    """The module's own loader, except for its code."""

    def __init__(self, name: str, path: str, source: str) -> None:
        super().__init__(name, path)
        self._source = source

    def get_code(self, fullname: str) -> CodeType:
        """The mutant's code, under the original's file name; nothing is cached."""
        code: CodeType = compile(self._source, self.path, "exec", dont_inherit=True)
        return code


class MutantFinder:
    """Finds one module."""

    def __init__(self, module: str, source: str) -> None:
        self.module, self.source = module, source

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The mutated module's spec; None for every other one."""
        if name != self.module:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.origin is not None:
            spec.loader = MutatedLoader(name, spec.origin, self.source)
        return spec


def install() -> None:
    """Put the finder first, if there is a mutant; an imported module would stay as it is, so that is an error."""
    if VARIABLE not in os.environ:
        return
    with open(os.environ[VARIABLE], encoding="utf-8") as file:  # noqa: PTH123 - starts with every interpreter
        mutant = json.load(file)
    if mutant["module"] in sys.modules:
        raise ImportError(f"{mutant['module']} was imported before its mutant")
    sys.meta_path.insert(0, MutantFinder(mutant["module"], mutant["source"]))


install()
