"""Folders: a witness's settings, keys, logs and states, and evidence up to its limit."""

from __future__ import annotations

import shutil
from unittest import mock

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.made.asking import ask, files, folder, release_key
from palate_audit.answers.seam import Seam
from palate_common.records.notes import VerifierKey
from palate_server.witness import folder as folders
from palate_server.witness.folder import State, WitnessConfig, WitnessFolder, log_id


def _folders(dice: Dice, answer: CaseAnswer) -> None:
    """Settings, keys and logs of a witness, and evidence up to its limit."""
    with folder() as root:
        (root / "file").write_text("x")
        (root / "keyed").mkdir()
        (root / "keyed" / "key").write_text("x")
        for place in ("file/witness", "keyed", "none"):
            ask(answer, lambda place=place: WitnessFolder.make(root / place, WitnessConfig(name="w")).logs())
            ask(answer, lambda place=place: WitnessFolder.at(root / place).config.name)
        for name, more in (
            (dice.one_of(("w", "", "a b")), {}),
            (
                "w.example/1",
                {
                    "copy": dice.one_of(
                        ("inner", "../c", "", *[str(root / "c")] * 4, str(root / "witness"), str(root / "d" / "e"))
                    )
                },
            ),
        ):
            made = ask(
                CaseAnswer(),
                lambda name=name, more=more: (
                    [WitnessFolder.make(root / "witness", WitnessConfig(name=name, **more))] and 1
                ),
            )
            answer.tell(made, files(root))
        ask(CaseAnswer(), lambda: WitnessFolder.make(root / "witness", WitnessConfig(name="w")).folder.name)
        answer.tell([path for path, *_ in files(root)])
        there = (root / "witness" / "witness.toml").exists()
        settings = root / "witness" / "witness.toml"
        found = WitnessFolder(root / "witness")
        if there:
            for line in dice.some_of(
                (
                    'name = "x y"\n',
                    'name = "n"\nport = 0\n',
                    "broken",
                    'name = "n"\nmore = 1\n',
                    'name = "n"\nper_second = 0\n',
                    "\xff",
                    'name = "n"\nport = 65535\n' + "#" * 2**14,
                ),
                0.3,
            ):
                kept = settings.read_bytes()
                settings.write_bytes(line.encode("latin-1"))
                answer.tell(ask(CaseAnswer(), lambda: repr(WitnessFolder(root / "witness").config)))
                ask(answer, lambda: str(WitnessFolder.at(root / "witness").verifier_key))
                settings.write_bytes(kept)
            found = WitnessFolder.at(root / "witness")
            origin = dice.one_of((None, "origin", "", "x" * 1024, "x" * 1025, "\u00e9" * 513, "a\nb"))
            ask(answer, found.add, VerifierKey.of("log", release_key(0), dice.one_of((1, 1, 4))), origin)
            for number in dice.shuffled(range(17)) if dice.chance(0.3) else (1, 1, 2):
                ask(
                    answer,
                    found.add,
                    VerifierKey.of("log", release_key(number)),
                    dice.one_of(("many", "many", "many", "two")),
                )
            one, count = log_id("many"), dice.one_of((1, 3, 16))
            state = State(origin="many", number=1, size=3, root="ab" * 32, note="n\n\nx")
            for number in range(count + 2):
                with mock.patch.object(folders, "MOST_EVIDENCE", dice.one_of((3, 16)) if number < 4 else 16):
                    ask(answer, found.tell_fork, one, state, f"text {number % count}\n\nsigned {number}")
            ask(answer, found.tell_restored, one, state, "first")
            ask(answer, found.tell_restored, one, state, "second")
            (found.folder / "logs" / ".draft").write_text("x")
            (found.folder / "logs" / log_id("bad")).write_bytes(dice.one_of((b"\xff", b"x", b"", b"log+1+2\n")))
            ask(answer, found.keys, log_id("bad"))
            for data in (b"[]", b'{"cosigned":"x"}', b'{"signed":"x"}', b'{"cosigned":1,"signed":2}'):
                (found.folder / "evidence" / f"{log_id('two')}-fork-0").write_bytes(data)
                ask(answer, found.forks, log_id("two"))
            answer.tell(
                found.forks(one),
                files(root / "witness" / "evidence"),
                found.logs(),
                [str(key) for key in found.keys(one)],
            )
            ask(answer, found.keep, one, state)
            ask(answer, found.settle, one, state.model_copy(update={"size": 4}))
            ask(answer, found.state, one)
            if found.copy is not None:
                lost = sorted(found.copy.iterdir()) if found.copy.exists() else []
                for path in dice.some_of(lost, 0.6):
                    path.unlink()
                (found.folder / "states" / one).write_bytes(
                    dice.one_of((state.to_bytes(), state.to_bytes(), b"x", b"{}"))
                )
                if dice.chance(0.3):
                    shutil.rmtree(found.copy)
                    if dice.chance(0.3):
                        found.copy.write_text("no folder")
                ask(answer, found.make_copies)
                ask(answer, found.state, one)
            answer.tell(found.check(), files(root))


SEAMS = (Seam("witnesses: folders, keys and evidence", _folders, 12),)
