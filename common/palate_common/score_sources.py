"""Score sources: names of the information that a part of a score uses, shared by models, devices and their stores."""

from __future__ import annotations

POPULARITY, COLLABORATIVE, CONTENT, PANEL = "popularity", "collaborative", "content", "panel"
PAIRS = "collaborative:pairs"
"""Links between items from private pair counts: of the collaborative family, beside its directions."""


def source_of(family: str, name: str) -> str:
    """The name of one of several sources of a family, such as "content:titles"."""
    return f"{family}:{name}"


def family_of(source: str) -> str:
    """The family of a source: "content" for "content:titles", and for "content"."""
    return source.partition(":")[0]
