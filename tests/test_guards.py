"""What ``make guards`` takes out is found, and its lists are in step with the source. The run is ``make guards``."""

import ast
import runpy
import weakref
from functools import cache
from pathlib import Path
from textwrap import dedent

import pytest

from tools.guards.catalogue import ROOT, catalogue, edited, edits, found, needless
from tools.guards.removals import removals, removals_in, tenant_errors
from tools.guards.swap import NotSwappable, swap

REFUSALS = (
    """
    def read(a, b):
        if a is None:
            raise Refused("nothing")
        return b
    """,
    {"if:1": "if False:"},
), (
    """
    def read(a, b):
        if a and not (b or a.c):
            raise Refused
    """,
    {
        "if:1": "if False:",
        "operand:1": "if not (b or a.c):",
        "operand:2": "if a:",
        "operand:3": "if a and not (a.c):",
        "operand:4": "if a and not (b):",
    },
), (
    """
    def read(a, b):
        if (a, 1) != (b, 2) or not 0 < a <= b:
            raise Refused
    """,
    {
        "if:1": "if False:",
        "operand:1": "if not 0 < a <= b:",
        "operand:2": "if (1, ) != (2, ) or not 0 < a <= b:",
        "operand:3": "if (a, ) != (b, ) or not 0 < a <= b:",
        "operand:4": "if (a, 1) != (b, 2):",
        "operand:5": "if (a, 1) != (b, 2) or not 0 < a:",
        "operand:6": "if (a, 1) != (b, 2) or not a <= b:",
    },
), (
    """
    def read(a):
        if a:
            return a
        raise Refused
    """,
    {"skip:1": "if True:", "exit:1": "if False:", "raise:1": "pass"},
), (
    """
    def read(a):
        if a:
            a.close()
        elif a is None:
            raise Refused
    """,
    {"if:1": "if True:", "if:2": "elif False:"},
), (
    """
    def read(a):
        try:
            if not a:
                raise ValueError
            return int(a)
        except (ValueError, TypeError) as error:
            raise Refused from error
    """,
    {
        "if:1": "if False:",
        "type:1": "except (TypeError,) as error:",
        "type:2": "except (ValueError,) as error:",
        "except:1": "raise",
    },
), (
    """
    def read(a):
        try:
            return a()
        except Refused:
            a.close()
            raise
    """,
    {"except:1": "pass"},
), (
    """
    def read(a):
        a.require_own_plane()
        refused = Refused("late")
        for each in a:
            if each:
                raise refused
    """,
    {"raise:1": "pass", "if:1": "if False:"},
), (
    """
    def read(a):
        if a:
            raise ValueError
        try:
            a()
        except ValueError:
            raise
    """,
    {},
)  # fmt: skip


@pytest.mark.parametrize(("source", "expected"), REFUSALS)
def test_every_refusal_and_every_check_that_it_hangs_on_is_taken_out(source, expected):
    source = dedent(source)
    found = {each.name: each for each in removals_in(Path("tenants/some.py"), source, {"Refused"})}

    assert {name.removeprefix("some.py:read:"): changed_line(source, each.source) for name, each in found.items()} == (
        expected
    )


def changed_line(before, after):
    (changed,) = (new for old, new in zip(before.splitlines(), after.splitlines(), strict=True) if old != new)
    return changed.strip()


def test_a_guard_of_two_lines_is_taken_out_whole():
    source = "def read(a, b):\n    if (\n        a\n        or b\n    ):\n        raise Refused\n"
    taken_out = list(removals_in(Path("tenants/some.py"), source, {"Refused"}))

    assert "if (\n        False\n    ):" in taken_out[0].source
    assert [ast.unparse(ast.parse(each.source).body[0].body[0].test) for each in taken_out] == ["False", "b", "a"]


def test_the_isolation_core_is_searched():
    names = [removal.name for removal in removals(ROOT)]
    searched = {name.partition(":")[0] for name in names}

    assert {"NoTenantError", "WrongTenantError", "ForgedJobError"} <= tenant_errors(ROOT)
    assert {"planes.py", "binding.py", "context.py", "connections.py", "routers.py", "querysets.py"} <= searched
    assert {"registry.py", "middleware.py", "jobs.py", "tokens.py", "secrets.py", "backends/guard.py"} <= searched
    assert len(names) == len(set(names)) > 200


def test_every_removal_leaves_source_that_can_be_read():
    for removal in catalogue():
        ast.parse(removal.source)
        assert removal.source != (ROOT / removal.path).read_text()


@pytest.mark.parametrize("name", edits())
def test_every_edit_matches_the_source_once(name):
    edited(ROOT, name, **edits()[name])


def test_every_test_that_holds_a_guard_exists():
    named = {tuple(test.partition("[")[0].split("::")) for test in found().values()}
    assert [path for path in named if any(part not in _source(path[0]) for part in path[1:])] == []


@cache
def _source(file):
    path = ROOT / file
    return path.read_text()


def test_what_no_test_can_notice_has_a_reason_and_no_test():
    names = {removal.name for removal in catalogue()}
    assert set(needless()) <= names
    assert not set(needless()) & set(found())
    assert all(len(reason) > 20 for reason in needless().values())


MODULE = """
def outer(limit):
    def inner(value):
        if value > limit:
            raise ValueError(value)
        return value
    return inner

LIMIT = 3
"""


def imported(tmp_path, source):
    path = tmp_path / "some.py"
    path.write_text(source)
    return str(path), runpy.run_path(str(path))


def test_a_guard_is_taken_out_of_functions_that_live_already(tmp_path):
    path, module = imported(tmp_path, MODULE)
    made_before = module["outer"](1)
    dead = weakref.proxy(set())  # as any library may leave one, and the collector lists it
    with pytest.raises(ValueError, match="2"):
        made_before(2)

    swap(path, MODULE, MODULE.replace("value > limit", "limit is None"))

    assert (made_before(2), module["outer"](1)(2)) == (2, 2)
    del dead


@pytest.mark.parametrize(("old", "new"), [("LIMIT = 3", "LIMIT = 4"), ("value > limit", "False")])
def test_what_runs_at_import_or_changes_a_closure_is_not_taken_out_of_a_living_process(tmp_path, old, new):
    path, module = imported(tmp_path, MODULE)
    kept = module["outer"](1)
    with pytest.raises(NotSwappable):
        swap(path, MODULE, MODULE.replace(old, new))
    with pytest.raises(ValueError, match="2"):
        kept(2)
