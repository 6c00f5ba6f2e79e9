"""What is public: the page names it, with where it is and what it is, and the packages have it."""

from __future__ import annotations

import importlib
import importlib.util
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

import palate

ROOT = Path(__file__).parents[2]


def _loaded() -> Any:
    spec = importlib.util.spec_from_file_location("public", ROOT / "docs" / "public.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


public = _loaded()


def test_the_page_has_every_public_name(pages: dict[str, Any]) -> None:
    """If this fails, you have changed what is public: run docs/public.py, and write a line in CHANGELOG.md."""
    assert pages["docs/public.md"].text.partition(public.BEGIN)[2] == f"\n\n{public.section()}\n"


@pytest.mark.parametrize("package", public.PACKAGES)
def test_a_public_name_is_there_and_says_what_it_is(package: str) -> None:
    module = importlib.import_module(package)
    found = public.exported(package)
    for _, names in groupby(found, lambda each: each.group):
        group = [each.name for each in names]
        assert group == sorted(group)
    assert [each.name for each in found if not hasattr(module, each.name)] == []
    assert [each.name for each in found if not each.said] == []
    for each in found:
        there = getattr(module, each.name)
        assert getattr(there, "__module__", each.module).startswith(("palate", "builtins", "typing", "collections"))


def test_a_package_offers_nothing_that_is_not_public() -> None:
    """Beside its modules: what is in a package's namespace is in `__all__`, or begins with `_`."""
    for package in public.PACKAGES:
        module = importlib.import_module(package)
        names = {name for name in dir(module) if not name.startswith("_")}
        modules = {name for name in names if getattr(getattr(module, name), "__spec__", None) is not None}
        assert names - modules - set(module.__all__) - {"Any", "TYPE_CHECKING", "import_module"} == set(), package


def test_an_editor_is_offered_what_is_public_alone() -> None:
    assert set(dir(palate)) == {*palate.__all__, "testing"}
    assert {each.group for each in public.exported("palate")} >= {"on a log", "on a device", "errors"}
