"""Seam: a place of the production code that made-up cases are played at, and the answers that were recorded there.

    made-up case -> production code -> answer | compared with the recorded one

What an answer must be is said by the other tests of the audit, by principle. This one says that it still is what it was
when they passed, for many more inputs than any of them has: every argument, every order of calls, every rule that
refuses. Known answers are how implementations of cryptography are validated (NIST's CAVP); here they are of a whole
mechanism. A change of the code that is meant changes its record, and the commit shows at which seams.

**Assumes:** the recorded answers were right. A case has nothing by chance, so that there are no false alarms.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NamedTuple

import numpy as np

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.still import still
from palate_audit.evidence.evidence import Finding
from palate_audit.harness.watched_run import memory

RECORDED = Path(__file__).with_name("recorded")
"""A file for each module of seams."""
QUICK = 12
"""Quick audits play one in so many cases."""
SHOWN = 3
"""So many cases are named in a finding."""


@dataclass(frozen=True)
class Seam:
    """Cases of one kind.

    Attributes:
        name: what is asked there, in words.
        play: plays a case and tells what came out.
        cases: how many there are.
        needs: a package that it can't be played without; "": none but Palate's own.
    """

    name: str
    play: Callable[[Dice, CaseAnswer], None]
    cases: int
    needs: str = ""

    @property
    def playable(self) -> bool:
        """Whether all that it needs is there; it is then loaded, while the time doesn't stand still."""
        try:
            return not self.needs or bool(import_module(self.needs))
        except (ImportError, OSError):  # it isn't there, or some of its own libraries aren't
            return False


class Recorded(NamedTuple):
    """An answer as it was recorded."""

    digest: str
    numbers: Sequence[float]
    rough: Sequence[float]


def played(seam: Seam, case: int) -> CaseAnswer:
    """Play one case; nothing in it is left to chance, and the time stands still."""
    answer = CaseAnswer()
    with still(f"{seam.name}\n{case}"), np.errstate(all="ignore"):
        seam.play(Dice(seam.name, case), answer)
    return answer


def known_answers(name: str, seams: Sequence[Seam], *, quick: bool = False) -> list[Finding]:
    """A finding for each seam of a module.

    Args:
        name: of the module's record.
        seams: what it plays.
        quick: one case in `QUICK`, of seams that need nothing but Palate, whose loading takes seconds.
    """
    recorded, chosen = read(name), [seam for seam in seams if not (quick and seam.needs)]
    return [_compared(seam, recorded.get(seam.name, []), quick=quick) for seam in chosen]


def _compared(seam: Seam, recorded: Sequence[Recorded], *, quick: bool) -> Finding:
    """Whether all cases of a seam give what they gave."""
    test = f"N {seam.name}"
    if not seam.playable:
        return Finding.missing(test, f"made-up cases need {seam.needs}")
    if len(recorded) != seam.cases:
        said = f"there must be {seam.cases} recorded answers, got {len(recorded)}: `make answers` records them"
        return Finding.checked(test, False, said)
    cases = range(0, seam.cases, QUICK if quick else 1)
    wrong = [case for case in cases if differs(seam, case, recorded[case])]
    if wrong and (lacking := _lacking()):
        return Finding.missing(test, f"made-up cases need room for files, and to have some of them open: {lacking}")
    shown = ", ".join(str(case) for case in wrong[:SHOWN]) + (", ..." if len(wrong) > SHOWN else "")
    said = f"{len(wrong)} of {len(cases)} made-up cases give another answer than was recorded: {shown}"
    return Finding.checked(test, not wrong, said if wrong else f"{len(cases)} made-up cases give the recorded answers")


def _lacking() -> str:
    """What the machine says to some files of a few MB; "": it has all that cases need."""
    try:
        with ExitStack() as stack:
            for _ in range(64):
                stack.enter_context(TemporaryFile(dir=memory(), buffering=0)).write(bytes(2**16))
    except OSError as error:
        return str(error)
    return ""


def differs(seam: Seam, case: int, recorded: Recorded) -> bool:
    """Whether a case gives another answer, or fails."""
    try:
        return not played(seam, case).agrees(*recorded)
    except Exception:  # a bug raises anything, and what was recorded is an answer
        return True


def read(name: str) -> dict[str, list[Recorded]]:
    """The recorded answers of a module's seams, by their names; none where there is no record."""
    file = RECORDED / f"{name}.json"
    if not file.exists():
        return {}
    return {seam: [Recorded(*each) for each in answers] for seam, answers in json.loads(file.read_bytes()).items()}


def record(name: str, seams: Sequence[Seam]) -> None:
    """Record the answers of a module's seams."""
    former, found = read(name), dict[str, list[Any]]()
    for seam in seams:
        kept = [list(each) for each in former.get(seam.name, [])]  # of what can't be played here
        found[seam.name] = [_line(played(seam, case)) for case in range(seam.cases)] if seam.playable else kept
    rows = (
        f" {json.dumps(seam)}: [\n" + ",\n".join(f"  {json.dumps(each)}" for each in answers) + "\n ]"
        for seam, answers in found.items()
    )
    (RECORDED / f"{name}.json").write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")


def _line(answer: CaseAnswer) -> list[Any]:
    """An answer as it is recorded."""
    numbers, rough = ([float(f"{each:.9g}") for each in kind] for kind in (answer.numbers, answer.rough))
    return [answer.digest, numbers, rough]
