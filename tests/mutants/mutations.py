"""Small changes to a source text, each of which a test should notice."""

import ast
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass

SWAPPED: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult, ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr,
    ast.Break: ast.Continue, ast.Continue: ast.Break,
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One change to one file."""

    path: str  # from the project's folder
    line: int
    reached_by: range  # lines; a test that runs none of them cannot notice
    was: str
    now: str
    text: str  # the whole file, changed

    def __str__(self) -> str:
        return f"{self.path}:{self.line}\n      was  {self.was}\n      now  {self.now}"


def mutants(path: str, text: str) -> list[Mutant]:
    """Make every mutant of a file, in the order of its lines.

    What no test should notice is left alone: annotations, docstrings, ``__all__``, what only
    a type checker reads, what is logged, and sentences.
    """
    source = text.encode()  # ast counts columns in bytes
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    made = []
    for statement, old, new in _changes(ast.parse(text), None):
        spelled = ast.unparse(new)
        if isinstance(new, ast.expr) and not isinstance(new, ast.Constant):
            spelled = f"({spelled})"
        end_line, end_column = old.end_lineno or old.lineno, old.end_col_offset or 0
        before = source[: starts[old.lineno - 1] + old.col_offset].decode()
        middle = source[len(before.encode()) : starts[end_line - 1] + end_column].decode()
        after = source[len(before.encode()) + len(middle.encode()) :].decode()
        head, tail = before.rpartition("\n")[2], after.partition("\n")[0]
        was, now = (" ".join(f"{head}{changed}{tail}".split()) for changed in (middle, spelled))
        made.append(Mutant(path, old.lineno, _lines(statement), was, now, before + spelled + after))
    return sorted(made, key=lambda mutant: mutant.line)


def _lines(statement: ast.stmt) -> range:
    """Return the lines of a statement, or of its head where it holds others."""
    body = getattr(statement, "body", None)
    last = body[0].lineno - 1 if body else statement.end_lineno or 0
    return range(statement.lineno, max(statement.lineno, last) + 1)


def _changes(
    node: ast.AST, statement: ast.stmt | None
) -> Iterator[tuple[ast.stmt, ast.expr | ast.stmt, ast.AST]]:
    """Yield ``(statement, old, new)`` for each change of the node and of what it holds."""
    if _is_left_alone(node):
        return
    if isinstance(node, ast.stmt):
        statement = node
    if statement is not None and isinstance(node, ast.expr | ast.stmt):
        for new in _changed(node):
            yield statement, node, new
    if isinstance(node, ast.If | ast.While | ast.IfExp) and not _is_turned(node.test):
        assert statement is not None, "a condition stands in a statement"
        yield statement, node.test, ast.UnaryOp(ast.Not(), node.test)
    for child in _children(node):
        yield from _changes(child, statement)


def _is_left_alone(node: ast.AST) -> bool:
    """Whether no test should notice a change of the node, nor of anything that it holds."""
    match node:
        case ast.Expr(value=ast.Constant()) | ast.JoinedStr() | ast.Assert():
            return True
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
        case ast.Assign(targets=[ast.Name(id="__all__" | "__slots__" | "logger")]):
            return True
        case ast.Call(func=ast.Attribute(value=ast.Name(id="logger"))):
            return True
        case ast.Call(func=ast.Name(id=name)):
            return name == "cast" or name.endswith("Error")
        case _:
            return False


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what a node holds, but for what only type checkers and decorators read."""
    skipped: list[ast.AST | None] = []
    match node:
        case ast.AnnAssign() | ast.arg():
            skipped = [node.annotation]
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            skipped = [node.returns, *node.decorator_list]
        case ast.ClassDef():
            skipped = [*node.bases, *node.decorator_list]
    for child in ast.iter_child_nodes(node):
        if child not in skipped:
            yield child


def _changed(node: ast.expr | ast.stmt) -> Iterator[ast.AST]:
    """Yield each change of a node itself."""
    match node:
        case ast.Compare(ops=[op, *_]) if type(op) in SWAPPED:
            yield _with(node, ops=[SWAPPED[type(op)](), *node.ops[1:]])
        case ast.BoolOp() | ast.BinOp() | ast.AugAssign() if type(node.op) in SWAPPED:
            yield _with(node, op=SWAPPED[type(node.op)]())
        case ast.UnaryOp(op=ast.Not()):
            yield node.operand
        case ast.Constant():
            yield from _other_constant(node.value)
        case ast.Call():
            yield from _called_otherwise(node)
        case ast.Break() | ast.Continue():
            yield SWAPPED[type(node)]()
        case ast.Return(value=ast.expr() as value) if ast.unparse(value) != "None":
            yield ast.Return(ast.Constant(None))
    if _can_go(node):
        yield ast.Pass()


def _with(node: ast.AST, **fields: object) -> ast.AST:
    changed = copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def _is_turned(condition: ast.expr) -> bool:
    """Whether a change of the condition itself turns it round already."""
    is_not = isinstance(condition, ast.UnaryOp) and isinstance(condition.op, ast.Not)
    return is_not or isinstance(condition, ast.Compare | ast.Constant)


def _other_constant(value: object) -> Iterator[ast.AST]:
    match value:
        case bool():
            yield ast.Constant(not value)
        case int() | float():
            yield ast.Constant(value + 1)
        case str() if value.count(" ") < 2:  # else words for a reader
            yield ast.Constant(f"XX{value}")
        case bytes():
            yield ast.Constant(b"XX" + value)


def _called_otherwise(call: ast.Call) -> Iterator[ast.AST]:
    """Yield the call with its first two arguments swapped, and without each named one."""
    match call:
        case ast.Call(func=ast.Name(id="isinstance" | "issubclass" | "max" | "min")):
            pass  # a matter for the type checker, or the same either way round
        case ast.Call(args=[first, second, *rest]):
            if not any(isinstance(value, ast.Starred) for value in (first, second)):
                yield _with(call, args=[second, first, *rest])
    for keyword in call.keywords:
        yield _with(call, keywords=[other for other in call.keywords if other is not keyword])


def _can_go(node: ast.AST) -> bool:
    """Whether a statement can be left out, and its file still be more than nonsense."""
    match node:
        case ast.Expr(value=value):
            return not isinstance(value, ast.Constant)  # a docstring
        case ast.Assign(targets=targets):  # without its name, a test fails for a dull reason
            return not any(isinstance(target, ast.Name | ast.Tuple) for target in targets)
        case ast.AnnAssign(target=ast.Attribute(), value=ast.expr()):
            return True
        case ast.Return(value=None) | ast.Raise() | ast.Delete() | ast.AugAssign():
            return True
        case _:
            return False
