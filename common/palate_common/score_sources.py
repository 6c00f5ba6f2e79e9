"""Sources: what a part of a score knows. The names that models, devices and their stores share."""

from __future__ import annotations

POPULARITY, COLLABORATIVE, CONTENT = "popularity", "collaborative", "content"


def source_of(family: str, name: str) -> str:
    """One of several sources of a family, such as "content:titles"."""
    return f"{family}:{name}"


def family_of(source: str) -> str:
    """What a source belongs to: "content" for "content:titles", and for "content"."""
    return source.partition(":")[0]
