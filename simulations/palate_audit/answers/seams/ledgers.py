"""Ledgers: what a server charges, and what it refuses to."""

from __future__ import annotations

import hashlib
import sqlite3
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.made.attempts import coordinated, files_of, masked
from palate_audit.answers.made.books import MadeBooks, plain
from palate_audit.answers.made.entries import (
    TESTS,
    UNIT,
    WEEKS,
    asked_survey,
    entries_in_turn,
)
from palate_audit.answers.seam import Seam
from palate_audit.harness.watched_run import memory
from palate_common.records.canonical import digest, read_canonical
from palate_common.records.checkpoints import origin_of, sign_checkpoint
from palate_common.records.entries import Entry, entry_from
from palate_common.records.merkle import Checkpoint, MerkleTree
from palate_common.records.notes import Note
from palate_common.records.signing import SigningKey
from palate_server.ledger import history as rules
from palate_server.ledger import ledger as books
from palate_server.ledger.interim_looks import InterimLooks
from palate_server.ledger.ledger import Ledger
from palate_server.ledger.log import CHAIN_START, indexed
from palate_server.ledger.mirror import Mirror


def _kept(moves: Mapping[str, int], count: int, *, first: int = 0) -> Callable[[Dice, CaseAnswer], None]:
    """A case: a ledger with such moves."""

    def play(dice: Dice, answer: CaseAnswer) -> None:
        with (
            tempfile.TemporaryDirectory(dir=memory(), prefix="palate-") as folder,
            mock.patch.object(rules, "MAX_ATTEMPTS", dice.one_of((2, 4, 2**10))),
            mock.patch.object(books, "PROVED", dice.one_of((1, 4, 64))),
            mock.patch.object(books, "MOST_EPOCHS", dice.one_of((1, 16))),
            mock.patch.object(books, "MOST_HANDOVERS", dice.one_of((1, 16))),
        ):
            made = MadeBooks(dice, answer, Path(folder), first=first)
            try:
                made.play(moves, count)
            finally:
                made.ledger.close()

    return play


def _looks(dice: Dice, answer: CaseAnswer) -> None:
    """Looks at A/B tests that begin, end without a release, and are lost."""
    looks, opened = InterimLooks(), ["z"]
    for number in range(14):
        asked, name = asked_survey(dice), dice.one_of(sorted(TESTS))
        if dice.chance(0.75):
            weeks = dice.mostly(TESTS[name], WEEKS)
            asked = {"first_day": dice.one_of(weeks), "experiments": [name], "looks": {name: list(weeks)}}
            asked = asked if dice.chance(0.7) else {**asked, "looks": {}}
        match dice.one_of(("open", "open", "open", "open", "admit", "close", "close", dice.mostly("close", "restore"))):
            case "open":
                opened.append(f"{number}")
                answer.of(looks.opened, f"{number}", asked)
            case "admit":
                answer.of(looks.admitted, asked)
            case "close":
                looks.closed(dice.one_of(opened[-3:]))
            case "restore":
                for _ in range(dice.whole(1, 2)):
                    looks.restored(dice.mostly(f"{dice.one_of(('2025-10-05', *WEEKS))}T01:02:03+00:00", None))
                again = {"first_day": WEEKS[2], "experiments": [f"{number}"], "looks": {f"{number}": list(WEEKS[1:])}}
                answer.of(looks.admitted, again)


def _changed(dice: Dice, answer: CaseAnswer) -> None:
    """A file that somebody has changed, read anew or by who has it open."""
    with tempfile.TemporaryDirectory(dir=memory(), prefix="palate-") as place:
        path, answer.apart = Path(place) / "ledger", place
        with Ledger(path, population="readers") as ledger:
            for run in "abc":
                ledger.open_run(run, {"n": dice.whole(0, 9)})
            ledger.charge(run="b", round_=1, attempt=2, plan_hash="ab" * 32, mu2=UNIT, facts={}, run_limit=UNIT)
            with sqlite3.connect(path) as file:
                for trigger in ("at_end", "no_update", "no_delete"):
                    file.execute(f"DROP TRIGGER {trigger}")
                _change(dice, file, len(ledger.entries()))
            file.close()
            answer.of(ledger.spent)
            answer.of(ledger.open_run, "d", {})
        with ExitStack() as stack:
            found = answer.tried(Ledger, path, population="readers", read_only=True)
            if isinstance(found, Ledger):
                stack.enter_context(found)
                answer.tell([each.leaf() for each in found.entries()], found.checkpoint())


def _change(dice: Dice, file: sqlite3.Connection, size: int) -> None:
    """Change what is stored, once."""
    at = dice.one_of((size - 1, 2, dice.whole(0, size - 1)))
    (leaf,) = file.execute("SELECT leaf FROM entries WHERE seq = ?", (at,)).fetchone()
    match dice.one_of((0, 1, 2, 3, 4, 5, 6, 7, 7)):
        case 0:
            column = dice.one_of(("kind", "run", "round", "attempt"))
            file.execute(f"UPDATE entries SET {column} = 7 WHERE seq = ?", (at,))  # noqa: S608
        case 1:
            other = dice.one_of((leaf[:-1], leaf + b" ", b"{}", leaf.decode(), leaf.replace(b"a", b"b")))
            file.execute("UPDATE entries SET leaf = ? WHERE seq = ?", (other, at))
        case 2:
            file.execute("UPDATE entries SET chain = ? WHERE seq = ?", (bytes(32), at))
        case 3:
            file.execute("UPDATE entries SET seq = seq + 1 WHERE seq = ?", (size - 1,))
        case 4:
            file.execute("DELETE FROM entries WHERE seq >= ?", (at,))
        case 5:
            file.execute("UPDATE head SET size = size - ?", (dice.one_of((1, -1)),))
        case 6:
            file.execute("UPDATE head SET root = ?", ("ab" * 32,))
        case 7:
            chain, tree = CHAIN_START, MerkleTree()
            rows = file.execute("SELECT leaf FROM entries ORDER BY seq").fetchall()
            kept = [read_canonical(each, most=2**20) for (each,) in rows if each != leaf]
            file.execute("DELETE FROM entries")
            for seq, fields in enumerate(kept):  # all fits, but for a rule
                entry = entry_from({**fields, "seq": seq})
                chain = hashlib.sha256(chain + entry.leaf()).digest()
                tree.append(entry.leaf())
                row = (seq, *indexed(entry), entry.leaf(), chain)
                file.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            file.execute("UPDATE head SET size = ?, root = ?", (tree.size, tree.root()))


def _mirrored(dice: Dice, answer: CaseAnswer) -> None:
    """A ledger that grows, and the files of its mirror, which is interrupted, spoilt, cosigned, or another ledger's."""
    _mirror(dice, answer, 1, 6)


def _whole(dice: Dice, answer: CaseAnswer) -> None:
    """The same where files become whole."""
    _mirror(dice, answer, 252, 4)


def _mirror(dice: Dice, answer: CaseAnswer, size: int, steps: int) -> None:
    """A mirror of a ledger with so many entries at first."""
    with tempfile.TemporaryDirectory(dir=memory(), prefix="palate-") as place, ExitStack() as stack:
        ledgers = [stack.enter_context(Ledger(":memory:", population=name)) for name in ("readers", "others")]
        key, answer.apart, folder = SigningKey.generate(), place, Path(place) / "ledger"
        ledgers[0].recover([*ledgers[0].leaves(1)[1], *(_opened(n).leaf() for n in range(1, size))])

        def sign(checkpoint: Checkpoint) -> Note:
            return sign_checkpoint(checkpoint, origin_of("readers", key.public), key)

        for number in range(steps):
            ledger, mirror = dice.one_of((ledgers[0], ledgers[0], ledgers[1])), Mirror(folder)
            for each in range(dice.one_of((0, 1, 1, 3))):
                ledger.open_run(f"{number} {each}", {})
            now = ledger.checkpoint()
            match dice.one_of(("update", "update", "update", "cosign", "spoil")):
                case "update":
                    at = dice.one_of((None, None, None, max(1, now.size - 2), now.size, now.size + 1))
                    answer.of(mirror.update, ledger, sign, at)
                case "cosign":
                    note = sign(dice.mostly(mirror.checkpoint() or now, now))
                    answer.of(mirror.cosign, note.with_signatures(*note.signatures))
                case "spoil":
                    if (folder / "checkpoint").exists():
                        (folder / "checkpoint").write_bytes(
                            dice.mostly(b"nothing", sign(Checkpoint(now.size, "ab" * 32)).to_bytes())
                        )
            answer.tell(plain(ledger.shown()), [each.seq for each in ledger.entries(since=max(0, now.size - 5))])
            answer.tell(mirror.checkpoint(), {name: digest(data) for name, data in files_of(folder).items()})
            answer.tell(sorted(oct(path.stat().st_mode) for path in folder.rglob("*") if path.is_dir()))


def _opened(seq: int) -> Entry:
    """An entry that opens a run."""
    return entry_from({"kind": "open", "seq": seq, "run": f"{seq}", "facts": {}})


CHARGES = {"budget": 2, "opening": 3, "charge": 10, "seal": 5, "closing": 2, "restart": 1, "extract": 1, "audit": 1}
PUBLIC = {"opening": 2, "charge": 3, "seal": 1, "closing": 2, "publish": 3, "witnesses": 2, "key": 4, "look": 4,
          "extract": 1, "budget": 1}  # fmt: skip
LOSSES = {"opening": 3, "charge": 9, "seal": 1, "copy": 2, "restore": 6, "look": 1, "key": 2, "closing": 1,
          "budget": 1, "witnesses": 1}  # fmt: skip

SEAMS = (
    Seam("ledger: which entries may follow each other", entries_in_turn, 36),
    Seam("ledger: looks at A/B tests", _looks, 90),
    Seam("ledger: files that somebody has changed", _changed, 18),
    Seam("ledger: charges, limits and restarts", _kept(CHARGES, 16), 12),
    Seam("ledger: models, witnesses, keys, proofs and extracts", _kept(PUBLIC, 16, first=-1), 12),
    Seam("runs: attempts, answers, releases and servers that end", coordinated, 24),
    Seam("runs: under masks", masked, 1),
    Seam("ledger: the files of its mirror", _mirrored, 12),
    Seam("ledger: the files of its mirror that become whole", _whole, 1),
    Seam("ledger: copies, lost entries and restorations", _kept(LOSSES, 14, first=-1), 12),
)
