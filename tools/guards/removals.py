"""
What can be taken out: every refusal in ``tenants/`` and every check that it hangs on, found in the syntax tree.

A refusal is a ``raise`` of a ``TenantError``, or of Django's own errors where ours stand in for them, or a call of a
function that does nothing but refuse (``require_...``). What is taken out, each by itself:

    if        the condition that it stands under: never true, or never false where it stands in the ``else``
    operand   each operand of such a condition: of ``and``, ``or``, a chain of comparisons, a comparison of tuples
    skip      the condition of an early return before it: always true, so that it is never reached
    exit      the same: never true, so that the exception from the rule is gone
    except    the handler that turns another error into it: the other error goes through; a re-raise: it is swallowed
    type      each type that such a handler is for
    raise     one that stands under no condition, and a call: it does nothing
"""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

# Django's, where a refusal of ours has to be one of them.
DJANGOS_REFUSALS = {"TransactionManagementError", "OperationalError", "SynchronousOnlyOperation"}
CHECK = re.compile(r"_*require_|(validate_slug|real_alias|before_statement)$")
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Removal(NamedTuple):
    name: str  # file:function:what:number
    path: Path  # from the project's directory
    line: int
    text: str  # what is taken out
    source: str  # the whole file without it


def removals(root: Path) -> Iterator[Removal]:
    errors = tenant_errors(root) | DJANGOS_REFUSALS
    for path in sorted((root / "tenants").glob("**/*.py")):
        if "migrations" not in path.parts:
            yield from removals_in(path.relative_to(root), path.read_text(), errors)


def tenant_errors(root: Path) -> set[str]:
    tree = ast.parse((root / "tenants" / "exceptions.py").read_text())
    return {node.name for node in tree.body if isinstance(node, ast.ClassDef)}


def removals_in(path: Path, source: str, errors: set[str]) -> Iterator[Removal]:
    text = Text(source)
    short = path.relative_to("tenants").as_posix()
    for qualified_name, function in _functions(ast.parse(source)):
        numbers: Counter[str] = Counter()
        seen = set()
        for kind, node, new in _Walk(function, errors, text).edits():
            after = text.replaced(node, new)
            if after not in seen:  # two refusals can stand under one condition
                seen.add(after)
                numbers[kind] += 1
                name = f"{short}:{qualified_name}:{kind}:{numbers[kind]}"
                yield Removal(name, path, node.lineno, text.of(node), after)


def _functions(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, Function]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function | ast.ClassDef):
            name = f"{prefix}{child.name}"
            if isinstance(child, Function):
                yield name, child
            yield from _functions(child, f"{name}.")
        else:
            yield from _functions(child, prefix)


class Text:
    """A source by the syntax tree's positions, which count bytes."""

    def __init__(self, source: str):
        self.source = source.encode()
        self.starts = [0]
        for line in self.source.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))

    def _range(self, node) -> tuple[int, int]:
        return self.starts[node.lineno - 1] + node.col_offset, self.starts[node.end_lineno - 1] + node.end_col_offset

    def of(self, node) -> str:
        start, end = self._range(node)
        return self.source[start:end].decode()

    def replaced(self, node, new: str) -> str:
        start, end = self._range(node)
        return (self.source[:start] + new.encode() + self.source[end:]).decode()


Edit = tuple[str, ast.AST, str]  # what, the node, and what is put in its place


class _Walk:
    """One function, without the functions in it."""

    def __init__(self, function: Function, errors: set[str], text: Text):
        self.function, self.errors, self.text = function, errors, text
        self.found: list[Edit] = []
        self.exits: list[list[Edit]] = []  # early returns for which no refusal has come yet
        self.prepared = {
            target.id
            for node in ast.walk(function)
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and self._names(node.value.func)
            for target in node.targets
            if isinstance(target, ast.Name)
        }

    def edits(self) -> list[Edit]:
        self._block(self.function.body, self.errors | self.prepared)
        return self.found

    def _names(self, node: ast.AST | None) -> bool:
        return isinstance(node, ast.Name) and node.id in self.errors

    def _block(self, block: list[ast.stmt], errors: set[str], under: ast.AST | None = None) -> bool:
        """Whether a refusal stands in it. ``under`` is the ``if`` or handler whose body it is."""
        return True in [self._statement(statement, errors, under) for statement in block]  # each of them

    def _statement(self, node: ast.stmt, errors: set[str], under: ast.AST | None) -> bool:
        if isinstance(node, ast.If):
            return self._if(node, errors)
        if isinstance(node, ast.Try):
            return self._try(node, errors)
        if isinstance(node, ast.For | ast.AsyncFor | ast.While | ast.With | ast.AsyncWith):
            return True in [self._block(getattr(node, part, []), errors) for part in ("body", "orelse")]
        if isinstance(node, ast.Return) and isinstance(under, ast.ExceptHandler):
            self.exits.append([("exit", node, "raise")])
        if not _refuses(node, errors, under):
            return False
        for exit_edits in self.exits:
            self.found += exit_edits
        self.exits = []
        if isinstance(under, ast.ExceptHandler):
            is_turned = isinstance(node, ast.Raise) and node.exc is not None
            self.found.append(("except", node, "raise" if is_turned else "pass"))
        elif isinstance(node, ast.Expr) or not isinstance(under, ast.If):
            self.found.append(("raise", node, "pass"))
        return True

    def _if(self, node: ast.If, errors: set[str]) -> bool:
        place, exits = len(self.found), len(self.exits)
        in_body, in_else = self._block(node.body, errors, node), self._block(node.orelse, errors)
        operands: list[Edit] = [("operand", each, new) for each, new in self._without_operands(node.test)]
        if in_body or in_else:
            self.found[place:place] = [("if", node.test, "False" if in_body else "True"), *operands]
        elif isinstance(node.body[-1], ast.Return | ast.Continue):
            skip: list[Edit] = [("skip", node.test, "True"), ("exit", node.test, "False")]
            self.exits.insert(exits, [*skip, *operands])
        return in_body or in_else

    def _try(self, node: ast.Try, errors: set[str]) -> bool:
        place = len(self.found)
        turned: set[str] = set()
        in_handlers = []
        for handler in node.handlers:
            first, names = len(self.found), {each.id for each in _types(handler) if isinstance(each, ast.Name)}
            again = {""} if names & (self.errors | {"Exception", "BaseException"}) else set()
            in_handlers.append(self._block(handler.body, errors | again, handler))
            if in_handlers[-1]:
                turned |= names
                self.found[first:first] = self._without_types(handler)
        of_handlers = self.found[place:]
        del self.found[place:]
        in_body = self._block(node.body, errors | turned)
        self.found += of_handlers
        rest = [self._block(block, errors) for block in (node.orelse, node.finalbody)]
        return True in [in_body, *in_handlers, *rest]

    def _without_types(self, handler: ast.ExceptHandler) -> list[Edit]:
        types = _types(handler)
        if len(types) == 1:
            return []
        rests = [[other for other in types if other is not each] for each in types]
        texts = [", ".join(self.text.of(other) for other in rest) for rest in rests]
        return [("type", handler.type, f"({text},)") for text in texts if handler.type]

    def _without_operands(self, test: ast.expr) -> Iterator[tuple[ast.AST, str]]:
        if isinstance(test, ast.UnaryOp):
            yield from self._without_operands(test.operand)
        elif isinstance(test, ast.BoolOp):
            operator = " and " if isinstance(test.op, ast.And) else " or "
            for each in test.values:
                yield test, operator.join(self._inner(other) for other in test.values if other is not each)
                yield from self._without_operands(each)
        elif isinstance(test, ast.Compare) and len(test.ops) == 2:
            start, middle, end = self._inner(test.left), *(self._inner(each) for each in test.comparators)
            yield test, f"{start} {_sign(test.ops[0])} {middle}"
            yield test, f"{middle} {_sign(test.ops[1])} {end}"
        elif isinstance(test, ast.Compare) and isinstance(test.left, ast.Tuple):
            yield from self._without_members(test, test.left, test.comparators[0])

    def _without_members(self, test: ast.Compare, left: ast.Tuple, right: ast.expr) -> Iterator[tuple[ast.AST, str]]:
        if isinstance(right, ast.Tuple) and isinstance(test.ops[0], ast.Eq | ast.NotEq):
            for number in range(len(left.elts)):
                sides = [
                    "(" + "".join(f"{self.text.of(each)}, " for i, each in enumerate(side.elts) if i != number) + ")"
                    for side in (left, right)
                ]
                yield test, f"{sides[0]} {_sign(test.ops[0])} {sides[1]}"

    def _inner(self, node: ast.AST) -> str:
        text = self.text.of(node)
        return f"({text})" if isinstance(node, ast.BoolOp | ast.NamedExpr | ast.IfExp | ast.Lambda) else text


def _refuses(node: ast.stmt, errors: set[str], under: ast.AST | None) -> bool:
    """``""`` among the errors: inside a handler for one of them, where a bare ``raise`` raises it again."""
    if isinstance(node, ast.Raise):
        error = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        return (error is None and "" in errors) or (isinstance(error, ast.Name) and error.id in errors)
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        function = node.value.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        return CHECK.match(name) is not None
    return False


def _types(handler: ast.ExceptHandler) -> list[ast.expr]:
    if handler.type is None:
        return []
    return handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]


def _sign(operator: ast.cmpop) -> str:
    text = ast.unparse(ast.Compare(ast.Name("a"), [operator], [ast.Name("b")]))
    return text.removeprefix("a ").removesuffix(" b")
