"""Sources: what a part of a score knows. The names that models, devices and their stores share."""

from __future__ import annotations

POPULARITY, COLLABORATIVE, CONTENT = "popularity", "collaborative", "content"
