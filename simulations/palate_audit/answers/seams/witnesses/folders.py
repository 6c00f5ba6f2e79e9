"""Folders: a witness's settings, keys, logs and states, and evidence up to its limit."""

from __future__ import annotations

import shutil
from unittest import mock

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.made.folders import files_in, made_folder
from palate_audit.answers.made.keys import release_key
from palate_audit.answers.made.telling import tell_result
from palate_audit.answers.seam import Seam
from palate_core.log.notes import VerifierKey
from palate_server.witness import folder as folders
from palate_server.witness.folder import State, WitnessConfig, WitnessFolder, log_id


def _folders(dice: Dice, answer: CaseAnswer) -> None:
    """Settings, keys and logs of a witness, and evidence up to its limit."""
    with made_folder(answer) as root:
        (root / "file").write_text("x")
        (root / "keyed").mkdir()
        (root / "keyed" / "key").write_text("x")
        for place in ("file/witness", "keyed", "none"):
            tell_result(answer, lambda place=place: WitnessFolder.make(root / place, WitnessConfig(name="w")).logs())
            tell_result(answer, lambda place=place: WitnessFolder.at(root / place).config.name)
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
            made = tell_result(
                CaseAnswer(),
                lambda name=name, more=more: (
                    [WitnessFolder.make(root / "witness", WitnessConfig(name=name, **more))] and 1
                ),
            )
            answer.tell(made, files_in(root))
        tell_result(CaseAnswer(), lambda: WitnessFolder.make(root / "witness", WitnessConfig(name="w")).folder.name)
        answer.tell([path for path, *_ in files_in(root)])
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
                answer.tell(tell_result(CaseAnswer(), lambda: repr(WitnessFolder(root / "witness").config)))
                tell_result(answer, lambda: str(WitnessFolder.at(root / "witness").verifier_key))
                settings.write_bytes(kept)
            found = WitnessFolder.at(root / "witness")
            origin = dice.one_of((None, "origin", "", "x" * 1024, "x" * 1025, "\u00e9" * 513, "a\nb"))
            tell_result(answer, found.add, VerifierKey.of("log", release_key(0), dice.one_of((1, 1, 4))), origin)
            for number in dice.shuffled(range(17)) if dice.chance(0.3) else (1, 1, 2):
                tell_result(
                    answer,
                    found.add,
                    VerifierKey.of("log", release_key(number)),
                    dice.one_of(("many", "many", "many", "two")),
                )
            one, count = log_id("many"), dice.one_of((1, 3, 16))
            state = State(origin="many", number=1, size=3, root="ab" * 32, note="n\n\nx")
            for number in range(count + 2):
                with mock.patch.object(folders, "MOST_EVIDENCE", dice.one_of((3, 16)) if number < 4 else 16):
                    tell_result(answer, found.tell_fork, one, state, f"text {number % count}\n\nsigned {number}")
            tell_result(answer, found.tell_restored, one, state, "first")
            tell_result(answer, found.tell_restored, one, state, "second")
            (found.folder / "logs" / ".draft").write_text("x")
            (found.folder / "logs" / log_id("bad")).write_bytes(dice.one_of((b"\xff", b"x", b"", b"log+1+2\n")))
            tell_result(answer, found.keys, log_id("bad"))
            for data in (b"[]", b'{"cosigned":"x"}', b'{"signed":"x"}', b'{"cosigned":1,"signed":2}'):
                (found.folder / "evidence" / f"{log_id('two')}-fork-0").write_bytes(data)
                tell_result(answer, found.forks, log_id("two"))
            answer.tell(
                found.forks(one),
                files_in(root / "witness" / "evidence"),
                found.logs(),
                [str(key) for key in found.keys(one)],
            )
            tell_result(answer, found.keep, one, state)
            tell_result(answer, found.settle, one, state.model_copy(update={"size": 4}))
            tell_result(answer, found.state, one)
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
                tell_result(answer, found.make_copies)
                tell_result(answer, found.state, one)
            answer.tell(found.check(), files_in(root))


SEAMS = (Seam("witnesses: folders, keys and evidence", _folders, 12),)
