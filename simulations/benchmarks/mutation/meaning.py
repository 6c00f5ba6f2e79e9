"""Meaning: bugs as people make them, made by machine, and how many of them known answers find.

A statement that is gone, a condition without one of its parts, another name or attribute of the same kind, a call that
is left out, `min` for `max`, an element dropped from a tuple, a clause from a query: one change in one function. The
changed function takes the place of the real one in a forked process, and the made-up cases that execute it are played
until one gives another answer than was recorded.

    PYTHONPATH=simulations python simulations/benchmarks/mutation/meaning.py --part accounting \
        common/palate_core/accounting.py

It says what survives, and which functions no case executes.
"""

from __future__ import annotations

import argparse
import ast
import copy
import functools
import gc
import hashlib
import importlib
import os
import re
import resource
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

from benchmarks.mutation import rooms
from benchmarks.sheet import Table
from palate_audit.answers.battery import PARTS
from palate_audit.answers.seam import Recorded, Seam, differs, played, read

MOST = 1
"""Changes of a function in the record."""
CASES = 40
"""So many cases of those that execute a function are played at most."""
SECONDS = 3
"""CPU seconds of a mutant; one that takes longer is found."""
MOST_OTHERS = 2
"""Names and attributes that are tried in the place of one."""
LOGS = frozenset({"log", "logger", "logging", "warnings", "print"})
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
COMPARISONS = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.Is: ast.IsNot,
               ast.NotEq: ast.Eq, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In}  # fmt: skip
ARITHMETIC = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.BitAnd: ast.BitOr,
              ast.BitOr: ast.BitAnd, ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv}  # fmt: skip
CALLS = {"min": "max", "max": "min", "any": "all", "all": "any", "minimum": "maximum", "maximum": "minimum",
         "ceil": "floor", "floor": "ceil", "sorted": "list", "first": "last", "sum": "max"}  # fmt: skip
SQL = re.compile(r"\b(SELECT|DELETE|UPDATE|INSERT)\b")
CLAUSES = ((r"\bmin\(", "max("), (r"\bmax\(", "min("), (r"<=", "<"), (r">=", ">"), (r"(?<![<>])<(?!=)", "<="),
           (r"coalesce\(([^,()]*), [^()]*\)", r"\1"), (r" OR (IGNORE|REPLACE)", ""),
           (r" AND [^()]*?(?= AND | ORDER|$|\))", ""),
           (r" ORDER BY (\w+)", r" ORDER BY \1 DESC"), (r" WHERE .*$", ""), (r" LIMIT .*$", ""))  # fmt: skip


@dataclass(frozen=True)
class Change:
    """One change of a function: where, what, and the function that has it."""

    line: int
    said: str
    made: Callable[[], ast.AST]


def changes(function: ast.AST, siblings: dict[str, list[str]]) -> Iterator[Change]:
    """Every change of a function; `siblings`: the attributes that a module asks of a name."""
    places = list(_places(function))
    names = sorted({n.arg for n in ast.walk(function) if isinstance(n, ast.arg)} - {"self", "cls"})
    for number, (node, stores) in enumerate(places):
        for said, changed in _of(node, names, siblings, stores):
            yield Change(getattr(node, "lineno", 0), said, functools.partial(_made, function, number, changed))


def _made(function: ast.AST, number: int, changed: ast.AST) -> ast.AST:
    """A copy of the function with another node at one of its places."""
    whole = copy.deepcopy(function)
    changed_whole: ast.AST = _Replaced(list(_places(whole))[number][0], changed).visit(whole)
    return changed_whole


def _places(function: ast.AST) -> Iterator[tuple[ast.AST, set[str]]]:
    """The nodes that are changed, in an order that stays; and the names that are bound twice."""
    bound: dict[str, int] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound[node.id] = bound.get(node.id, 0) + 1
    again = {name for name, count in bound.items() if count > 1}
    queue: list[ast.AST] = list(getattr(function, "body", []))
    while queue:
        node = queue.pop(0)
        if _silent(node):
            continue
        yield node, again
        if isinstance(node, ast.Raise | ast.Assert | ast.JoinedStr):
            continue
        skipped = ("annotation", "returns", "decorator_list", "type_comment")
        for name, value in ast.iter_fields(node):
            if name not in skipped:
                queue += [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, ast.AST)]


def _silent(node: ast.AST) -> bool:
    """Docstrings, and what is said in a log."""
    if not isinstance(node, ast.Expr):
        return False
    if isinstance(node.value, ast.Constant):
        return True
    called = node.value.func if isinstance(node.value, ast.Call) else None
    while isinstance(called, ast.Attribute):
        called = called.value
    return isinstance(called, ast.Name) and called.id.strip("_") in LOGS


def _of(
    node: ast.AST, names: Sequence[str], siblings: dict[str, list[str]], again: set[str]
) -> Iterator[tuple[str, ast.AST]]:
    """The changes of one node."""
    match node:
        case ast.Assign(targets=[ast.Name(id=name)]) if name not in again:
            pass  # without it, the next line fails
        case ast.Assign() | ast.AugAssign() | ast.Expr() | ast.Raise() | ast.Delete() | ast.Break() | ast.Continue():
            if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Yield)):
                yield f"without `{_text(node)}`", ast.Pass()
        case ast.If() | ast.For() | ast.While():
            yield f"without `{_text(node)}`", ast.Pass()
    match node:
        case ast.If(test=test) | ast.While(test=test):
            if isinstance(node, ast.If):
                yield f"always `{_text(test)}`", _with(node, test=ast.Constant(True))
                if node.orelse:
                    yield f"never `{_text(test)}`", _with(node, test=ast.Constant(False))
        case ast.IfExp():
            yield f"always `{_text(node.body)}`", node.body
            yield f"always `{_text(node.orelse)}`", node.orelse
        case ast.BoolOp():
            for place, value in enumerate(node.values):
                rest = node.values[:place] + node.values[place + 1 :]
                yield f"without `{_text(value)}`", rest[0] if len(rest) == 1 else _with(node, values=rest)
            yield f"other `{_text(node)}`", _with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
        case ast.UnaryOp(operand=operand):
            yield f"`{_text(operand)}` for `{_text(node)}`", operand
        case ast.Compare(ops=ops):
            for place, op in enumerate(ops):
                if type(op) in COMPARISONS:
                    other = [*ops[:place], COMPARISONS[type(op)](), *ops[place + 1 :]]
                    yield f"other comparison in `{_text(node)}`", _with(node, ops=other)
        case ast.BinOp(left=left, right=right, op=op):
            yield f"`{_text(left)}` for `{_text(node)}`", left
            yield f"`{_text(right)}` for `{_text(node)}`", right
            if type(op) in ARITHMETIC:
                yield f"other operator in `{_text(node)}`", _with(node, op=ARITHMETIC[type(op)]())
        case ast.Call(func=func, args=args, keywords=keywords):
            if len(args) == 1 and not keywords and not isinstance(args[0], ast.Starred | ast.GeneratorExp):
                yield f"`{_text(args[0])}` for `{_text(node)}`", args[0]
            if isinstance(func, ast.Attribute) and not isinstance(func.value, ast.Name):
                yield f"`{_text(func.value)}` for `{_text(node)}`", func.value
            called = func.id if isinstance(func, ast.Name) else func.attr if isinstance(func, ast.Attribute) else ""
            if called in CALLS:
                other = CALLS[called]
                new = _with(func, id=other) if isinstance(func, ast.Name) else _with(func, attr=other)
                yield f"{other} for `{_text(node)}`", _with(node, func=new)
            for place, keyword in enumerate(keywords):
                rest = keywords[:place] + keywords[place + 1 :]
                yield f"without `{keyword.arg}` in `{_text(node)}`", _with(node, keywords=rest)
        case ast.Constant(value=bool() as value):
            yield f"{not value} for {value}", ast.Constant(not value)
        case ast.Constant(value=int() as value):
            yield f"{value + 1} for {value}", ast.Constant(value + 1)
            yield f"{value - 1} for {value}", ast.Constant(value - 1)
        case ast.Constant(value=float() as value):
            yield f"{value} * 1.1", ast.Constant(value * 1.1)
        case ast.Constant(value=str() as value) if SQL.search(value):
            for found, new in CLAUSES:
                if (other := re.sub(found, new, value, count=1, flags=re.S)) != value:
                    yield f"query with `{found}` as `{new}`: {value[:70]!r}", ast.Constant(other)
        case ast.Attribute(value=ast.Name(id=base), attr=attr, ctx=ast.Load()):
            for other in _others(attr, siblings.get(base, ())):
                yield f"`{base}.{other}` for `{base}.{attr}`", _with(node, attr=other)
        case ast.Name(id=name, ctx=ast.Load()) if name in names:
            for other in _others(name, names):
                yield f"`{other}` for `{name}`", _with(node, id=other)
        case ast.Tuple(elts=elts, ctx=ast.Load()) | ast.List(elts=elts, ctx=ast.Load()) | ast.Set(elts=elts):
            if len(elts) > 1:
                for place, each in enumerate(elts):
                    yield (
                        f"without `{_text(each)}` in `{_text(node)}`",
                        _with(node, elts=elts[:place] + elts[place + 1 :]),
                    )
        case ast.Dict(keys=keys, values=values) if len(keys) > 1:
            for place, each in enumerate(values):
                cut = {"keys": keys[:place] + keys[place + 1 :], "values": values[:place] + values[place + 1 :]}
                yield f"without `{_text(each)}` in a dict", _with(node, **cut)
        case ast.Slice():
            yield f"`:` for `{_text(node)}`", ast.Slice()
        case ast.comprehension(ifs=ifs) if ifs:
            yield f"without `{_text(ifs[0])}`", _with(node, ifs=ifs[1:])


def _others(one: str, options: Sequence[str]) -> list[str]:
    """Some other names, always the same."""
    rest = sorted(set(options) - {one}, key=lambda name: hashlib.sha256(f"{one} {name}".encode()).digest())
    return rest[:MOST_OTHERS]


def _with(node: Any, **fields: Any) -> Any:
    """A node with some fields changed."""
    return type(node)(**{**dict(ast.iter_fields(node)), **fields})


def _text(node: ast.AST) -> str:
    """A node in a few words."""
    return ast.unparse(node).splitlines()[0][:70]


class _Replaced(ast.NodeTransformer):
    """Puts one node in the place of another."""

    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self._old, self._new = old, copy.deepcopy(new)

    def visit(self, node: ast.AST) -> Any:
        """The other node, at the same place."""
        if node is not self._old:
            return self.generic_visit(node)
        if isinstance(node, ast.expr) and isinstance(self._new, ast.expr):
            return ast.copy_location(self._new, node)
        return self._new


@dataclass(frozen=True)
class Function:
    """A function of a module: its qualified name, its tree, the classes around it, and the functions that run it."""

    module: str
    name: str
    node: Any
    classes: tuple[str, ...]
    live: tuple[FunctionType, ...]


def functions(path: Path) -> tuple[list[Function], dict[str, list[str]]]:
    """The functions of a file, and the attributes that it asks of each name."""
    name = ".".join(path.resolve().relative_to(rooms.ROOT).with_suffix("").parts[1:]).removesuffix(".__init__")
    module, tree = importlib.import_module(name), ast.parse(path.read_text(encoding="utf-8"))
    siblings: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and isinstance(node.ctx, ast.Load):
            siblings.setdefault(node.value.id, set()).add(node.attr)
    live = _live(module)
    found = [Function(name, qualified, node, classes, tuple(live.get((qualified, node.lineno), ())))
             for qualified, node, classes in _defined(tree, ())]  # fmt: skip
    return [each for each in found if each.live], {base: sorted(attrs) for base, attrs in siblings.items()}


def _defined(tree: Any, classes: tuple[str, ...]) -> Iterator[tuple[str, Any, tuple[str, ...]]]:
    """Functions of a module and of its classes."""
    for node in tree.body:
        if isinstance(node, FUNCTIONS) and node.name not in ("__repr__", "__str__"):
            yield ".".join([*classes, node.name]), node, classes
        elif isinstance(node, ast.ClassDef):
            yield from _defined(node, (*classes, node.name))


def _live(module: ModuleType) -> dict[tuple[str, int], list[FunctionType]]:
    """The function objects of a file, by name and line, wherever they are kept."""
    found: dict[tuple[str, int], list[FunctionType]] = {}
    for each in gc.get_objects():
        if type(each) is FunctionType and each.__module__ == module.__name__:
            code = each.__code__
            if code.co_filename == module.__file__ and "<locals>" not in code.co_qualname:
                first = _first_line(code)
                found.setdefault((code.co_qualname, first), []).append(each)
    return found


def _first_line(code: CodeType) -> int:
    """The line of `def`, below its decorators."""
    lines = Path(code.co_filename).read_text(encoding="utf-8").splitlines()
    at = code.co_firstlineno
    while not re.match(r"\s*(async )?def ", lines[at - 1]):
        at += 1
    return at


def compiled(function: Function, changed: Any) -> CodeType | None:
    """The code of a changed function; None where it isn't Python, or is the same."""
    changed.decorator_list = []
    body: Any = changed
    for name in reversed(function.classes):
        body = ast.ClassDef(name=name, bases=[], keywords=[], body=[body], decorator_list=[])
    source = "from __future__ import annotations"
    whole = ast.Module(body=[*ast.parse(source).body, body], type_ignores=[])
    try:
        code: Any = compile(ast.fix_missing_locations(whole), "a mutant", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, TypeError):
        return None
    for name in (*function.classes, changed.name):
        code = next(each for each in code.co_consts if isinstance(each, CodeType) and each.co_name == name)
    real = function.live[0].__code__
    same = code.co_code == real.co_code and code.co_consts == real.co_consts and code.co_names == real.co_names
    found: CodeType = code
    return None if same or code.co_freevars != real.co_freevars else found


def executed(parts: Mapping[str, Sequence[Seam]]) -> dict[tuple[str, str], list[tuple[Seam, int, Recorded]]]:
    """(file, function) -> the cases that execute it, those of few seams in turn."""
    found: dict[tuple[str, str], list[tuple[Seam, int, Recorded]]] = {}
    for part, seams in parts.items():
        recorded = read(part)
        for seam in seams:
            for case in range(seam.cases):
                for code in _codes(seam, case):
                    found.setdefault(code, []).append((seam, case, recorded[seam.name][case]))
    return found


def _codes(seam: Seam, case: int) -> set[tuple[str, str]]:
    """What a case executes of Palate."""
    seen: set[CodeType] = set()

    def told(frame: Any, event: str, _: object) -> None:
        if event == "call":
            seen.add(frame.f_code)

    sys.setprofile(told)
    threading.setprofile(told)
    try:
        played(seam, case)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return {(code.co_filename, code.co_qualname) for code in seen.copy() if "/palate_" in code.co_filename}


def survives(
    function: Function, code: CodeType, cases: Sequence[tuple[Seam, int, Recorded]], caches: Sequence[Any]
) -> bool:
    """Whether all cases give their answers with the changed code, in a process of its own."""
    number = os.fork()
    if number == 0:
        null = os.open(os.devnull, os.O_RDWR)
        for target in (0, 1, 2):
            os.dup2(null, target)
        os.chdir(tempfile.gettempdir())  # a path that was changed is often a relative one
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        signal.alarm(6 * SECONDS)
        for each in function.live:
            each.__code__ = code
        for cache in caches:
            cache.cache_clear()
        found = any(differs(seam, case, recorded) for seam, case, recorded in cases)
        os._exit(1 if found else 0)
    _, status = os.waitpid(number, 0)
    return status == 0


def chosen(cases: list[tuple[Seam, int, Recorded]]) -> list[tuple[Seam, int, Recorded]]:
    """Some of the cases, from all of their seams in turn."""
    by_seam: dict[str, list[tuple[Seam, int, Recorded]]] = {}
    for each in cases:
        by_seam.setdefault(each[0].name, []).append(each)
    turns = sorted(by_seam.values(), key=len)
    longest = max(len(each) for each in turns)
    return [each[k] for k in range(longest) for each in turns if k < len(each)][:CASES]


@dataclass
class Asked:
    """What became of a function's changes.

    Attributes:
        function: whose.
        made: changes that were made.
        left: those that no case noticed.
        executed: whether any case executes it.
    """

    function: Function
    made: int = 0
    left: list[Change] = field(default_factory=list)
    executed: bool = True


def asked(files: Sequence[Path], parts: Mapping[str, Sequence[Seam]], *, only: str, most: int) -> Iterator[Asked]:
    """Each function of the files, with what became of some of its changes, chosen by their hashes."""
    cases = executed(parts)
    caches = [each for each in gc.get_objects() if isinstance(each, functools._lru_cache_wrapper)]
    gc.disable()  # children share what is here
    tempfile.tempdir = tempfile.mkdtemp(prefix="palate-meaning-")
    for path in files:
        defined, siblings = functions(path)
        for function in defined:
            if only not in function.name:
                continue
            mine = cases.get((function.live[0].__code__.co_filename, function.name), [])
            found = Asked(function, executed=bool(mine))
            every = sorted(changes(function.node, siblings), key=_draw) if mine else []
            for change in every[:most]:
                code = compiled(function, change.made())
                if code is not None:
                    found.made += 1
                    if survives(function, code, chosen(mine), caches):
                        found.left.append(change)
            yield found


def _draw(change: Change) -> bytes:
    """The place of a change in a random order that stays."""
    return hashlib.sha256(f"{change.line} {change.said}".encode()).digest()


def meaning(_: Path, __: int) -> Any:
    """Changes of every room, and those that known answers notice."""
    found = []
    for room in rooms.ROOMS:
        every = list(asked([rooms.ROOT / file for file in rooms.files(room)], PARTS, only="", most=MOST))
        made, left = sum(each.made for each in every), sum(len(each.left) for each in every)
        idle = sum(not each.executed for each in every)
        found.append({"room": room, "functions": len(every), "idle": idle, "made": made, "found": made - left})
    return found


def meaning_tables(figures: Any) -> list[Table]:
    """One row a room."""
    keys = ("functions", "idle", "made", "found")
    total = {"room": "all", **{key: sum(each[key] for each in figures) for key in keys}}
    rows = [
        (each["room"], *(f"{each[key]:,}" for key in keys), f"{each['found'] / max(1, each['made']):.0%}")
        for each in [*figures, total]
    ]
    note = (
        "One change of each function, drawn by a hash, as people make them. Found by a case that gives another answer. "
        "Many of the changes left are equivalent."
    )
    header = ("room", "functions", "not executed", "changes", "found", "share")
    return [Table("Changes of meaning that known answers notice", header, rows, note)]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--part", action="append", help="modules of seams; all by default")
    parser.add_argument("--only", default="", help="functions whose name has this")
    parser.add_argument("--most", type=int, default=25, help="changes of a function, at random")
    options = parser.parse_args()
    parts = {name: seams for name, seams in PARTS.items() if not options.part or name in options.part}
    made = left = 0
    for each in asked(options.files, parts, only=options.only, most=options.most):
        place = f"{each.function.module}.{each.function.name}"
        if not each.executed:
            print(f"{place}: no case executes it", flush=True)
        for change in sorted(each.left, key=lambda change: change.line):
            print(f"{place}:{change.line}: {change.said}", flush=True)
        made, left = made + each.made, left + len(each.left)
    print(f"{made - left} of {made} found ({100 * (made - left) / max(1, made):.0f} %)")


if __name__ == "__main__":
    with np.errstate(all="ignore"):
        main()
