"""Every test that docs/explanation/what-breaks.md names is there, and so is every case of it."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/explanation/what-breaks.md").read_text()
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| Django assumes")]
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`((?:,? \"[^\"]+\")*)")


def test_the_page_has_rows():
    assert len(ROWS) > 40


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip().replace("`", "")[:60])
def test_a_row_names_a_test_that_exists_with_its_cases(row):
    named = NAMED.findall(row.split("|")[4])

    assert named
    assert len(named) == row.count("tests/")
    for file, test, cases in named:
        source = (ROOT / file).read_text()
        assert re.search(rf"^ *(async )?def {test}\(", source, re.MULTILINE), test
        for case in re.findall(r"\"([^\"]+)\"", cases):
            assert f'"{case}":' in source, case
