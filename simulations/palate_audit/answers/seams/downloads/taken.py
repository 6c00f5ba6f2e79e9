"""Taken: what a device downloads, which model it uses after those and states before it, and campaigns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.made.clocks import MadeClock
from palate_audit.answers.made.folders import made_folder
from palate_audit.answers.made.logs import POPULATION, MadeLog, floats, model_of
from palate_audit.answers.made.stores import NOW, made_disk, made_store
from palate_audit.answers.made.telling import as_text, tables_as_text, tell_refusal, tell_text
from palate_audit.answers.seam import Seam
from palate_audit.answers.seams.downloads.releases import MOST, plain_names, summary, told_names
from palate_audit.answers.seams.downloads.shapes import raw
from palate_client.ledger.own_ledger import OwnLedger
from palate_client.models import Models
from palate_client.online import downloads
from palate_client.online.https import HttpResponse, StoppedError
from palate_client.online.retry import SyncEnd
from palate_client.service import Service
from palate_client.store.journal import Journal
from palate_common.campaign import Campaign, open_campaign, sign_campaign
from palate_common.models import published
from palate_common.models.catalogue import ItemCatalogue
from palate_common.models.manifest import (
    COMPACT,
    MANIFEST,
    SIGNATURE,
    evidence_of,
)
from palate_common.models.published import Contents, Published
from palate_core.errors import UnreachableError
from palate_core.log.canonical import canonical_json, digest, read_canonical
from palate_core.log.consistency import SPENT, Shown
from palate_core.log.merkle import Checkpoint
from palate_core.log.signing import SigningKey


class _InUse:
    """A device that is shown models and states of a ledger, or of two."""

    def __init__(self, dice: Dice, answer: CaseAnswer, path: Path) -> None:
        self.dice, self.answer, self.path = dice, answer, path
        self.clock, self.log = MadeClock(NOW), MadeLog()
        self.service = Service(public_key=self.log.key.public, population=POPULATION, participations=9)
        self.store = made_store(path / "s", self.clock)
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
            self.plan,
            self.other,
            self.reopen,
            self.damage,
        )
        step = self.dice.one_of(weights)
        self.answer.tell(step.__name__)
        step()
        self.clock.now += 1.5
        current = tell_refusal(self.answer, self.models.current)
        self.answer.tell(None if current is None else (current.version, current.items, raw(current.model.state)))
        self.answer.tell(
            self.known.index(self.models.taken) if self.models.taken else -1, plain_names(self.models.in_use())
        )
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
        made = published.contents(
            model_of({"counts": floats(self.dice, n)}, catalogue.items),
            catalogue,
            facts,
            population=population,
            public_key=log.key.public,
            formers=self.former[-1:] if self.dice.chance(0.4) else (),
        )
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
        self.answer.tell(tell_refusal(self.answer, self.models.update, where))

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
            after = ledger.seen_checkpoint(POPULATION)
            tell_refusal(self.answer, ledger.see, POPULATION, shown.checkpoint, evidence, after=after)
            if self.dice.chance(0.3):
                later, after = Checkpoint(shown.checkpoint.size + 1, "ab" * 32), ledger.seen_checkpoint(POPULATION)
                tell_refusal(self.answer, ledger.see, POPULATION, later, b"{}", after=after)

    def reopen(self) -> None:
        """Restart the process; perhaps with no service, or another limit."""
        self.store.close()
        self.store = made_store(self.path / "s", self.clock)
        if self.dice.chance(0.2):
            nobody = Models(self.store, None)
            self.answer.tell(nobody.current(), nobody.in_use())
            tell_refusal(self.answer, nobody.update, self.path)
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
                tell_refusal(self.answer, self.models.see, self.service, ledger)


def _in_use(dice: Dice, answer: CaseAnswer) -> None:
    """Models that follow each other on a device."""
    # What a limit is as mu^2 costs much, and nothing of it is asked here.
    with made_folder(answer) as path, made_disk(), mock.patch.object(Service, "limit_mu2", 5.0):
        lived = _InUse(dice, answer, path)
        beside = Journal(lived.store.file), OwnLedger(lived.store, lived.service)  # else each close tidies the files
        for _ in range(dice.whole(4, 6)):
            lived.step()
        lived.seen()
        with Journal(lived.store.file) as journal:
            answer.tell(
                [
                    as_text((each.population, each.version, each.root, each.time, lived.known.index(each.manifest)))
                    for each in journal.editions()
                ]
            )
            answer.tell([each.what for each in journal.refusals()])
            with journal._database.transaction() as connection:
                answer.tell(tables_as_text(connection, "contacts", "sent"))
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


def _online(dice: Dice, answer: CaseAnswer) -> None:
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
    if dice.chance(0.15):
        second |= {each: first[each] for each in (published.MANIFEST, published.SIGNATURE)}
    plan, model = canonical_json({"a": 1}), b"round model"
    pointers = (
        json.dumps({"manifest": name, "version": 3}),
        json.dumps({"manifest": name.upper()}),
        json.dumps({"manifest": None}),
        "[]",
        "{",
        "[" * 900,
    )
    said = {
        "/models/latest": dice.one_of((pointers[0], *pointers)).encode(),
        f"/directory/{digest(plan)}": plan + dice.one_of((b"\n", b"\n", b"", b"\n\n")),
        f"/round/{digest(model)}": dice.one_of((model, model, b"other")),
        **{f"/models/{name}/{each}": data for each, data in second.items()},
    }
    server: Any = _Server(dice, said)
    found = tell_refusal(answer, downloads.latest, server)
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
    got = tell_refusal(
        answer,
        downloads.model,
        server,
        name,
        public_key=log.key.public,
        most=dice.one_of((MOST, MOST, 300)),
        again=again,
        have=have,
    )
    answer.tell(summary(got) if isinstance(got, Published) else as_text(got))
    tell_text(answer, downloads.directory, server, digest(plan), most=99)
    stop = dice.chance(0.2)
    for each in (digest(model), digest(model).upper(), "ab" * 31, digest(b"?")):
        try:
            tell_text(answer, downloads.round_model, server, each, most=77, over=lambda: stop)
        except StoppedError:
            answer.tell("stopped")
    answer.tell([(method, path.replace(name, "NAME"), *rest) for method, path, *rest in server.asked], tries)
    remote = downloads.ModelDownload(server, name, again, frozenset({"items"}))
    answer.tell(remote.place == name, remote.has("items"), remote.has("model"), as_text(remote.over))


def _campaigns(dice: Dice, answer: CaseAnswer) -> None:
    """Messages about an item, and what isn't one."""
    key = SigningKey.generate()
    options: dict[str, tuple[Any, ...]] = {
        "id": ("spring", "", "x" * 100, "x" * 101, 7),
        "population": ("readers", "", "others"),
        "title": ("T", "", "t" * 200, "t" * 201),
        "body": ("", "b" * 4000, "b" * 4001),
        "item": ("i", "", "i" * 512, "i" * 513),
        "link": ("", "l" * 2000, "l" * 2001),
        "expires": (NOW, NOW + 0.5, 1e11, 99e9, 0.0, -1.0, float("nan"), 5),
        "reach": (0.05, 1.0, 1.01, 0.0, 0.5),
        "version": (1, 2),
        "more": (1,),
    }
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
            found = tell_refusal(answer, open_campaign, data, public_key=key.public, now=now, population=population)
            answer.tell(None if found is None else as_text(found.model_dump()))
        signed = read_canonical(data, most=MOST)
        wrong: tuple[Any, ...] = (
            {"campaign": signed["campaign"]},
            {**signed, "more": 1},
            {**signed, "signature": "00" * 64},
            [],
            {**signed, "signature": 7},
        )
        tell_refusal(answer, open_campaign, canonical_json(dice.one_of(wrong)), public_key=key.public, now=0.0)
        payload = {**signed["campaign"], **dice.one_of(({"reach": 2.0}, {"more": 1}, {"title": 7}, {}))}
        again = canonical_json(
            {"campaign": payload, "signature": key.sign("palate/campaign/1", canonical_json(payload))}
        )
        for size in (0, 2**16, 2**16 + 1):
            tell_refusal(answer, open_campaign, again.ljust(size), public_key=key.public, now=0.0)


SEAMS: tuple[Seam, ...] = (
    Seam("models: which one is in use, after those and states before it", _in_use, 6),
    Seam("downloads: a server that says this and that", _online, 24),
    Seam("campaigns: every member, signed and not", _campaigns, 12),
)
