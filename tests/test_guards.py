"""The list of guards that ``make guards`` takes out is in step with the source. The run itself is ``make guards``."""

import ast
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
GUARDS = runpy.run_path(str(ROOT / "tools" / "guards.py"))["GUARDS"]
REFUSALS = {"NoTenantError", "WrongTenantError"}


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_every_edit_matches_the_source_once_and_names_a_test_that_exists(guard):
    source = (ROOT / guard.path).read_text()
    file, _, function = guard.test.partition("::")
    assert source.count(guard.old) == 1
    ast.parse(source.replace(guard.old, guard.new))
    assert f"def {function}" in (ROOT / "tests" / file).read_text()


def test_every_refusal_is_taken_out_by_some_guard():
    edited = {}
    for guard in GUARDS:
        first = (ROOT / guard.path).read_text().split(guard.old)[0].count("\n") + 1
        edited.setdefault(guard.path, []).append((first, first + guard.old.count("\n")))

    found = [(path, first, last) for path in ROOT.glob("tenants/**/*.py") for first, last in refusals(path)]
    kept = [
        f"{path}:{first}"
        for path, first, last in found
        if not any(begin <= last and end >= first for begin, end in edited.get(path.relative_to(ROOT), []))
    ]

    assert len(found) > 20
    assert kept == []


def refusals(path):
    """First and last line of each ``raise``, from the ``if`` that it stands under."""
    tree = ast.parse(path.read_text())
    around = [node for node in ast.walk(tree) if isinstance(node, ast.If | ast.FunctionDef)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            nearest = max((each for each in around if each.lineno <= node.lineno <= each.end_lineno), key=_line)
            if getattr(node.exc.func, "id", "") in REFUSALS:
                yield (nearest if isinstance(nearest, ast.If) else node).lineno, node.end_lineno


def _line(node):
    return node.lineno
