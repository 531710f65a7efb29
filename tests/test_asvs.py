"""docs/reference/asvs.md has each requirement of levels 1 and 2 once, with tests that are there, or with a reason."""

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/reference/asvs.md").read_text()
ROWS = re.findall(r"^\| (\d+\.\d+\.\d+) \| ([12]) \| ([^|]+) \| ([^|]+) \|$", PAGE, re.MULTILINE)
# Numbers and levels as OWASP published them on 30 May 2025 (70 of level 1, 183 of level 2).
REQUIREMENTS = [tuple(line.split()) for line in (ROOT / "tests/asvs_5.0.0.txt").read_text().splitlines()]
TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
WITHOUT_TESTS = ("does not apply", "not yet", "written down", "deployment")
KINDS = ("shown", "partly", *WITHOUT_TESTS)


def kind(evidence):
    return next((word for word in KINDS if evidence.startswith(f"{word}: ")), "shown")


def test_each_requirement_of_levels_1_and_2_stands_there_once_and_in_order():
    assert [(number, level) for number, level, _, _ in ROWS] == REQUIREMENTS
    assert Counter(level for _, level in REQUIREMENTS) == {"1": 70, "2": 183}
    assert len(set(REQUIREMENTS)) == len(REQUIREMENTS)


@pytest.mark.parametrize(("number", "level", "asks", "evidence"), ROWS, ids=[row[0] for row in ROWS])
def test_a_row_has_tests_or_a_reason(number, level, asks, evidence):
    tests, word = TEST.findall(evidence), kind(evidence)
    reason = TEST.sub("", evidence.removeprefix(f"{word}: ")).strip(" ;.")

    assert asks.strip()
    assert len(tests) == evidence.count("tests/")
    for file, test in tests:
        assert re.search(rf"^(async )?def {test}\(", (ROOT / file).read_text(), re.MULTILINE), f"{file}::{test}"
    if word == "shown":
        assert tests
        assert not reason, "A row that says anything says which word it is"
    else:
        assert len(reason) > 3
    if word == "written down":
        assert "](" in evidence or reason.startswith("here: ")


def test_the_numbers_at_the_top_are_those_of_the_rows():
    counted = Counter((kind(evidence), level) for _, level, _, evidence in ROWS)
    counted |= {("all", level): sum(1 for row in ROWS if row[1] == level) for level in "12"}
    said = re.findall(r"^\| ([a-z ]+) \| (\d+) \| (\d+) \| (\d+) \|$", PAGE, re.MULTILINE)

    assert [word for word, *_ in said] == ["shown", "partly", "written down", "deployment", "not yet",
                                           "does not apply", "all"]  # fmt: skip
    for word, first, second, together in said:
        numbers = counted[word, "1"], counted[word, "2"]
        assert (int(first), int(second), int(together)) == (*numbers, sum(numbers)), word
