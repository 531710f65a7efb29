"""tests/routes/log_in_timing.py: what it asks is answered alike, and its judgement, on times that are made up."""

import random
import time

import pytest
from django.db.backends.utils import CursorWrapper

from tests.routes import log_in_timing
from tests.routes.log_in_timing import DELAYED, FAILED, GROUPS, USUAL, as_times, examine, main
from tests.routes.test_timing import RATE, times


@pytest.mark.parametrize("name", GROUPS)
def test_what_is_measured_is_refused_and_answered_alike(world, name):
    from tests.routes.measuring_log_ins import Measuring

    measuring, (door, attempts, status) = Measuring(world), GROUPS[name]

    taken = measuring.take(door, attempts, status, 1, random.Random(1), time.perf_counter_ns, 1)

    assert taken.keys() == {*attempts, DELAYED}


@pytest.mark.parametrize("name", [name for name, (_, attempts, _) in GROUPS.items() if attempts is FAILED])
def test_each_reason_to_fail_takes_as_many_statements(world, name, monkeypatch):
    from tests.routes.measuring_log_ins import Measuring, forget_tries

    measuring, (door, attempts, _), asked = Measuring(world), GROUPS[name], []
    execute = CursorWrapper._execute_with_wrappers

    def count(self, sql, *rest, **options):
        asked.append(sql)
        return execute(self, sql, *rest, **options)

    monkeypatch.setattr(CursorWrapper, "_execute_with_wrappers", count)

    def statements(attempt) -> int:
        forget_tries()
        asked.clear()
        measuring.ask(door, attempt)
        return len(asked)

    # The fewest: now and then one asks for what it has known for a second.
    counted = {each: min(statements(attempt) for _ in range(4)) for each, attempt in attempts.items()}

    assert len(set(counted.values())) == 1, counted


def made_up(slower: str, factor: float = 1.05) -> dict[str, list[int]]:
    alike = times(3)
    taken = {USUAL: alike.missing, DELAYED: alike.delayed}
    others = [name for name in FAILED if name != USUAL]
    return taken | {name: times(3, foreign=factor if name == slower else 1.0).foreign for name in others}


def test_refusals_that_take_as_long_are_no_fault():
    lines, faults = examine(lambda rounds: as_times("a door", made_up("")), 40, RATE)

    assert (len(lines), faults) == (len(FAILED) - 1, [])


@pytest.mark.parametrize("slower", [name for name in FAILED if name != USUAL])
def test_one_that_takes_five_per_cent_longer_is_found_and_named(slower):
    _, faults = examine(lambda rounds: as_times("a door", made_up(slower)), 40, RATE)

    assert [fault.partition(" by its time")[0] for fault in faults] == [
        f"a door: {slower}: {slower} is told from a wrong password"
    ]


@pytest.mark.parametrize(("slower", "code"), [("", 0), ("an unknown user", 1)])
def test_the_command_fails_when_something_is_found(monkeypatch, capsys, slower, code):
    from contextlib import nullcontext

    from tests.routes import measuring, measuring_log_ins

    class MadeUp:
        def __init__(self, world):
            pass

        def take(self, door, attempts, *rest):
            taken = made_up(slower)
            first, *others = attempts
            return {first: taken[USUAL]} | {name: taken[name] for name in (*others, DELAYED)}

    monkeypatch.setattr(measuring, "open_installation", lambda engine, home: nullcontext())
    monkeypatch.setattr(measuring_log_ins, "Measuring", MadeUp)

    assert main(["--hashes", "deployed"]) == code  # the light ones would stay in this process
    assert log_in_timing.GROUPS.keys() == GROUPS.keys()
    assert f"5 doors, {5 if code else 0} faults" in capsys.readouterr().out
