"""canonical.json: values with their one spelling, and spellings that must be refused."""

from __future__ import annotations

from typing import Any

from palate_core.log.canonical import canonical_json, digest


def canonical() -> dict[str, Any]:
    """Values with their one spelling, and spellings that must be refused."""
    values: list[Any] = [
        {},
        {"round": 1, "mu2": 0.25, "dp": "central"},
        {"b": [1, 1.0, -0.0, 0.1, 1e-7, 1e16, 1e22, 5e-324], "a": None},
        {"\U0001f600": "above U+FFFF", "\uff5e": "sorted by code point, not by UTF-16 unit", "z": "é stays UTF-8"},
        {"escaped": '"\\\b\f\n\r\t\u0000\u001f', "not escaped": "/\u007f\u2028"},
        [True, False, 2**53],
    ]
    refused = ['{"a": 1}', '{"b":1,"a":2}', '{"a":1,"a":1}', '"\\u00e9"', "1e0", "NaN", "[1,]", ""]
    made = []
    for value in values:
        text = canonical_json(value)
        made.append({"value": value, "canonical": text.decode(), "sha256": digest(text)})
    return {"accepted": made, "refused": refused}
