"""What the story asks for is shown by tests that there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def test_what_the_story_asks_for_is_shown_by_a_test(pages: dict[str, Any], root: Path) -> None:
    page = pages["docs/which.md"]
    _, *rows = page.rows(page.section("What the story asks for"))
    assert len(rows) >= 9
    for asked, does, shown in rows:
        assert asked
        assert does
        path, name = shown.strip("`").split("::")
        assert f"\ndef {name}(" in (root / path).read_text(encoding="utf-8"), shown
