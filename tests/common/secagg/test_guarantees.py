"""Each **Guarantees:** and **Assumes:** line of secure aggregation has a test of its name, in the module's own file."""

import re
from pathlib import Path

import pytest

from palate_common import secagg
from palate_core import masks

HOMES = (masks, secagg)
MODULES = sorted(
    path for home in HOMES for path in Path(home.__file__).parent.glob("*.py") if path.name != "__init__.py"
)


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_every_guarantee_and_assumption_has_a_test(module):
    claims = re.findall(r"\*\*(?:Guarantees|Assumes):\*\* ([^:]+):", module.read_text())
    file = Path(__file__).parent / f"test_{module.stem}.py"
    tests = re.findall(r"^def (test_\w+)", file.read_text(), re.M) if claims else []
    missing = [claim for claim in claims if f"test_{re.sub(r'[ -]', '_', claim)}" not in tests]
    assert not missing


def test_there_are_guarantees():
    assert len(re.findall(r"\*\*Guarantees:\*\*", "".join(path.read_text() for path in MODULES))) >= 12
