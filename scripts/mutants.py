"""Small changes of Python code, each of which a test ought to notice.

Not changed are docstrings, annotations, decorators, assertions, and what only people read: arguments of
exceptions, warnings, prints and progress bars, and texts.
"""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

Change = Callable[[ast.AST], ast.AST | None]
"""From a copy of a node to what stands in its place."""

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr,
    ast.LShift: ast.RShift, ast.RShift: ast.LShift,
}  # fmt: skip
NAMES = {
    "min": "max", "minimum": "maximum", "argmin": "argmax", "floor": "ceil", "any": "all", "mean": "sum",
    "clamp_min": "clamp_max", "zeros_like": "ones_like", "zeros": "ones", "sin": "cos",
}  # fmt: skip
NAMES |= {new: old for old, new in NAMES.items() if new != "sum"}
READ_BY_PEOPLE = {"print", "warn", "tqdm", "write", "TypeVar", "add_argument", "getLogger"}


@dataclass(frozen=True)
class Mutant:
    """One change.

    Attributes:
        file: path below the root, with slashes.
        line: where it is.
        key: file, enclosing function or class, kind, texts before and after, and number among equals: it
            stays the same when lines move.
        number: place in the order in which :func:`mutants` meets the changes.
        before, after: the changed expression or statement.
        first, last: lines of the statement that it is in, of a compound one its head.
        inside: the change is in a function, not among the statements that run at import.
    """

    file: str
    line: int
    key: str
    number: int
    before: str
    after: str
    first: int
    last: int
    inside: bool


def _swap_comparison(node: ast.AST) -> ast.AST:
    assert isinstance(node, ast.Compare)
    node.ops[0] = COMPARISONS[type(node.ops[0])]()
    return node


def _swap_arithmetic(node: ast.AST) -> ast.AST:
    assert isinstance(node, ast.BinOp | ast.AugAssign)
    node.op = ARITHMETIC[type(node.op)]()
    return node


def _swap_logic(node: ast.AST) -> ast.AST:
    assert isinstance(node, ast.BoolOp)
    node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    return node


def _operand(node: ast.AST) -> ast.AST:
    assert isinstance(node, ast.UnaryOp)
    return node.operand


def _other_constant(node: ast.AST) -> ast.AST:
    assert isinstance(node, ast.Constant)
    value = node.value
    if isinstance(value, bool):
        return ast.Constant(not value)
    assert isinstance(value, int | float)
    return ast.Constant(value + 1 if isinstance(value, int) else (2.0 * value if value else 1.0))


def _negate(node: ast.AST) -> ast.AST:
    assert isinstance(node, ast.If | ast.IfExp | ast.While)
    node.test = ast.UnaryOp(ast.Not(), node.test)
    return node


def _nothing(node: ast.AST) -> ast.AST:
    return ast.Pass()


def _swap_jump(node: ast.AST) -> ast.AST:
    return ast.Break() if isinstance(node, ast.Continue) else ast.Continue()


def _swap_name(node: ast.AST) -> ast.AST:
    assert isinstance(node, ast.Call)
    if isinstance(node.func, ast.Name):
        node.func.id = NAMES[node.func.id]
    elif isinstance(node.func, ast.Attribute):
        node.func.attr = NAMES[node.func.attr]
    return node


def _without_keyword(index: int) -> Change:
    def change(node: ast.AST) -> ast.AST:
        assert isinstance(node, ast.Call)
        del node.keywords[index]
        return node

    return change


def _called(node: ast.Call) -> str:
    function = node.func
    return function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def changes(node: ast.AST) -> Iterator[tuple[str, Change]]:
    """Kind and function of everything that can be done to one node."""
    match node:
        case ast.Compare(ops=[operator]) if type(operator) in COMPARISONS:
            yield "comparison", _swap_comparison
        case ast.BinOp() if type(node.op) in ARITHMETIC and not (_is_text(node.left) or _is_text(node.right)):
            yield "arithmetic", _swap_arithmetic
        case ast.AugAssign() if type(node.op) in ARITHMETIC and not _is_text(node.value):
            yield "arithmetic", _swap_arithmetic
            yield "no statement", _nothing
        case ast.BoolOp():
            yield "logic", _swap_logic
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield "no sign", _operand
        case ast.Constant(value=bool() | int() | float()):
            yield "constant", _other_constant
        case ast.If() | ast.IfExp() | ast.While():
            yield "condition", _negate
        case ast.Break() | ast.Continue():
            yield "jump", _swap_jump
        case ast.Raise() | ast.Expr(value=ast.Call()):
            yield "no statement", _nothing
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield "no statement", _nothing
        case ast.Call():
            if _called(node) in NAMES:
                yield "name", _swap_name
            for index, keyword in enumerate(node.keywords):
                if keyword.arg not in (None, "encoding"):  # UTF-8 is the default of the machines we have
                    yield "no keyword", _without_keyword(index)


class _Walk:
    """Meets nodes in a fixed order, with their scope and the field of the parent that they are in."""

    def __init__(self) -> None:
        self.found: list[tuple[ast.AST, ast.AST, str, int | None, str, bool, tuple[int, int]]] = []
        self.lines = 0, 0

    def visit(self, node: ast.AST, scope: str, inside: bool) -> None:
        for name, value in ast.iter_fields(node):
            for place, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
                if isinstance(child, ast.AST) and self.wanted(node, name, child):
                    self.meet(node, child, name, place, scope, inside)

    def meet(
        self, node: ast.AST, child: ast.AST, name: str, place: int | None, scope: str, inside: bool
    ) -> None:
        outer = self.lines
        if isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case):
            first = getattr(child, "lineno", outer[0])
            body = getattr(child, "body", None)
            self.lines = (
                first,
                max(first, body[0].lineno - 1) if body else getattr(child, "end_lineno", first),
            )
        self.found.append((node, child, name, place, scope, inside, self.lines))
        if isinstance(child, ast.FunctionDef | ast.ClassDef):
            scope = f"{scope}.{child.name}" if scope else child.name
            inside = inside or isinstance(child, ast.FunctionDef)
        self.visit(child, scope, inside)
        self.lines = outer

    @staticmethod
    def wanted(parent: ast.AST, name: str, child: ast.AST) -> bool:
        if name in ("annotation", "returns", "decorator_list", "exc", "cause", "slice_annotation"):
            return False
        match child:
            case ast.Assert() | ast.JoinedStr() | ast.Import() | ast.ImportFrom():
                return False
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                return False
            case ast.Assign(targets=[ast.Name(id="__all__")]):
                return False
            case ast.Call() if _called(child) in READ_BY_PEOPLE:
                return False
            case ast.Expr(value=ast.Call() as call) if _called(call) in READ_BY_PEOPLE:
                return False
        return True


def _text(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 100 else text[:97] + "..."


def _shown(node: ast.AST) -> ast.AST:
    """What of a statement says what was changed: of a compound one its condition."""
    return getattr(node, "test", node)


def mutants(file: Path, root: Path) -> list[Mutant]:
    """All changes of a file, in a fixed order."""
    walk, seen = _Walk(), Counter[str]()
    found: list[Mutant] = []
    walk.visit(ast.parse(file.read_text(encoding="utf-8")), "", False)
    name = file.relative_to(root).as_posix()
    for _, node, _, _, scope, inside, lines in walk.found:
        for kind, change in changes(node):
            changed = change(copy.deepcopy(node))
            assert changed is not None
            before, after = _text(_shown(node)), _text(_shown(changed))
            key = f"{name}::{scope}::{kind}::{before} -> {after}"
            seen[key] += 1
            if seen[key] > 1:
                key += f" #{seen[key]}"
            line = getattr(node, "lineno", 0)
            found.append(Mutant(name, line, key, len(found), before, after, *lines, inside))
    return found


def mutated(source: str, number: int) -> ast.Module:
    """The syntax tree of a source with one change."""
    tree, walk = ast.parse(source), _Walk()
    walk.visit(tree, "", False)
    for parent, node, name, place, *_ in walk.found:
        for _, change in changes(node):
            if number == 0:
                new = change(node)
                assert new is not None
                ast.copy_location(new, node)
                if place is None:
                    setattr(parent, name, new)
                else:
                    getattr(parent, name)[place] = new
                return ast.fix_missing_locations(tree)
            number -= 1
    raise ValueError("fewer changes than that")
