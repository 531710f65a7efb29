"""The judgement of tests/routes/timing.py, on times that are made up: what it finds does not depend on the machine."""

import random
from contextlib import nullcontext
from functools import partial

import pytest

from tests.routes.timing import DELAY, Times, examine, interval, judge, main

USUAL = 2_000_000


def times(seed, foreign=1.0, delayed=1 + DELAY, rounds=200, noise=0.03):
    """With a tail, as times of requests have it, and a machine that gets slower: pairs share what they met."""
    chance, found = random.Random(seed), {"foreign": [], "missing": [], "delayed": []}
    for number in range(rounds):
        drift = USUAL * (1 + number / rounds)
        for name, factor in {"foreign": foreign, "missing": 1.0, "delayed": delayed}.items():
            found[name].append(int(drift + USUAL * (factor - 1) + USUAL * chance.expovariate(1 / noise)))
    return Times("GET /made/up/", **found)


RATE = 0.01 / 60


def test_times_that_are_alike_are_said_to_be_and_the_planted_delay_is_found():
    for seed in range(30):
        assert judge(times(seed), RATE)[1:] == ("", True)


@pytest.mark.parametrize("factor", [0.95, 1.05])
def test_times_that_differ_by_five_per_cent_are_found(factor):
    assert "told from a missing one" in judge(times(1, foreign=factor), RATE)[1]


def test_a_measurement_too_coarse_for_the_planted_delay_fails():
    assert "was not found" in judge(times(4, noise=1.0), RATE)[1]


def test_what_was_too_coarse_is_measured_again_for_longer_and_fails_in_the_end():
    asked = []

    def take(rounds, noise):
        asked.append(rounds)
        return times(4, rounds=rounds, noise=noise[rounds])

    assert examine(partial(take, noise={40: 1.0, 120: 0.02}), 40, RATE)[1] == ""
    assert "was not found" in examine(partial(take, noise={40: 1.0, 120: 1.0, 360: 1.0}), 40, RATE)[1]
    assert asked == [40, 120, 40, 120, 360]


def test_too_few_rounds_are_refused():
    with pytest.raises(ValueError, match="too few"):
        interval([1, 2, 3], 0.01)


def test_the_interval_misses_as_rarely_as_it_says():
    chance, missed = random.Random(5), 0
    for _ in range(1000):
        _, low, high = interval([chance.gauss(0, 1) for _ in range(100)], 0.05)
        missed += not low <= 0 <= high

    assert 15 <= missed <= 60


def test_the_command_fails_when_something_is_found(monkeypatch, capsys):
    from tests.routes import measuring

    monkeypatch.setattr(measuring, "open_installation", lambda engine, home: nullcontext())
    monkeypatch.setattr(measuring, "all_requests", lambda: ["one"])
    for factor, code in ((1.0, 0), (1.05, 1)):
        monkeypatch.setattr(
            measuring, "measure", lambda world, request, rounds, order, clock, factor=factor: times(7, foreign=factor)
        )
        assert main([]) == code
    assert "1 requests, 1 faults" in capsys.readouterr().out
