"""The examples in the docstrings of the simulator, the audit and the command line give what they say."""

import doctest
import importlib
import pkgutil

import pytest

import palate_audit
import palate_cli
import palate_sim


@pytest.mark.parametrize("package", [palate_sim, palate_audit, palate_cli], ids=lambda package: package.__name__)
def test_every_example_runs(package: object) -> None:
    """Each module is imported and its examples are run: a renamed class must not stay in one."""
    name, path = package.__name__, package.__path__  # type: ignore[attr-defined]
    modules = [found.name for found in pkgutil.walk_packages(path, f"{name}.") if not found.name.endswith("__main__")]
    outcomes = {module: doctest.testmod(importlib.import_module(module)) for module in modules}
    assert {module: outcome.failed for module, outcome in outcomes.items() if outcome.failed} == {}
