"""Copies: what else has a ledger's entries: the files of its mirror, and copies that it goes on from."""

from __future__ import annotations

from contextlib import ExitStack

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.made.folders import files_of, made_folder
from palate_audit.answers.seam import Seam
from palate_audit.answers.seams.ledgers.books import as_bytes, played_book
from palate_core.log.canonical import digest
from palate_core.log.checkpoints import origin_of, sign_checkpoint
from palate_core.log.entries import Entry, entry_from
from palate_core.log.merkle import Checkpoint
from palate_core.log.notes import Note
from palate_core.log.signing import SigningKey
from palate_server.ledger.ledger import Ledger
from palate_server.ledger.mirror import Mirror


def _mirrored(dice: Dice, answer: CaseAnswer) -> None:
    """A ledger that grows, and the files of its mirror, which is interrupted, spoilt, cosigned, or another ledger's."""
    _mirror(dice, answer, 1, 6)


def _whole_files(dice: Dice, answer: CaseAnswer) -> None:
    """The same where files become whole."""
    _mirror(dice, answer, 252, 4)


def _mirror(dice: Dice, answer: CaseAnswer, size: int, steps: int) -> None:
    """A mirror of a ledger with so many entries at first."""
    with made_folder(answer) as place, ExitStack() as stack:
        ledgers = [stack.enter_context(Ledger(":memory:", population=name)) for name in ("readers", "others")]
        key, folder = SigningKey.generate(), place / "ledger"
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
            answer.tell(as_bytes(ledger.shown()), [each.seq for each in ledger.entries(since=max(0, now.size - 5))])
            answer.tell(mirror.checkpoint(), {name: digest(data) for name, data in files_of(folder).items()})
            answer.tell(sorted(oct(path.stat().st_mode) for path in folder.rglob("*") if path.is_dir()))


def _opened(seq: int) -> Entry:
    """An entry that opens a run."""
    return entry_from({"kind": "open", "seq": seq, "run": f"{seq}", "facts": {}})


LOSSES = {"opening": 3, "charge": 9, "seal": 1, "copy": 2, "restore": 6, "look": 1, "key": 2, "closing": 1,
          "budget": 1, "witnesses": 1}  # fmt: skip


SEAMS = (
    Seam("ledger: the files of its mirror", _mirrored, 12),
    Seam("ledger: the files of its mirror that become whole", _whole_files, 1),
    Seam("ledger: copies, lost entries and restorations", played_book(LOSSES, 14, first=-1), 12),
)
