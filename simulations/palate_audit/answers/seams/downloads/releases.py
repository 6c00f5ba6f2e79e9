"""Releases: what an operator signs and publishes, and how it is read."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.made.folders import made_folder
from palate_audit.answers.made.logs import POPULATION, MadeLog, floats, model_of
from palate_audit.answers.made.telling import as_text, tell_refusal, tell_text
from palate_audit.answers.seam import Seam
from palate_audit.answers.seams.downloads.shapes import raw, some_state
from palate_common.models import manifest, published
from palate_common.models.catalogue import ItemCatalogue
from palate_common.models.compact import inflated
from palate_common.models.manifest import (
    COMPACT,
    ITEMS,
    MANIFEST,
    MODEL,
    SIGNATURE,
    Publication,
    check_recorded,
    evidence_of,
    read_file,
    read_manifest,
    said_by,
)
from palate_common.models.published import Contents, Published
from palate_core.log.canonical import canonical_json, digest, read_canonical
from palate_core.log.consistency import SPENT
from palate_core.log.signing import SigningKey

MOST = 2**22


def _manifests(dice: Dice, answer: CaseAnswer) -> None:
    """Manifests of all formats, with each member, and what isn't one."""
    log = MadeLog()
    log.grow(dice.whole(0, 5))
    if dice.chance(0.4):
        log.hand_over()
    more = {
        "run": dice.one_of(("spring", None)),
        "card": "ef" * 32,
        "recent_half_life_days": dice.one_of((None, 3.5, 0.0, -1.0)),
        "unpacked": dice.one_of((None, {"sha256": "aa" * 32, "bytes": 7}, {"sha256": "aa" * 32, "bytes": -1})),
        SPENT: 1.5,
    }
    said = log.said(**{name: more[name] for name in dice.some_of(list(more))})
    said["files"] = {"items": {"sha256": digest(b"a\n"), "bytes": 2}}
    contents = Contents({}, said)
    shown, publication = log.shown(), None
    if dice.chance(0.6):
        wrong: tuple[dict[str, Any], ...] = (
            {},
            {},
            {},
            {"model_hash": "00" * 32},
            {"manifest": "00" * 32},
            {"run": "spring"},
            {"manifest": None, "run": "a"},
        )
        shown, publication = log.recorded(contents, **dice.one_of(wrong))
        if dice.chance(0.2):
            log.grow(1)
            shown, place = log.shown(), int(publication.entry["seq"])
            proof = log.tree.inclusion_proof(place, log.tree.size)
            publication = Publication(entry=publication.entry, inclusion=proof)
        if dice.chance(0.2):
            entry = dict(publication.entry)
            entry.update(dice.one_of(({"kind": "lost"}, {"seq": 0}, {"more": 1}, {"model_hash": "AB" * 32})))
            publication = Publication(entry=entry, inclusion=publication.inclusion)
        if dice.chance(0.1):
            publication = Publication(entry=publication.entry, inclusion=publication.inclusion[:-1])
    also: tuple[dict[str, Any], ...] = ({}, {}, {"note": 1}, {"public_key": "ab" * 32})
    contents = contents.also(**dice.one_of(also))
    files = contents.signed(dice.one_of((log.key, log.key, log.key, log.keys[0])), shown, publication)
    payload = read_canonical(files[MANIFEST], most=MOST)
    answer.tell(as_text(payload), contents.hash == said_by(payload), said_by(payload))
    answer.tell(as_text(manifest.format_of(shown, publication)), sorted(files))
    if dice.chance(0.3):
        changes: Any = (
            {"format": dice.whole(0, 5)},
            {"items": "3"},
            {"releases": None},
            {"population": 7},
            {"publication": None},
        )
        files = {**files, MANIFEST: canonical_json({**payload, **dice.one_of(changes)})}
        files[SIGNATURE] = log.key.sign(published.MANIFEST_TAG, files[MANIFEST]).encode()
    trusted = dice.one_of((log.keys[0], log.keys[0], log.key)).public
    found = tell_refusal(answer, read_manifest, files, trusted)
    for broken in (
        {**files, SIGNATURE: b"00" * 64},
        {MANIFEST: files[MANIFEST] + b" ", SIGNATURE: files[SIGNATURE]},
        {},
        {SIGNATURE: b"\xff"},
    ):
        tell_refusal(answer, read_manifest, broken, trusted)
    answer.tell(evidence_of(files))
    if found is None:
        return
    answer.tell(as_text(found.model_dump()), found.version)
    answer.tell(
        [
            found.names(name, data)
            for name in ("items", "other", "model.int8.safetensors")
            for data in (b"a\n", b"b\n", b"a", None)
        ]
    )
    for quorums in ((), (1,)):
        tell_refusal(answer, check_recorded, found, SimpleNamespace(quorums=quorums))


def _signed_again(files: Mapping[str, bytes], key: SigningKey, /, **changes: Any) -> dict[str, bytes]:
    """The files under a manifest that names them as they are: a server that lies with its own key."""
    facts = {
        name: {"sha256": digest(data), "bytes": len(data)}
        for name, data in files.items()
        if name not in (MANIFEST, SIGNATURE)
    }
    payload = canonical_json({**read_canonical(files[MANIFEST], most=MOST), "files": facts, **changes})
    return {**files, MANIFEST: payload, SIGNATURE: key.sign(published.MANIFEST_TAG, payload).encode()}


def _catalogue(dice: Dice, n: int) -> ItemCatalogue:
    """Items with or without what belongs to them."""
    new = dice.one_of(((), ("n1", "n2")))
    features = np.asarray(floats(dice, n + len(new), 2)) if new or dice.chance(0.4) else None
    domains = tuple(dice.one_of(("books", "films")) for _ in range(n)) if dice.chance(0.5) else None
    return ItemCatalogue(tuple(f"item {k}" for k in range(n)), domains, new, features)


def summary(found: Published | None) -> Any:
    """What counts of a model that was read: no compressed byte, whose number depends on a library."""
    if found is None:
        return None
    features = found.catalogue.features
    return [
        raw(found.model.state),
        found.model.header.model_dump_json(),
        found.items,
        found.domains,
        found.catalogue.new_items,
        None if features is None else raw({"": features}),
        found.version,
        sorted(plain_names(found.files)),
        found.manifest.model_extra,
    ]


def plain_names(files: Mapping[str, bytes]) -> list[str]:
    """Names of files; a delta's has a hash in it."""
    return sorted(name[:6] if name.startswith("delta-") else name for name in files)


def _published(dice: Dice, answer: CaseAnswer) -> None:
    """From model to model: packed, written, asked for, read; and whatever is wrong with one."""
    log, n, folders = MadeLog(), dice.whole(2, 6), list[dict[str, bytes]]()
    catalogue = _catalogue(dice, n)
    have: Mapping[str, bytes] = {}
    state: dict[str, Any] = {"counts": ()}
    with made_folder(answer) as path:
        for version in range(3):
            log.grow(1)
            if dice.chance(0.2):
                n += 1
            catalogue = catalogue if len(catalogue.items) == n and dice.chance(0.6) else _catalogue(dice, n)
            if dice.chance(0.6) or len(state["counts"]) != n:
                state = {name: each for name, each in some_state(dice, n).items() if name != "empty"}
            model = model_of(state, catalogue.items, releases=version)
            place_: dict[str, Any] = {"population": POPULATION, "formers": dice.some_of(folders, 0.8)}
            files = published.pack(model, catalogue, {"run": f"r{version}"}, log.key, shown=log.shown(), **place_)
            said = read_canonical(files[MANIFEST], most=MOST)
            answer.tell(
                plain_names(files),
                [said[name] for name in ("population", "algorithm", "releases", "catalogue", "items", "run")],
            )
            answer.tell(
                said["model_hash"] == digest(files[MODEL]),
                said["unpacked"]["sha256"] == digest(inflated(files[COMPACT], most=MOST, noun="it")),
            )
            answer.tell(
                [
                    (said["files"][name] == {"sha256": digest(data), "bytes": len(data)})
                    for name, data in sorted(files.items())
                    if name in said["files"]
                ]
            )
            published.write(path / "m", files)
            folders.insert(0, files)
            answer.tell(plain_names({each.name: b"" for each in (path / "m").iterdir()}))
            wanted = told_names(answer, published.wanted, files, public_key=log.key.public, have=have)
            for small, known in ((True, have), (False, {}), (True, {})):
                answer.tell(
                    summary(
                        tell_refusal(
                            answer, published.read, path / "m", public_key=log.key.public, small=small, have=known
                        )
                    )
                )
            for gone in dice.some_of(sorted(set(files) - set(wanted) - {MANIFEST, SIGNATURE}), 0.7):
                (path / "m" / gone).unlink()
            most = dice.one_of((MOST, MOST, max(map(len, files.values())), len(files[MODEL]) - 1, len(files[COMPACT])))
            found = tell_refusal(
                answer, published.read, path / "m", public_key=log.key.public, small=True, have=have, most=most
            )
            answer.tell(summary(found))
            have = have if found is None or dice.chance(0.2) else found.files
        _lies(dice, answer, folders[0], log)
        other = ItemCatalogue(("another",))
        tell_refusal(answer, published.contents, model, other, {}, population="x", public_key=log.key.public)


def told_names(answer: CaseAnswer, call: Any, *args: Any, **named: Any) -> tuple[str, ...]:
    """Call, and tell the names that come back."""
    found = tell_refusal(answer, call, *args, **named)
    answer.tell([] if found is None else [each[:6] if each.startswith("delta-") else each for each in found])
    return tuple(found or ())


def _lies(dice: Dice, answer: CaseAnswer, files: Mapping[str, bytes], log: MadeLog) -> None:
    """A server that signs what isn't so."""
    features = files.get("features.safetensors", b"")
    for _ in range(6):
        changed, said = dict(files), dict[str, Any]()
        name = dice.one_of(sorted(set(files) - {MANIFEST, SIGNATURE}))
        match dice.whole(0, 4):
            case 0:
                del changed[name]
            case 1:
                changed[name] = dice.one_of((b"", files[name][:-1], files[name] + b"x\n", b"\xff\n", files[ITEMS]))
            case 2:
                said = dice.one_of(
                    (
                        {"items": 1},
                        {"catalogue": "ab" * 32},
                        {"algorithm": "als"},
                        {"releases": 9},
                        {"model_hash": "ab" * 32},
                        {"unpacked": None},
                        {"population": "others"},
                    )
                )
            case 3:
                changed["features.safetensors"] = features.replace(b"F32", b"I32") if features else b""
            case _:
                changed["domains"] = b"books\n" * dice.whole(1, 7)
        if dice.chance(0.8):
            changed = _signed_again(changed, log.key, **said)
        for dropped in dice.some_of((MODEL, COMPACT), 0.4):
            changed.pop(dropped, None)
        answer.tell(
            summary(
                tell_refusal(
                    answer, published.unpack, changed, public_key=log.key.public, most=dice.one_of((MOST, MOST, 300))
                )
            )
        )


def _read_files(dice: Dice, answer: CaseAnswer) -> None:
    """Files of all sizes and kinds."""
    with made_folder(answer) as path:
        n = dice.whole(0, 40)
        (path / "a").write_bytes(b"x" * n)
        (path / "folder").mkdir()
        for most, exactly in (
            (n, None),
            (n - 1, None),
            (n + 1, None),
            (n, n),
            (n + 9, n),
            (n + 9, n - 1),
            (n + 9, n + 1),
            (n - 1, n),
        ):
            tell_text(answer, read_file, path / "a", most=most, exactly=exactly)
        for other in ("folder", "none"):
            tell_text(answer, read_file, path / other, most=9)


SEAMS: tuple[Seam, ...] = (
    Seam("manifests: every member, entry and handover", _manifests, 36),
    Seam("models: published, asked for and read", _published, 6),
    Seam("models: files that are read", _read_files, 6),
)
