"""New code: what is asked since the answers were recorded, and whether the audit has seen it come out both ways.

A test says something of the code that it runs, and nothing of a branch that waits for a larger input, a rarer setting
or another year. So whatever a changed function asks anew has to be true once and false once while the audit runs: `if`,
`while`, each part of `and` and `or`; a loop, a case, an error that is caught has to be entered. It is structural
coverage as avionics ask for it (DO-178C, 6.4.4.2), of what is new. Code as it was recorded costs nothing here.

source of each module -> conditions that the record hasn't -> counted where they are asked -> never true, never false

What is told of a condition doesn't depend on the version of Python, on how its lines are broken and how they end.

**Assumes:** what the recorded code asks, and no test has ever seen, was looked at when it was recorded.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import gc
import hashlib
import importlib
import importlib.util
import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

from palate_audit.answers.seam import RECORDED
from palate_audit.evidence.evidence import Finding
from palate_audit.evidence.guard import WITHOUT

TEST = "N new code"
FILE = RECORDED / "conditions.json"
PACKAGES = {
    "palate_common": ("",),
    "palate_client": ("consent", "floors", "flower", "leaving", "ledger", "models", "online", "panel", "portability",
                      "rounds", "secagg", "service", "store"),
    "palate_server": ("flower", "folder", "ledger", "operation", "rounds", "secagg", "surveys", "witness"),
    "palate_torch": ("",),
}  # fmt: skip
"""Package -> what of it the mechanism is made of; "": all."""
MARK, GIVEN, CAUGHT = "__palate_asked__", "__palate_given__", "__palate_caught__"
"""What a condition is counted with."""
SETTLED = (ast.Constant, ast.List, ast.Tuple, ast.Dict, ast.Set, ast.Lambda)
"""What always is true, or always false: it asks nothing."""
SHOWN = 3
"""So many conditions are named in a finding."""
Scope = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Condition:
    """Something that a function asks.

    Attributes:
        module: where.
        function: its qualified name in the module.
        text: what is asked.
        line: where in the file.
        outcomes: what has to be seen.
    """

    module: str
    function: str
    text: str
    line: int
    outcomes: frozenset[bool]

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits of function and text."""
        return hashlib.sha256(f"{self.function}\n{self.text}".encode()).hexdigest()[:8]


@dataclass
class NewCode:
    """What is asked anew, and what was seen of it.

    Attributes:
        asked: conditions that the record hasn't.
        seen: of each, true or false.
        broken: changed modules that end with an error where they are read or loaded.
        lacking: those that need what this machine hasn't.
    """

    asked: list[Condition] = field(default_factory=list)
    seen: list[set[bool]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    lacking: list[str] = field(default_factory=list)

    def finding(self) -> Finding:
        """Whether everything was seen both ways."""
        open_ = [
            f"{each.module}, line {each.line}, `{each.text}` was never {str(outcome).lower()}"
            for each, seen in zip(self.asked, self.seen, strict=True)
            for outcome in sorted(each.outcomes - seen)
        ]
        if alarms := [*self.broken, *open_]:
            more = f", and {len(alarms) - SHOWN} more" if len(alarms) > SHOWN else ""
            said = "what code does that no test has run isn't known: " + "; ".join(alarms[:SHOWN]) + more
            return Finding.checked(TEST, False, said)
        if self.lacking:
            return Finding.missing(TEST, "changed code could not be loaded: " + "; ".join(self.lacking[:SHOWN]))
        said = f"{len(self.asked)} conditions aren't as they were recorded, all seen both ways"
        return Finding.checked(TEST, True, said)


@contextmanager
def new_code(known: Mapping[str, Mapping[str, str]] | None = None) -> Iterator[NewCode]:
    """Count in this process, until the context ends, how what is asked anew comes out.

    Args:
        known: digests of each module's source and of what it asks; what was recorded if None.
    """
    found, codes = NewCode(), dict[tuple[str, str, int], CodeType]()
    known = recorded() if known is None else known
    for name, path in modules().items():
        former, before = known.get(name, {}), len(found.asked)
        try:
            source = path.read_bytes()
            if former.get("source") != _digest(source):
                counting = _Counting(name, former.get("asks", ""), found)
                tree = counting.visit(ast.parse(source))
                if counting.functions:
                    codes |= _counted(importlib.import_module(name), tree, counting.functions, found)
        except Exception as error:  # a module may end with anything where it is loaded
            del found.asked[before:], found.seen[before:]
            said = f"{name} ended with {type(error).__name__}: {' '.join(str(error).split())[:200]}"
            (found.lacking if isinstance(error, WITHOUT) else found.broken).append(said)
    changed = _exchanged(codes) if codes else []
    try:
        yield found
    finally:
        for function, code in changed:
            function.__code__ = code


def modules() -> dict[str, Path]:
    """Every module of the mechanism, and its file."""
    found = {}
    for package, parts in PACKAGES.items():
        if package == "palate_torch" and importlib.util.find_spec("torch") is None:
            continue  # an extra, without which it can't be run
        root = Path(str(getattr(importlib.util.find_spec(package), "origin", ""))).parent
        for path in sorted(root.rglob("*.py")):
            inside = path.relative_to(root).with_suffix("").parts
            if ("" in parts or inside[0] in parts) and all(map(str.isidentifier, inside)):  # no copy of an editor's
                found[".".join((package, *inside)).removesuffix(".__init__")] = path
    return found


def conditions(module: str, source: bytes) -> list[Condition]:
    """Everything that a module's functions ask."""
    found = NewCode()
    _Counting(module, "", found).visit(ast.parse(source))
    return found.asked


def record() -> None:
    """Record what each module asks."""
    found = {}
    for name, path in modules().items():
        source = path.read_bytes()
        asks = sorted({each.digest for each in conditions(name, source)})
        found[name] = {"source": _digest(source), "asks": "".join(asks)}
    FILE.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def recorded() -> Mapping[str, Mapping[str, str]]:
    """Module -> digests of its source and of what it asks."""
    found: Mapping[str, Mapping[str, str]] = json.loads(FILE.read_bytes()) if FILE.exists() else {}
    return found


def _digest(source: bytes) -> str:
    """Of a source, whatever ends its lines."""
    return hashlib.sha256(source.replace(b"\r\n", b"\n")).hexdigest()[:16]


class _Counting(ast.NodeTransformer):
    """Counts the conditions of a module that a record hasn't, and makes each of them tell how it came out."""

    def __init__(self, module: str, known: str, found: NewCode) -> None:
        self._module, self._found = module, found
        self._known = {known[at : at + 8] for at in range(0, len(known), 8)}
        self._way: list[str] = []
        self._inside = False
        self._tests: set[ast.AST] = set()
        """What is asked for its truth alone."""
        self.functions: set[str] = set()
        """Qualified names of the functions that ask something new."""

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        """A class: its functions."""
        self._way.append(node.name)
        self.generic_visit(node)
        self._way.pop()
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """A function: that it is called at all, and what it asks."""
        return self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        """The same."""
        return self._function(node)

    def visit_If(self, node: ast.If) -> ast.AST:
        """`if`."""
        return self._tested(node)

    def visit_While(self, node: ast.While) -> ast.AST:
        """`while`."""
        return self._tested(node)

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        """A choice."""
        return self._tested(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        """`and`, `or`: each part."""
        texts, names = [_text(value) for value in node.values], [MARK] * len(node.values)
        if node not in self._tests:
            names[-1] = GIVEN
        self._tests.update(value for value, name in zip(node.values, names, strict=True) if name == MARK)
        self.generic_visit(node)
        node.values = [self._asked(*each) for each in zip(node.values, texts, names, strict=True)]
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        """`not`: of what is asked."""
        if isinstance(node.op, ast.Not):
            self._tests.add(node.operand)
        return self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        """`if` in a comprehension."""
        texts = [_text(test) for test in node.ifs]
        self._tests.update(node.ifs)
        self.generic_visit(node)
        node.ifs = [self._asked(test, text) for test, text in zip(node.ifs, texts, strict=True)]
        return node

    def visit_For(self, node: ast.For) -> ast.AST:
        """A loop: that it is gone through."""
        return self._entered(node, f"for {_text(node.target)} in {_text(node.iter)}")

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.AST:
        """An error that is caught."""
        return self._entered(node, f"except {_text(node.type) if node.type else ''}")

    def visit_match_case(self, node: ast.match_case) -> ast.AST:
        """A case."""
        guard = f" if {_text(node.guard)}" if node.guard else ""
        self._tests.update([node.guard] if node.guard else [])
        return self._entered(node, f"case {_text(node.pattern)}{guard}")

    def visit_With(self, node: ast.With) -> ast.AST:
        """`with suppress(...)`: that something was suppressed."""
        texts = [_text(item.context_expr) for item in node.items]
        self.generic_visit(node)
        for item, text in zip(node.items, texts, strict=True):
            number = self._new(text, node, {True}) if text.split("(")[0].endswith("suppress") else None
            if number is not None:
                item.context_expr = _call(CAUGHT, number, item.context_expr)
        return node

    def _function(self, node: Scope) -> ast.AST:
        """A function: its decorators and defaults belong to what it is defined in."""
        node.decorator_list = [self.visit(each) for each in node.decorator_list]
        node.args = self.visit(node.args)
        outermost, self._inside = not self._inside, True
        self._way.append(node.name)
        number = self._new("it is called", node, {True})
        node.body = [self.visit(each) for each in node.body]
        if number is not None:
            at = 1 if ast.get_docstring(node, clean=False) is not None else 0
            node.body.insert(at, ast.Expr(_call(MARK, number, ast.Constant(True))))
        self._way.pop()
        self._inside = not outermost
        return node

    def _tested(self, node: ast.If | ast.While | ast.IfExp) -> ast.AST:
        """A node with a test."""
        text = _text(node.test)
        self._tests.add(node.test)
        self.generic_visit(node)
        node.test = self._asked(node.test, text)
        return node

    def _entered(self, node: ast.For | ast.ExceptHandler | ast.match_case, text: str) -> ast.AST:
        """A node with a body."""
        number = self._new(text, node, {True})
        self.generic_visit(node)
        if number is not None:
            node.body.insert(0, ast.Expr(_call(MARK, number, ast.Constant(True))))
        return node

    def _asked(self, value: ast.expr, text: str, name: str = MARK) -> ast.expr:
        """An expression that tells how it came out, if the record hasn't it."""
        number = None if isinstance(value, SETTLED) else self._new(text, value, {True, False})
        return value if number is None else _call(name, number, value)

    def _new(self, text: str, node: Any, outcomes: set[bool]) -> int | None:
        """The number of a condition that the record hasn't; None where it has it, and outside of functions."""
        if not self._inside or "TYPE_CHECKING" in text:
            return None
        line = getattr(node, "lineno", 0) or getattr(getattr(node, "pattern", node), "lineno", 0)
        condition = Condition(self._module, ".".join(self._way), text, line, frozenset(outcomes))
        if condition.digest in self._known:
            return None
        self._found.asked.append(condition)
        self._found.seen.append(set())
        self.functions.add(condition.function)
        return len(self._found.asked) - 1


class _Calls(ast.NodeTransformer):
    """Writes formatted strings as calls: versions of Python quote them otherwise."""

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        """The whole string."""
        return ast.Call(ast.Name("f", ast.Load()), [self.visit(each) for each in node.values], [])

    def visit_FormattedValue(self, node: ast.FormattedValue) -> ast.AST:
        """A value in it, and how it is formatted."""
        parts = [node.value, ast.Constant(node.conversion), *([node.format_spec] if node.format_spec else [])]
        return ast.Call(ast.Name("format", ast.Load()), [self.visit(each) for each in parts], [])


def _text(node: ast.AST) -> str:
    """A piece of code in one way of writing."""
    return ast.unparse(_Calls().visit(copy.deepcopy(node)))


def _call(name: str, number: int, value: ast.expr) -> ast.Call:
    """`name(number, value)`."""
    return ast.Call(ast.Name(name, ast.Load()), [ast.Constant(number), value], [])


def _counted(
    module: ModuleType, tree: ast.AST, functions: set[str], found: NewCode
) -> dict[tuple[str, str, int], CodeType]:
    """The code of functions that count, by file, name and line."""
    file = str(module.__file__)
    code = compile(ast.fix_missing_locations(tree), file, "exec", dont_inherit=True)  # type: ignore[call-overload]

    def asked(number: int, value: Any) -> Any:
        try:
            found.seen[number].add(bool(value))
        except ValueError:  # an array, that nothing asks
            found.seen[number] |= {True, False}
        return value

    def given(number: int, value: Any) -> Any:  # the last part of what isn't only asked: a value like any other
        found.seen[number] |= {bool(value)} if isinstance(value, bool | np.bool_) else {True, False}
        return value

    def caught(number: int, suppressing: AbstractContextManager[Any]) -> AbstractContextManager[Any]:
        return _Telling(suppressing, found.seen[number])

    module.__dict__.update({MARK: asked, GIVEN: given, CAUGHT: caught})
    return {(file, each.co_qualname, each.co_firstlineno): each for each in _codes(code) if _asking(each, functions)}


def _exchanged(codes: Mapping[tuple[str, str, int], CodeType]) -> list[tuple[FunctionType, CodeType]]:
    """Exchange the code of functions, wherever they are kept; with what they had."""
    changed = []
    for each in gc.get_objects():
        if type(each) is FunctionType:
            old = each.__code__
            other = codes.get((old.co_filename, old.co_qualname, old.co_firstlineno))
            if other is not None and other.co_freevars == old.co_freevars:
                each.__code__ = other
                changed.append((each, old))
    return changed


def _asking(code: CodeType, functions: set[str]) -> bool:
    """Whether a function asks something new, or one inside of it does; one that is inside may have been made before."""
    name = code.co_qualname.replace("<locals>.", "")
    return any(each == name or each.startswith(f"{name}.") for each in functions)


def _codes(code: CodeType) -> Iterator[CodeType]:
    """Every code of a module."""
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield each
            yield from _codes(each)


@dataclass
class _Telling(contextlib.AbstractContextManager[Any]):
    """A context that suppresses errors, and tells that it has."""

    inside: AbstractContextManager[Any]
    seen: set[bool]

    def __enter__(self) -> Any:
        return self.inside.__enter__()

    def __exit__(self, *error: Any) -> bool | None:
        suppressed = self.inside.__exit__(*error)
        if suppressed:
            self.seen.add(True)
        return suppressed
