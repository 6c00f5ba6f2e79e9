"""The test vectors of docs/wire-protocol.md, made by the code that devices and servers run.

    python docs/vectors/make

One module makes one file.

An implementation in another language is compatible when it reproduces every file here. The key is a test key: its
secret half is printed in the vectors, so nothing that it signs may ever be trusted.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .accounting import accounting
from .admission import admission
from .behaviour import behaviour
from .canonical import canonical
from .clips import clips
from .contributed import contributed
from .contribution import contribution
from .costs import costs
from .draws import draws
from .enrolment import enrolment
from .events import events
from .exchange import exchange
from .graphs import graphs
from .histories import histories
from .items import items
from .ledgers import ledgers
from .manifest import manifest
from .merkle import merkle
from .models import models
from .noise import noise
from .notes import notes
from .plan import plan
from .recommend import recommend
from .secagg import secagg
from .sharing import sharing
from .signature import signature
from .statement import statement
from .sums import sums
from .where import where
from .witnessed import witnessed

FOLDER = Path(__file__).parents[1]

VECTORS: dict[str, Callable[[], dict[str, Any]]] = {
    "canonical.json": canonical,
    "signature.json": signature,
    "merkle.json": merkle,
    "notes.json": notes,
    "plan.json": plan,
    "witnessed.json": witnessed,
    "manifest.json": manifest,
    "contribution.json": contribution,
    "contributed.json": contributed,
    "accounting.json": accounting,
    "noise.json": noise,
    "secagg.json": secagg,
    "enrolment.json": enrolment,
    "exchange.json": exchange,
    "statement.json": statement,
    "recommend.json": recommend,
    "behaviour.json": behaviour,
    "events.json": events,
}

CASES: dict[str, Callable[[], dict[str, Any]]] = {
    "draws.json": draws,
    "clips.json": clips,
    "sums.json": sums,
    "costs.json": costs,
    "graphs.json": graphs,
    "sharing.json": sharing,
    "admission.json": admission,
    "ledgers.json": ledgers,
    "models.json": models,
    "items.json": items,
    "histories.json": histories,
    "where.json": where,
}
"""Of the mechanism: lists of cases, each of which says in words what it shows."""


def text_of(name: str) -> str:
    """One file of vectors, as it lies in the folder above."""
    if name in CASES:
        return _by_line(CASES[name]())
    return json.dumps(VECTORS[name](), indent=1, ensure_ascii=True) + "\n"


def _by_line(found: dict[str, Any]) -> str:
    """The same, with each case on a line of its own."""
    members = []
    for name, value in found.items():
        lines = [json.dumps(each) for each in value] if isinstance(value, list) else []
        text = "[\n  " + ",\n  ".join(lines) + "\n ]" if lines else json.dumps(value)
        members.append(f" {json.dumps(name)}: {text}")
    return "{\n" + ",\n".join(members) + "\n}\n"


def write() -> None:
    """Write all files."""
    for name in (*VECTORS, *CASES):
        (FOLDER / name).write_text(text_of(name), encoding="utf-8")
