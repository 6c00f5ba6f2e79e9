"""Known answers: a changed function gives another one, the machine's last digits don't, and new code has to be run."""

from __future__ import annotations

import asyncio
import importlib.util
import resource
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from palate_audit.answers import new_code
from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.battery import PARTS
from palate_audit.answers.dice import Dice
from palate_audit.answers.new_code import NewCode
from palate_audit.answers.seam import RECORDED, Recorded, Seam, known_answers
from palate_audit.evidence.evidence import Verdict
from palate_core import accounting
from palate_core.errors import InputError


def test_a_change_of_the_last_digits_alone_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    real = accounting.epsilon_of
    seams = [each for each in PARTS["accounting"] if each.name == "epsilon, delta and mu"]
    monkeypatch.setattr(accounting, "epsilon_of", lambda **named: real(**named) * (1 + 1e-12))
    [found] = known_answers("accounting", seams, quick=True)
    assert found.verdict is Verdict.PASS
    monkeypatch.setattr(accounting, "epsilon_of", lambda **named: real(**named) * 1.001)
    [found] = known_answers("accounting", seams, quick=True)
    assert found.verdict is Verdict.ALARM
    assert "give another answer than was recorded: 0, 12" in found.said


def test_a_seam_without_its_record_is_no_pass() -> None:
    [found] = known_answers("accounting", [Seam("nobody's", lambda dice, answer: None, 3)])
    assert found.verdict is Verdict.ALARM
    assert "3 recorded answers, got 0" in found.said


def test_a_case_that_fails_is_no_pass_and_no_alarm_where_the_machine_lacks_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(dice: Dice, answer: CaseAnswer) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("palate_audit.answers.seam.read", lambda name: {"one": [Recorded(CaseAnswer().digest, [], [])]})
    [found] = known_answers("any", [Seam("one", fails, 1)])
    assert found.verdict is Verdict.ALARM
    most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (32, most[1]))
    try:
        [found] = known_answers("any", [Seam("one", fails, 1)])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, most)
    assert found.verdict is Verdict.UNCHECKABLE
    assert "Too many open files" in found.said


def test_every_record_is_some_seams() -> None:
    assert {path.stem for path in RECORDED.glob("*.json")} == {*PARTS, "conditions"}
    names = [seam.name for seams in PARTS.values() for seam in seams]
    assert len(set(names)) == len(names)


def told(*values: object) -> CaseAnswer:
    answer = CaseAnswer()
    answer.tell(*values)
    return answer


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 2),
        (True, False),
        ("1", 1),
        (b"1", "1"),
        ([1, 2], [2, 1]),
        ([[1], 2], [[1, 2]]),
        ({"a": 1}, {"a": 2}),
        (np.array([1, 2]), np.array([2, 1])),
        (np.array([1.0, 2.0]), np.array([2.0, 1.0])),
        (np.array([1.0, -1.0]), np.array([-1.0, 1.0])),
        (np.array([1.0, np.nan]), np.array([1.0, np.inf])),
        (np.zeros(2, np.int32), np.zeros(2, np.int64)),
        (np.zeros((1, 2)), np.zeros((2, 1))),
        (InputError("`users` must be 2, got 3"), InputError("`users` must be 2, got 4")),
        (None, False),
    ],
)
def test_what_differs_is_another_answer(one: object, other: object) -> None:
    first, second = told(one), told(other)
    assert first.agrees(first.digest, first.numbers, first.rough)
    assert not first.agrees(second.digest, second.numbers, second.rough)


def test_words_of_an_error_may_change_and_its_names_may_not() -> None:
    assert told(InputError("`n` must be 2, got 3")).digest == told(InputError("`n` is to be 2, and not 3")).digest
    assert told(InputError("`n` must be 2")).digest != told(InputError("`m` must be 2")).digest


def test_what_cannot_be_told_says_so() -> None:
    with pytest.raises(TypeError, match="tell what of it counts"):
        told(object())


ASKS = '''
from contextlib import suppress

def asked(n, unused=False):
    """Two branches."""
    with suppress(KeyError):
        {}[n]
    if n > 5 or unused:
        return [k for k in range(n) if k % 2]
    for _ in range(n):
        pass
    return n
'''


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    path = tmp_path / "palate_made_up.py"
    path.write_text(ASKS, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("palate_made_up", path)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "palate_made_up", made)
    spec.loader.exec_module(made)
    monkeypatch.setattr(new_code, "modules", lambda: {"palate_made_up": path})
    monkeypatch.setattr(new_code, "FILE", tmp_path / "conditions.json")
    return made


def counted(calls: Callable[[], object]) -> NewCode:
    with new_code.new_code() as found:
        calls()
    return found


def test_new_code_has_to_be_seen_both_ways(module: ModuleType) -> None:
    code = module.asked.__code__
    found = counted(lambda: [module.asked(0), module.asked(8)]).finding()
    assert found.verdict is Verdict.ALARM
    assert "`unused` was never true" in found.said
    assert "`for _ in range(n)` was never true" in found.said
    assert "line 8" in found.said
    assert module.asked.__code__ is code
    found = counted(lambda: [module.asked(2), module.asked(8), module.asked(0, unused=True)]).finding()
    assert (found.verdict, found.said) == (
        Verdict.PASS,
        "7 conditions aren't as they were recorded, all seen both ways",
    )


def test_recorded_code_needs_nothing(module: ModuleType) -> None:
    new_code.record()
    assert counted(lambda: None).asked == []
    path = Path(str(module.__file__))
    path.write_text(ASKS.replace("n > 5", "n > 6"), encoding="utf-8")
    assert [each.text for each in counted(lambda: None).asked] == ["n > 6", "n > 6 or unused"]


MADE = """
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache, wraps

def logged(function):
    @wraps(function)
    def inside(*args):
        if args:
            return function(*args)
        return None
    return inside

@logged
@lru_cache(maxsize=4 or 8)
def kept(n, key=lambda value: 1 if value else 2):
    return n or [] if n < 2 else f"{'a' if n > 3 else 'b'}"

@contextmanager
def held(n):
    if n and not (n > 1 and n > 2):
        yield n
    else:
        yield None

async def waited(n):
    match n:
        case 1 | 2 if n > 1:
            return "one"
        case _:
            return [each async for each in steps(n)]

async def steps(n):
    for each in range(n):
        yield each

@dataclass
class Box:
    n: int

    @property
    def large(self):
        return super().__getattribute__("n") > 3 and "large"

    @cached_property
    def name(self):
        return self.n or object()

    @staticmethod
    def of(n):
        class Inner:
            def asked(self):
                return "x" if n else "y"
        return Inner().asked()
"""


def test_code_of_every_kind_is_counted(module: ModuleType) -> None:
    path = Path(str(module.__file__))
    path.write_text(MADE, encoding="utf-8")
    assert module.__spec__ is not None
    assert module.__spec__.loader is not None
    module.__spec__.loader.exec_module(module)
    imported, box = module.kept, module.Box(1)

    def calls() -> None:
        assert [imported(n) for n in (0, 1, 2, 4)] == [[], 1, "b", "a"]
        assert (imported(), module.logged(imported)(0)) == (None, [])
        for n in (0, 1, 2, 3):
            with ThreadPoolExecutor(1) as pool, module.held(n):
                pool.submit(asyncio.run, module.waited(n)).result()
            assert module.Box(n).name
        assert (box.large, module.Box(4).large, box.of(0), box.of(1)) == (False, "large", "y", "x")

    found = counted(calls).finding()
    assert found.verdict is Verdict.PASS, found.said
    assert counted(lambda: None).finding().verdict is Verdict.ALARM


def test_another_way_of_writing_asks_nothing_new(module: ModuleType) -> None:
    new_code.record()
    path = Path(str(module.__file__))
    written = ASKS.replace("n > 5 or unused", "(\n            n > 5\n            or unused  # both\n    )")
    path.write_bytes(written.replace("\n", "\r\n").encode())
    assert counted(lambda: None).asked == []


def test_changed_code_that_cannot_be_loaded_is_no_pass(module: ModuleType) -> None:
    path = Path(str(module.__file__))
    path.write_text("def asked(:", encoding="utf-8")
    found = counted(lambda: None).finding()
    assert found.verdict is Verdict.ALARM
    assert "palate_made_up ended with SyntaxError" in found.said
    path.write_text("import palate_nobodys\n" + ASKS, encoding="utf-8")
    sys.modules.pop("palate_made_up")
    found = counted(lambda: None).finding()
    assert found.verdict is Verdict.UNCHECKABLE
    assert "palate_made_up ended with ModuleNotFoundError" in found.said


def test_the_record_is_of_this_code() -> None:
    """`make answers` records it anew."""
    with new_code.new_code() as found:
        pass
    assert [(each.module, each.line, each.text) for each in found.asked] == []
