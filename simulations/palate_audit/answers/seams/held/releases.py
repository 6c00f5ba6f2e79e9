"""Releases: what an operator signs and publishes, how it is read, and what a device downloads and takes into use."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np

from palate_audit.answers.answer import Answer
from palate_audit.answers.dice import Dice
from palate_audit.answers.seam import Seam
from palate_audit.answers.seams.held.shapes import floats, model_of, raw, some_state
from palate_audit.answers.seams.held.telling import NOW, MadeClock, asked, disk, dump, exact, opened, place, told
from palate_client.ledger.own_ledger import OwnLedger
from palate_client.models import Models
from palate_client.online import downloads
from palate_client.online.https import HttpResponse, StoppedError
from palate_client.online.retry import SyncEnd
from palate_client.service import Service
from palate_client.store.journal import Journal
from palate_common.campaign import Campaign, open_campaign, sign_campaign
from palate_common.errors import UnreachableError
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
from palate_common.records.canonical import canonical_json, digest, read_canonical
from palate_common.records.consistency import SPENT, Shown
from palate_common.records.entries import Entry, PublishEntry
from palate_common.records.handovers import make_handover
from palate_common.records.merkle import Checkpoint, MerkleTree
from palate_common.records.signing import SigningKey

MOST = 2**22
POPULATION = "readers"


class MadeLog:
    """A ledger of made-up entries, and the keys of its operator."""

    def __init__(self) -> None:
        self.keys = [SigningKey.generate()]
        self.tree = MerkleTree()
        self.handed = list[Entry]()
        self.grow(2)

    @property
    def key(self) -> SigningKey:
        """The release key now."""
        return self.keys[-1]

    def grow(self, n: int) -> None:
        """So many entries more."""
        for _ in range(n):
            self.tree.append(b"entry %d" % self.tree.size)

    def hand_over(self) -> None:
        """The release key changes."""
        new = SigningKey.generate()
        entry = make_handover(POPULATION, self.tree.size, self.key, new)
        self.tree.append(entry.leaf())
        self.handed.append(entry)
        self.keys.append(new)

    def shown(self, size: int | None = None) -> Shown:
        """The state of a size, with proofs from all before it."""
        size = self.tree.size if size is None else size
        handed = [each for each in self.handed if each.seq < size]
        return Shown.of(self.tree, size, since=range(1, size), handovers=handed)

    def said(self, **more: Any) -> dict[str, Any]:
        """What a manifest says that names no files."""
        return {"population": POPULATION, "algorithm": "popularity", "releases": 1, "catalogue": "ab" * 32, "items": 3,
                "model_hash": "cd" * 32, "files": {}, "public_key": self.key.public, **more}  # fmt: skip

    def recorded(self, contents: Contents, **changes: Any) -> tuple[Shown, Publication]:
        """Write an entry about what is published; the state with it, and the proof."""
        entry = PublishEntry(
            seq=self.tree.size, **{"model_hash": contents.said["model_hash"], "manifest": contents.hash, **changes}
        )
        self.tree.append(entry.leaf())
        proof = self.tree.inclusion_proof(entry.seq, self.tree.size)
        return self.shown(), Publication(entry=entry.body, inclusion=proof)


def _manifests(dice: Dice, answer: Answer) -> None:
    """Manifests of all formats, with each member, and what isn't one."""
    log = MadeLog()
    log.grow(dice.whole(0, 5))
    if dice.chance(0.4):
        log.hand_over()
    more = {"run": dice.one_of(("spring", None)), "card": "ef" * 32, "recent_half_life_days": dice.one_of((None, 3.5, 0.0, -1.0)),
            "unpacked": dice.one_of((None, {"sha256": "aa" * 32, "bytes": 7}, {"sha256": "aa" * 32, "bytes": -1})), SPENT: 1.5}  # fmt: skip
    said = log.said(**{name: more[name] for name in dice.some_of(list(more))})
    said["files"] = {"items": {"sha256": digest(b"a\n"), "bytes": 2}}
    contents = Contents({}, said)
    shown, publication = log.shown(), None
    if dice.chance(0.6):
        wrong: tuple[dict[str, Any], ...] = ({}, {}, {}, {"model_hash": "00" * 32}, {"manifest": "00" * 32}, {"run": "spring"},
                                            {"manifest": None, "run": "a"})  # fmt: skip
        shown, publication = log.recorded(contents, **dice.one_of(wrong))
        if dice.chance(0.2):
            log.grow(1)
            shown = log.shown()
        if dice.chance(0.2):
            entry = dict(publication.entry)
            entry.update(dice.one_of(({"kind": "lost"}, {"seq": 0}, {"more": 1}, {"model_hash": "AB" * 32})))
            publication = Publication(entry=entry, inclusion=publication.inclusion)
        if dice.chance(0.1):
            publication = Publication(entry=publication.entry, inclusion=publication.inclusion[:-1])
    contents = contents.also(**dice.one_of(({}, {}, {"note": 1}, {"public_key": "ab" * 32})))
    files = contents.signed(dice.one_of((log.key, log.key, log.key, log.keys[0])), shown, publication)
    payload = read_canonical(files[MANIFEST], most=MOST)
    answer.tell(exact(payload), contents.hash == said_by(payload), said_by(payload))
    answer.tell(exact(manifest.format_of(shown, publication)), sorted(files))
    if dice.chance(0.3):
        changes: Any = (
            {"format": dice.whole(0, 5)},
            {"items": "3"},
            {"releases": None},
            {"population": 7},
            {"publication": None},
        )
        files = {MANIFEST: canonical_json({**payload, **dice.one_of(changes)}), **files}
        files[SIGNATURE] = log.key.sign(published.MANIFEST_TAG, files[MANIFEST]).encode()
    trusted = dice.one_of((log.keys[0], log.keys[0], log.key)).public
    found = asked(answer, read_manifest, files, trusted)
    for broken in (
        {**files, SIGNATURE: b"00" * 64},
        {MANIFEST: files[MANIFEST] + b" ", SIGNATURE: files[SIGNATURE]},
        {},
        {SIGNATURE: b"\xff"},
    ):
        asked(answer, read_manifest, broken, trusted)
    answer.tell(evidence_of(files))
    if found is None:
        return
    answer.tell(exact(found.model_dump()), found.version)
    answer.tell(
        [
            found.names(name, data)
            for name in ("items", "other", "model.int8.safetensors")
            for data in (b"a\n", b"b\n", b"a", None)
        ]
    )
    for quorums in ((), (1,)):
        asked(answer, check_recorded, found, SimpleNamespace(quorums=quorums))


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


def _summary(found: Published | None) -> Any:
    """What counts of a model that was read: no compressed byte, whose number depends on a library."""
    if found is None:
        return None
    features = found.catalogue.features
    return [raw(found.model.state), found.model.header.model_dump_json(), found.items, found.domains, found.catalogue.new_items,
            None if features is None else raw({"": features}), found.version, sorted(_plain(found.files)), found.manifest.model_extra]  # fmt: skip


def _plain(files: Mapping[str, bytes]) -> list[str]:
    """Names of files; a delta's has a hash in it."""
    return sorted(name[:6] if name.startswith("delta-") else name for name in files)


def _published(dice: Dice, answer: Answer) -> None:
    """From model to model: packed, written, asked for, read; and whatever is wrong with one."""
    log, n, folders = MadeLog(), dice.whole(2, 6), list[dict[str, bytes]]()
    catalogue = _catalogue(dice, n)
    have: Mapping[str, bytes] = {}
    state: dict[str, Any] = {"counts": ()}
    with place() as path:
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
                _plain(files),
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
            answer.tell(_plain({each.name: b"" for each in (path / "m").iterdir()}))
            wanted = told_names(answer, published.wanted, files, public_key=log.key.public, have=have)
            for small, known in ((True, have), (False, {}), (True, {})):
                answer.tell(
                    _summary(
                        asked(answer, published.read, path / "m", public_key=log.key.public, small=small, have=known)
                    )
                )
            for gone in dice.some_of(sorted(set(files) - set(wanted) - {MANIFEST, SIGNATURE}), 0.7):
                (path / "m" / gone).unlink()
            most = dice.one_of((MOST, MOST, max(map(len, files.values())), len(files[MODEL]) - 1, len(files[COMPACT])))
            found = asked(
                answer, published.read, path / "m", public_key=log.key.public, small=True, have=have, most=most
            )
            answer.tell(_summary(found))
            have = have if found is None or dice.chance(0.2) else found.files
        _lies(dice, answer, folders[0], log)
        other = ItemCatalogue(("another",))
        asked(answer, published.contents, model, other, {}, population="x", public_key=log.key.public)


def told_names(answer: Answer, call: Any, *args: Any, **named: Any) -> tuple[str, ...]:
    """Call, and tell the names that come back."""
    found = asked(answer, call, *args, **named)
    answer.tell([] if found is None else [each[:6] if each.startswith("delta-") else each for each in found])
    return tuple(found or ())


def _lies(dice: Dice, answer: Answer, files: Mapping[str, bytes], log: MadeLog) -> None:
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
                said = dice.one_of(({"items": 1}, {"catalogue": "ab" * 32}, {"algorithm": "als"}, {"releases": 9}, {"model_hash": "ab" * 32},
                                    {"unpacked": None}, {"population": "others"}))  # fmt: skip
            case 3:
                changed["features.safetensors"] = features.replace(b"F32", b"I32") if features else b""
            case _:
                changed["domains"] = b"books\n" * dice.whole(1, 7)
        if dice.chance(0.8):
            changed = _signed_again(changed, log.key, **said)
        for dropped in dice.some_of((MODEL, COMPACT), 0.4):
            changed.pop(dropped, None)
        answer.tell(
            _summary(
                asked(answer, published.unpack, changed, public_key=log.key.public, most=dice.one_of((MOST, MOST, 300)))
            )
        )


def _read_files(dice: Dice, answer: Answer) -> None:
    """Files of all sizes and kinds."""
    with place() as path:
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
            told(answer, read_file, path / "a", most=most, exactly=exactly)
        for other in ("folder", "none"):
            told(answer, read_file, path / other, most=9)


class _InUse:
    """A device that is shown models and states of a ledger, or of two."""

    def __init__(self, dice: Dice, answer: Answer, path: Path) -> None:
        self.dice, self.answer, self.path = dice, answer, path
        self.clock, self.log = MadeClock(), MadeLog()
        self.service = Service(public_key=self.log.key.public, population=POPULATION, participations=9)
        self.store = opened(path / "s", self.clock)
        self.models, self.known = Models(self.store, self.service), list[str]()
        self.former = list[dict[str, bytes]]()

    def step(self) -> None:
        """One thing that happens."""
        weights = (
            self.publish,
            self.publish,
            self.publish,
            self.again,
            self.plan,
            self.other,
            self.reopen,
            self.damage,
        )
        step = self.dice.one_of(weights)
        self.answer.tell(step.__name__)
        step()
        self.clock.now += 1.5
        current = asked(self.answer, self.models.current)
        self.answer.tell(None if current is None else (current.version, current.items, raw(current.model.state)))
        self.answer.tell(self.known.index(self.models.taken) if self.models.taken else -1, _plain(self.models.in_use()))
        if self.dice.chance(0.3):
            self.seen()

    def seen(self) -> None:
        """Tell which state was seen last."""
        with OwnLedger(self.store, self.service) as ledger:
            self.answer.tell(ledger.seen_checkpoint(POPULATION), bool(ledger.seen_payload(POPULATION)))

    def files(self, log: MadeLog, size: int | None = None) -> dict[str, bytes]:
        """A model that shows a state."""
        n = self.dice.whole(2, 3)
        catalogue = ItemCatalogue(tuple(f"item {k}" for k in range(n)))
        facts = self.dice.one_of(({}, {SPENT: log.tree.size / 4}, {SPENT: log.tree.size / 4}, {SPENT: 0.25}))
        population = self.dice.one_of((POPULATION, POPULATION, POPULATION, POPULATION, "others"))
        made = published.contents(model_of({"counts": floats(self.dice, n)}, catalogue.items), catalogue, facts, population=population,
                                  public_key=log.key.public, formers=self.former[-1:] if self.dice.chance(0.4) else ())  # fmt: skip
        if size is None and self.dice.chance(0.3):
            return made.signed(log.key, *log.recorded(made))
        shown = log.shown(size)
        bare = Shown(checkpoint=shown.checkpoint)
        return made.signed(log.key, bare if self.dice.chance(0.15) else shown)

    def take(self, files: dict[str, bytes]) -> None:
        """Download what is asked for, and update."""
        if (name := digest(files[MANIFEST])) not in self.known:
            self.known.append(name)
        where = self.path / f"m{len(list(self.path.iterdir()))}"
        where.mkdir()
        for each in (MANIFEST, SIGNATURE):
            (where / each).write_bytes(files[each])
        for each in told_names(self.answer, self.models.files_to_download, where):
            (where / each).write_bytes(files[each])
        self.answer.tell(asked(self.answer, self.models.update, where))

    def publish(self) -> None:
        """A later model, or one of a size that was."""
        if self.dice.chance(0.1):
            self.log.hand_over()
        self.log.grow(self.dice.whole(0, 2))
        size = self.dice.one_of(
            (None, None, None, self.log.tree.size, max(1, self.log.tree.size - self.dice.whole(0, 3)))
        )
        files = self.files(self.log, size)
        self.former.append(files)
        self.take(files)

    def again(self) -> None:
        """One that was shown before."""
        if self.former:
            self.take(self.dice.one_of(self.former[-3:]))

    def other(self) -> None:
        """A model of another ledger, with the same key, or with another."""
        log = MadeLog()
        if self.dice.chance(0.7):
            log.keys = self.log.keys[:1]
        log.grow(self.dice.whole(0, 4))
        log.tree.append(b"else")
        self.take(self.files(log))

    def plan(self) -> None:
        """A plan has shown a state."""
        self.log.grow(1)
        shown = self.log.shown()
        evidence = self.dice.one_of(
            (
                b"",
                evidence_of(Contents({}, self.log.said(**{SPENT: self.log.tree.size / 4})).signed(self.log.key, shown)),
            )
        )
        with OwnLedger(self.store, self.service) as ledger:
            asked(self.answer, ledger.see, POPULATION, shown.checkpoint, evidence)
            if self.dice.chance(0.15):
                asked(self.answer, ledger.see, POPULATION, Checkpoint(shown.checkpoint.size + 1, "ab" * 32), b"{}")

    def reopen(self) -> None:
        """Restart the process; perhaps with no service, or another limit."""
        self.store.close()
        self.store = opened(self.path / "s", self.clock)
        if self.dice.chance(0.2):
            nobody = Models(self.store, None)
            self.answer.tell(nobody.current(), nobody.in_use())
            asked(self.answer, nobody.update, self.path)
        self.models = Models(self.store, self.service)

    def damage(self) -> None:
        """What is stored is damaged, or was stored by an older version."""
        with Journal(self.store.file) as journal, journal._database.transaction(write=True) as connection:
            if self.dice.chance(0.5):
                connection.execute("UPDATE files SET data = x'00' WHERE name = ?", (COMPACT,))
                self.models = Models(self.store, self.service)
        if self.dice.chance(0.5):
            with OwnLedger(self.store, self.service) as ledger, ledger._database.transaction(write=True) as connection:
                connection.execute("DELETE FROM seen")
            with OwnLedger(self.store, self.service) as ledger:
                asked(self.answer, self.models.see, self.service, ledger)


def _in_use(dice: Dice, answer: Answer) -> None:
    """Models that follow each other on a device."""
    # What a limit is as mu^2 costs much, and nothing of it is asked here.
    with place() as path, disk(), mock.patch.object(Service, "limit_mu2", 5.0):
        lived = _InUse(dice, answer, path)
        beside = Journal(lived.store.file), OwnLedger(lived.store, lived.service)  # else each close tidies the files
        for _ in range(dice.whole(4, 6)):
            lived.step()
        lived.seen()
        with Journal(lived.store.file) as journal:
            answer.tell(
                [
                    exact((each.population, each.version, each.root, each.time, lived.known.index(each.manifest)))
                    for each in journal.editions()
                ]
            )
            answer.tell([each.what for each in journal.refusals()])
            with journal._database.transaction() as connection:
                answer.tell(dump(connection, "contacts", "sent"))
        for each in (*beside, lived.store):
            each.close()


class _Server:
    """The other side: answers that the dice have chosen."""

    def __init__(self, dice: Dice, files: Mapping[str, bytes]) -> None:
        self.dice, self.files, self.asked = dice, files, list[Any]()

    def request(
        self, method: str, path: str, *, most: int, seconds: float | None = None, over: Any = None
    ) -> HttpResponse:
        """An answer."""
        self.asked.append(
            (
                method,
                path.split("/delta-")[0],
                most if most < 2**18 or most == MOST else "",
                str(seconds),
                over is not None,
            )
        )
        if self.dice.chance(0.05):
            raise UnreachableError("the server must answer, got nothing 7")
        if over is not None and over():
            raise StoppedError("the app asks to stop")
        status = self.dice.one_of((200,) * 16 + (404, 500))
        return HttpResponse(status, self.files.get(path, b"?"))


def _online(dice: Dice, answer: Answer) -> None:
    """Downloads from a server that says this and that."""
    log = MadeLog()
    catalogue = ItemCatalogue(("a", "b"), ("x", "y") if dice.chance(0.5) else None)
    one, two = (model_of({"counts": floats(dice, 2), "table": floats(dice, 2, 2)}, catalogue.items) for _ in range(2))
    kept: dict[str, Any] = {"population": POPULATION, "shown": log.shown()}
    first = published.pack(one, catalogue, {}, log.key, **kept)
    second = published.pack(dice.one_of((one, two)), catalogue, {}, log.key, **kept, formers=[first])
    name = digest(second[MANIFEST])
    if dice.chance(0.2):
        second[dice.one_of(sorted(second))] += b"x"
    plan, model = canonical_json({"a": 1}), b"round model"
    pointers = (
        json.dumps({"manifest": name, "version": 3}),
        json.dumps({"manifest": name.upper()}),
        json.dumps({"manifest": None}),
        "[]",
        "{",
        "[" * 900,
    )
    said = {"/models/latest": dice.one_of((pointers[0], *pointers)).encode(), f"/directory/{digest(plan)}": plan + dice.one_of((b"\n", b"\n", b"", b"\n\n")),
            f"/round/{digest(model)}": dice.one_of((model, model, b"other")), **{f"/models/{name}/{each}": data for each, data in second.items()}}  # fmt: skip
    server: Any = _Server(dice, said)
    found = asked(answer, downloads.latest, server)
    answer.tell(found == name, found is None)
    tries = [0]

    def again(call: Any) -> Any:
        tries[0] += 1
        if dice.chance(0.04):
            return SyncEnd("time", "late")
        try:
            return call()
        except UnreachableError:
            if dice.chance(0.5):
                raise
            return call()

    have = dice.one_of(({}, first, first, second, {**first, COMPACT: b"?"}))
    got = asked(
        answer,
        downloads.model,
        server,
        name,
        public_key=log.key.public,
        most=dice.one_of((MOST, MOST, 300)),
        again=again,
        have=have,
    )
    answer.tell(_summary(got) if isinstance(got, Published) else exact(got))
    told(answer, downloads.directory, server, digest(plan), most=99)
    stop = dice.chance(0.2)
    for each in (digest(model), digest(model).upper(), "ab" * 31, digest(b"?")):
        try:
            told(answer, downloads.round_model, server, each, most=77, over=lambda: stop)
        except StoppedError:
            answer.tell("stopped")
    answer.tell([(method, path.replace(name, "NAME"), *rest) for method, path, *rest in server.asked], tries)
    remote = downloads.ModelDownload(server, name, again, frozenset({"items"}))
    answer.tell(remote.place == name, remote.has("items"), remote.has("model"), exact(remote.over))


def _campaigns(dice: Dice, answer: Answer) -> None:
    """Messages about an item, and what isn't one."""
    key = SigningKey.generate()
    options: dict[str, tuple[Any, ...]] = {
        "id": ("spring", "", "x" * 100, "x" * 101, 7), "population": ("readers", "", "others"), "title": ("T", "", "t" * 200, "t" * 201),
        "body": ("", "b" * 4000, "b" * 4001), "item": ("i", "", "i" * 512, "i" * 513), "link": ("", "l" * 2000, "l" * 2001),
        "expires": (NOW, NOW + 0.5, 1e11, 99e9, 0.0, -1.0, float("nan"), 5), "reach": (0.05, 1.0, 1.01, 0.0, 0.5), "version": (1, 2), "more": (1,),
    }  # fmt: skip
    good = {"id": "spring", "population": "readers", "title": "T", "item": "i", "expires": NOW + 1}
    for _ in range(8):
        given = {**good, **{name: dice.one_of(options[name]) for name in dice.some_of(list(options), 0.2)}}
        try:
            made = Campaign(**given)
        except ValueError:
            answer.tell("none")
            continue
        data = sign_campaign(made, key)
        answer.tell(data)
        for now in (NOW, NOW + 1, NOW + 0.75):
            population = dice.one_of((None, "readers", "others"))
            found = asked(answer, open_campaign, data, public_key=key.public, now=now, population=population)
            answer.tell(None if found is None else exact(found.model_dump()))
        signed = read_canonical(data, most=MOST)
        wrong = (
            {"campaign": signed["campaign"]},
            {**signed, "more": 1},
            {**signed, "signature": "00" * 64},
            [],
            {**signed, "signature": 7},
        )
        asked(answer, open_campaign, canonical_json(dice.one_of(wrong)), public_key=key.public, now=0.0)
        payload = {**signed["campaign"], **dice.one_of(({"reach": 2.0}, {"more": 1}, {"title": 7}, {}))}
        again = canonical_json(
            {"campaign": payload, "signature": key.sign("palate/campaign/1", canonical_json(payload))}
        )
        for size in (0, 2**16, 2**16 + 1):
            asked(answer, open_campaign, again.ljust(size), public_key=key.public, now=0.0)


SEAMS: tuple[Seam, ...] = (
    Seam("manifests: every member, entry and handover", _manifests, 36),
    Seam("models: published, asked for and read", _published, 12),
    Seam("models: files that are read", _read_files, 6),
    Seam("models: which one is in use, after those and states before it", _in_use, 12),
    Seam("downloads: a server that says this and that", _online, 24),
    Seam("campaigns: every member, signed and not", _campaigns, 12),
)
