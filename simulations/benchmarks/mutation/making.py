"""Makes mutants: cosmic-ray's operators over the sources of the rooms, and a random sample of them.

    site: a place in a function where operators of a family fit -> one mutant, by one of them, drawn
    sample: of each room and family some sites, those with the least hash of seed and id

An id is stable against shifts of lines: module, function, operator, how many-eth in the function, hash of the function.
A mutant that doesn't compile, or whose bytecode is the original's, isn't one.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from types import CodeType
from typing import Any

from cosmic_ray.ast import Visitor, ast_nodes, get_ast
from cosmic_ray.operators.provider import OperatorProvider

from benchmarks.mutation import rooms

SEED = 18
SIZE = 640
BINARY, COMPARISON, UNARY = "ReplaceBinaryOperator", "ReplaceComparisonOperator", "ReplaceUnaryOperator"
FAMILIES: dict[str, tuple[str, ...]] = {
    "arithmetic": (BINARY,),
    "comparison": (COMPARISON,),
    "sign and not": (UNARY,),
    "condition": ("AddNot", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr", "ReplaceOrWithAnd"),
    "loop": ("ReplaceBreakWithContinue", "ReplaceContinueWithBreak", "ZeroIterationForLoop"),
    "number": ("NumberReplacer",),
    "exception": ("ExceptionReplacer",),
    "decorator": ("RemoveDecorator",),
}
"""What operators do, and how their names begin; without the two that draw a variable or number anew each time."""
KINDS = (
    {"Add", "Sub", "Mul", "Div", "FloorDiv", "Mod", "Pow"},
    {"RShift", "LShift", "BitOr", "BitAnd", "BitXor"},
    {"Eq", "NotEq", "Lt", "LtE", "Gt", "GtE"},
    {"Is", "IsNot"},
    {"UAdd", "USub", "Invert", "Not", "Delete"},
)
"""An operator takes the place of one of its kind: another one would only be a type error, which any test finds."""
LOGS = {"log", "logger", "logging", "warnings", "_log", "_logger"}


@dataclass(frozen=True, order=True)
class Mutant:
    """A change of one place.

    Attributes:
        id: stable name; see above.
        room: key of `rooms.ROOMS`.
        family: key of `FAMILIES`.
        module: its name.
        line: where in the file, when it was made.
        lines: first and last line of the statement, then of the function.
        before: the line.
        after: the mutant's.
    """

    id: str
    room: str
    family: str
    module: str
    line: int
    lines: tuple[int, int, int, int]
    before: str
    after: str

    def record(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**asdict(self), "lines": list(self.lines)}

    @staticmethod
    def of(record: Mapping[str, Any]) -> Mutant:
        """The other way round."""
        return Mutant(**{**record, "lines": tuple(record["lines"])})


@dataclass(frozen=True)
class Place:
    """An operator at a place: `occurrence` counts in the module, as cosmic-ray does; `nth` in the function."""

    operator: str
    occurrence: int
    nth: int
    function: str
    digest: str
    start: tuple[int, int]
    lines: tuple[int, int, int, int]

    def name(self, module: str) -> str:
        """The mutant's id."""
        return f"{module}:{self.function}:{self.operator}:{self.nth}:{self.digest}"


def places(source: str) -> Iterator[tuple[str, Place]]:
    """Each family's places in a module, without those that the rules leave out."""
    tree = get_ast(source)
    nodes = list(ast_nodes(tree))
    operators, comparisons = [n for n in nodes if n.type == "operator"], [n for n in nodes if n.type == "comparison"]
    scopes: dict[int, tuple[str, str, int, int, tuple[int, int]]] = {}
    for family, beginnings in FAMILIES.items():
        for name in _operators(beginnings):
            operator = OperatorProvider()[name]()
            # In an order of walking, so that a count is cosmic-ray's; few kinds of nodes are asked by many operators.
            asked = operators if name.startswith(BINARY) else comparisons if name.startswith(COMPARISON) else nodes
            occurrence, within = 0, Counter[Any]()
            for node in asked:
                for start, _ in _positions(operator, node):
                    if not left_out(node):
                        function, digest, first, last, key = _scope(node, scopes)
                        lines = (*_statement(node), first, last)
                        yield family, Place(name, occurrence, within[key], function, digest, start, lines)
                        within[key] += 1
                    occurrence += 1


def _operators(beginnings: Sequence[str]) -> list[str]:
    """cosmic-ray's operators of a family, those of another kind left out."""
    found = []
    for name in sorted(OperatorProvider()):
        beginning, *swapped = name.split("_")
        if beginning in beginnings and (not swapped or any(set(swapped) <= kind for kind in KINDS)):
            found.append(name)
    return found


def _positions(operator: Any, node: Any) -> list[Any]:
    """Where an operator fits; `except a.B` is more than cosmic-ray's can take."""
    try:
        return list(operator.mutation_positions(node))
    except (AttributeError, IndexError):
        return []


def _ancestors(node: Any) -> Iterator[tuple[Any, Any]]:
    """Each ancestor, and its child on the way."""
    while node.parent is not None:
        yield node.parent, node
        node = node.parent


def left_out(node: Any) -> bool:
    """By rule: error texts, log texts, annotations (not the bounds in them), `__all__`, repr, markers of parameters."""
    called = False
    for parent, child in _ancestors(node):
        place = parent.children.index(child) if hasattr(parent, "children") else 0
        called = called or (parent.type == "trailer" and parent.children[0] == "(")
        annotation = (parent.type == "annassign" and place == 1) or (
            parent.type in ("tfpdef", "funcdef") and getattr(parent, "annotation", None) is child
        )
        if parent.type == "param":
            annotation = parent.annotation is not None and _within(child, parent.annotation)
        if parent.type == "funcdef" and child is parent.annotation:
            annotation = True
        if annotation and not called:
            return True
        if parent.type == "raise_stmt" or (parent.type in ("parameters", "lambdef") and child.type == "operator"):
            return True
        if parent.type in ("atom_expr", "power") and getattr(parent.children[0], "value", "") in LOGS:
            return True
        if parent.type == "expr_stmt" and getattr(parent.children[0], "value", "") == "__all__":
            return True
        if parent.type == "funcdef" and parent.name.value in ("__repr__", "__str__"):
            return True
        if parent.type == "if_stmt" and getattr(parent.children[1], "value", "") == "TYPE_CHECKING":
            return True
    return False


def _within(child: Any, annotation: Any) -> bool:
    """Whether the child of a parameter is its annotation's side."""
    return annotation.start_pos >= child.start_pos and annotation.end_pos <= child.end_pos


def _statement(node: Any) -> tuple[int, int]:
    """First and last line of the statement: of a compound one the head."""
    for parent, child in _ancestors(node):
        if parent.type in ("simple_stmt", "decorator"):
            return parent.start_pos[0], parent.end_pos[0]
        if parent.type.endswith("_stmt") and parent.type not in ("expr_stmt", "return_stmt", "del_stmt", "assert_stmt"):
            return parent.start_pos[0] if child is parent.children[1] else child.start_pos[0], child.end_pos[0]
    return node.start_pos[0], node.end_pos[0]


def _scope(node: Any, known: dict[int, Any]) -> tuple[str, str, int, int, tuple[int, int]]:
    """The outermost function around a node, or the statement at the level of a class or module: name, hash, lines."""
    way = [node, *(parent for parent, _ in _ancestors(node))][::-1]
    classes: list[str] = []
    for each in way:
        if each.type == "classdef":
            # its decorators and bases are of the class as a whole: a statement of its own
            classes.append(each.name.value)
        if each.type == "funcdef":
            whole = each.parent if each.parent.type == "decorated" else each
            if each.parent.type == "async_stmt":
                whole = each.parent.parent if each.parent.parent.type == "decorated" else each.parent
            return _named(".".join([*classes, each.name.value]), whole, known)
        if each.type == "decorated" and node is not each and _decorates(each, way):
            inner = each.children[-1]
            inner = inner.children[-1] if inner.type == "async_stmt" else inner
            return _named(
                ".".join([*classes, inner.name.value]), each if inner.type == "funcdef" else each.children[0], known
            )
        if each.type in ("simple_stmt", "if_stmt", "for_stmt", "try_stmt", "with_stmt", "while_stmt"):
            return _named(".".join([*classes, _defined(each)]), each, known)
    return _named(".".join([*classes, "<head>"]), node, known)


def _decorates(decorated: Any, way: Sequence[Any]) -> bool:
    """Whether the way goes through a decorator."""
    return way[[id(each) for each in way].index(id(decorated)) + 1].type in ("decorator", "decorators")


def _defined(statement: Any) -> str:
    """The name that a statement defines."""
    first = statement.children[0]
    names = first.get_defined_names() if hasattr(first, "get_defined_names") else []
    return names[0].value if names else "<statement>"


def _named(name: str, node: Any, known: dict[int, Any]) -> tuple[str, str, int, int, tuple[int, int]]:
    """Name, hash of the code without what stands before it, lines, place."""
    if id(node) not in known:
        digest = hashlib.sha256(node.get_code(include_prefix=False).strip().encode()).hexdigest()[:8]
        known[id(node)] = (name, digest, node.start_pos[0], node.end_pos[0], node.start_pos)
    found: tuple[str, str, int, int, tuple[int, int]] = known[id(node)]
    return found


def draw(seed: int, name: str) -> float:
    """Uniform in [0, 1), from seed and name alone."""
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:8]) / 2**64


def shared_out(counts: Mapping[Any, int], total: int) -> dict[Any, int]:
    """How many of each: by the root of what there is, at most all of it, at least one."""
    total, left = min(total, sum(counts.values())), dict(counts)
    given = dict.fromkeys(counts, 0)
    while total > 0:
        weights = {key: math.sqrt(counts[key]) for key in left if left[key] > 0}
        scale = total / sum(weights.values())
        step = {key: min(left[key], max(1, math.floor(weight * scale))) for key, weight in weights.items()}
        for key in sorted(step, key=lambda each: -weights[each]):
            more = min(step[key], total)
            given[key], left[key], total = given[key] + more, left[key] - more, total - more
    return given


@cache
def source_of(module: str) -> str:
    """The source as it is."""
    return (rooms.ROOT / rooms.file_of(module)).read_text(encoding="utf-8")


@cache
def sites_of(module: str) -> dict[str, dict[tuple[int, int], list[Place]]]:
    """Family -> place in the file -> the operators that fit there."""
    found: dict[str, dict[tuple[int, int], list[Place]]] = defaultdict(lambda: defaultdict(list))
    for family, place in places(source_of(module)):
        found[family][place.start].append(place)
    return {family: dict(sites) for family, sites in found.items()}


def population() -> dict[tuple[str, str], int]:
    """How many sites each room and family has."""
    found = Counter[tuple[str, str]]()
    for room in rooms.ROOMS:
        for file in rooms.files(room):
            for family, sites in sites_of(rooms.module_of(file)).items():
                found[room, family] += len(sites)
    return dict(found)


def sample(size: int = SIZE, seed: int = SEED) -> list[Mutant]:
    """A stratified random sample: rooms, and families within a room."""
    counts = population()
    by_room = shared_out({room: sum(n for (r, _), n in counts.items() if r == room) for room in rooms.ROOMS}, size)
    chosen: list[Mutant] = []
    for room, number in by_room.items():
        share = shared_out({family: n for (r, family), n in counts.items() if r == room}, number)
        for family, wanted in share.items():
            chosen += _lowest(room, family, wanted, seed)
    return chosen


def _lowest(room: str, family: str, wanted: int, seed: int) -> Iterable[Mutant]:
    """The sites with the least draw, each with the operator of the least draw that makes a mutant."""
    candidates = []
    for file in rooms.files(room):
        module = rooms.module_of(file)
        for options in sites_of(module).get(family, {}).values():
            ranked = sorted((draw(seed, place.name(module)), place) for place in options) if options else []
            candidates.append((draw(seed, "site " + options[0].name(module)), module, [place for _, place in ranked]))
    found: list[Mutant] = []
    for _, module, options in sorted(candidates, key=lambda each: each[0]):
        if len(found) == wanted:
            break
        made = next((mutant for place in options if (mutant := mutant_of(room, family, module, place))), None)
        if made is not None:
            found.append(made)
    return found


def mutant_of(room: str, family: str, module: str, place: Place) -> Mutant | None:
    """The mutant at a place, unless it is none."""
    source = source_of(module)
    mutated = mutated_source(source, place.operator, place.occurrence)
    if mutated is None or not differs(source, mutated):
        return None
    before, after = _changed(source, mutated)
    return Mutant(place.name(module), room, family, module, place.start[0], place.lines, before, after)


class OneMutation(Visitor):  # type: ignore[misc] - cosmic-ray has no types
    """cosmic-ray's `MutationVisitor`, without the plugins: operators need parso and attrs only."""

    def __init__(self, operator: Any, occurrence: int) -> None:
        self.operator, self.left, self.done = operator, occurrence, False

    def visit(self, node: Any) -> Any:
        """Mutate the node where the count is reached."""
        for index, _ in enumerate(_positions(self.operator, node)):
            if self.left == 0:
                self.done = True
                node = self.operator.mutate(node, index)
            self.left -= 1
        return node


def mutated_source(source: str, operator: str, occurrence: int) -> str | None:
    """The source with one mutation; None where the operator can't: `except a.B`."""
    visitor = OneMutation(OperatorProvider()[operator](), occurrence)
    try:
        mutated = visitor.walk(get_ast(source))
    except (AttributeError, IndexError):
        return None
    return mutated.get_code() if visitor.done else None


@cache
def ids_of(module: str) -> frozenset[str]:
    """The ids of a module as it is."""
    sites = sites_of(module).values()
    return frozenset(place.name(module) for each in sites for options in each.values() for place in options)


def is_current(mutant_id: str) -> bool:
    """Whether the function of an id is as it was; that of a module that has gone isn't."""
    module = mutant_id.split(":")[0]
    there = any(rooms.module_of(file) == module for room in rooms.ROOMS for file in rooms.files(room))
    return there and mutant_id in ids_of(module)


def source_with(mutant_id: str) -> str | None:
    """The mutated source of an id; None where the function has changed since."""
    module = mutant_id.split(":")[0]
    for sites in sites_of(module).values():
        for options in sites.values():
            for place in options:
                if place.name(module) == mutant_id:
                    return mutated_source(source_of(module), place.operator, place.occurrence)
    return None


def _changed(source: str, mutated: str) -> tuple[str, str]:
    """The first line that differs, of both."""
    one, other = source.splitlines(), mutated.splitlines()
    at = next((k for k, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(one) - 1)
    return one[at].strip(), (other[at].strip() if len(one) == len(other) else "(removed)")


def differs(source: str, mutated: str) -> bool:
    """Whether a mutant compiles to something else, whatever its lines."""
    try:
        other = compile(mutated, "mutant", "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return False
    return _stripped(other) != _stripped(compile(source, "mutant", "exec", dont_inherit=True))


def _stripped(code: CodeType) -> tuple[Any, ...]:
    """Code without lines."""
    consts = tuple(
        _stripped(each) if isinstance(each, CodeType) else (type(each).__name__, repr(each)) for each in code.co_consts
    )
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    return code.co_name, code.co_code, consts, names, counts, code.co_exceptiontable


def write(mutants: Iterable[Mutant], file: Path) -> None:
    """One a line, by id."""
    lines = [json.dumps(each.record(), ensure_ascii=False) for each in sorted(mutants, key=lambda each: each.id)]
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def read(file: Path) -> list[Mutant]:
    """The other way round."""
    return [Mutant.of(json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()]
