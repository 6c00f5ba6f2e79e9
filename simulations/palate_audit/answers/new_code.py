"""New code: what is asked since the answers were recorded, and whether the audit has seen it come out both ways.

A test says something of the code that it runs, and nothing of a branch that waits for a larger input, a rarer setting
or another year. So whatever a changed function asks anew has to be true once and false once while the audit runs: `if`,
`while`, each part of `and` and `or`; a loop, a case, an error that is caught has to be entered. It is structural
coverage as avionics ask for it (DO-178C, 6.4.4.2), of what is new. Code as it was recorded costs nothing here.

source of each module -> conditions that the record hasn't -> counted where they are asked -> never true, never false

**Assumes:** what the recorded code asks, and no test has ever seen, was looked at when it was recorded.
"""

from __future__ import annotations

import ast
import contextlib
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

from palate_audit.answers.seam import RECORDED
from palate_audit.evidence.evidence import Finding

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
MARK, CAUGHT = "__palate_asked__", "__palate_caught__"
"""What a condition is counted with."""
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
    """

    asked: list[Condition] = field(default_factory=list)
    seen: list[set[bool]] = field(default_factory=list)

    def finding(self) -> Finding:
        """Whether everything was seen both ways."""
        open_ = [
            f"{each.module}, line {each.line}, `{each.text}` was never {str(outcome).lower()}"
            for each, seen in zip(self.asked, self.seen, strict=True)
            for outcome in sorted(each.outcomes - seen)
        ]
        if not open_:
            said = f"{len(self.asked)} conditions aren't as they were recorded, all seen both ways"
            return Finding.checked(TEST, True, said)
        more = f", and {len(open_) - SHOWN} more" if len(open_) > SHOWN else ""
        said = "what code does that no test has run isn't known: " + "; ".join(open_[:SHOWN]) + more
        return Finding.checked(TEST, False, said)


@contextmanager
def new_code(known: Mapping[str, Mapping[str, str]] | None = None) -> Iterator[NewCode]:
    """Count in this process, until the context ends, how what is asked anew comes out.

    Args:
        known: digests of each module's source and of what it asks; what was recorded if None.
    """
    found, codes = NewCode(), dict[tuple[str, str, int], CodeType]()
    known = recorded() if known is None else known
    for name, path in modules().items():
        source = path.read_bytes()
        former = known.get(name, {})
        if former.get("source") != _digest(source):
            counting = _Counting(name, former.get("asks", ""), found)
            tree = counting.visit(ast.parse(source))
            if counting.functions:
                codes |= _counted(importlib.import_module(name), tree, counting.functions, found)
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
            if "" in parts or inside[0] in parts:
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
        self.functions: set[str] = set()
        """Qualified names of the outermost functions that ask something new."""

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
        texts = [ast.unparse(value) for value in node.values]
        self.generic_visit(node)
        node.values = [self._asked(value, text) for value, text in zip(node.values, texts, strict=True)]
        return node

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        """`if` in a comprehension."""
        texts = [ast.unparse(test) for test in node.ifs]
        self.generic_visit(node)
        node.ifs = [self._asked(test, text) for test, text in zip(node.ifs, texts, strict=True)]
        return node

    def visit_For(self, node: ast.For) -> ast.AST:
        """A loop: that it is gone through."""
        return self._entered(node, f"for {ast.unparse(node.target)} in {ast.unparse(node.iter)}")

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.AST:
        """An error that is caught."""
        return self._entered(node, f"except {ast.unparse(node.type) if node.type else ''}")

    def visit_match_case(self, node: ast.match_case) -> ast.AST:
        """A case."""
        guard = f" if {ast.unparse(node.guard)}" if node.guard else ""
        return self._entered(node, f"case {ast.unparse(node.pattern)}{guard}")

    def visit_With(self, node: ast.With) -> ast.AST:
        """`with suppress(...)`: that something was suppressed."""
        texts = [ast.unparse(item.context_expr) for item in node.items]
        self.generic_visit(node)
        for item, text in zip(node.items, texts, strict=True):
            number = self._new(text, node, {True}) if text.split("(")[0].endswith("suppress") else None
            if number is not None:
                item.context_expr = _call(CAUGHT, number, item.context_expr)
        return node

    def _function(self, node: Scope) -> ast.AST:
        """A function, or one inside of it, of whose body the outermost is exchanged as a whole."""
        outermost, self._inside = not self._inside, True
        self._way.append(node.name)
        number = self._new("it is called", node, {True})
        self.generic_visit(node)
        if number is not None:
            at = 1 if ast.get_docstring(node, clean=False) is not None else 0
            node.body.insert(at, ast.Expr(_call(MARK, number, ast.Constant(True))))
        self._way.pop()
        self._inside = not outermost
        return node

    def _tested(self, node: Any) -> ast.AST:
        """A node with a test."""
        text = ast.unparse(node.test)
        self.generic_visit(node)
        node.test = self._asked(node.test, text)
        changed: ast.AST = node
        return changed

    def _entered(self, node: Any, text: str) -> ast.AST:
        """A node with a body."""
        number = self._new(text, node, {True})
        self.generic_visit(node)
        if number is not None:
            node.body.insert(0, ast.Expr(_call(MARK, number, ast.Constant(True))))
        changed: ast.AST = node
        return changed

    def _asked(self, value: ast.expr, text: str) -> ast.expr:
        """An expression that tells how it came out, if the record hasn't it."""
        number = None if isinstance(value, ast.Constant) else self._new(text, value, {True, False})
        return value if number is None else _call(MARK, number, value)

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


def _typed(node: ast.AST) -> ast.AST:
    return node


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

    def caught(number: int, suppressing: AbstractContextManager[Any]) -> AbstractContextManager[Any]:
        return _Telling(suppressing, found.seen[number])

    module.__dict__.update({MARK: asked, CAUGHT: caught})
    return {(file, each.co_qualname, each.co_firstlineno): each for each in _codes(code) if _outermost(each, functions)}


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


def _outermost(code: CodeType, functions: set[str]) -> bool:
    """Whether a function asks something new, or one inside of it does."""
    name = code.co_qualname
    return any(each == name or each.startswith(f"{name}.") for each in functions)


def _codes(code: CodeType) -> Iterator[CodeType]:
    """Every code of a module that isn't inside of a function."""
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
