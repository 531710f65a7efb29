"""Every claim of docs/explanation/threat-model.md names tests that are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/explanation/threat-model.md").read_text()
CLAIMS = [
    line for line in PAGE.splitlines() if line.startswith("| ") and line.count("|") == 5 and "shown by" not in line
]
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`(?: \"([^\"]+)\")?")
WHO = [
    "stranger", "a member", "two tenants", "operator in the console", "manage.py", "Redis", "runtime account",
    "migration account", "administrator", "network", "view, job or command", "web process or a worker", "child",
    "own user", "control database", "backup", "runtime key", "fleet key",
]  # fmt: skip


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.split("|")[1].strip().replace("`", "")[:60])
def test_a_claim_names_tests_that_exist(claim):
    named = NAMED.findall(claim.split("|")[4])

    assert named
    assert len(named) == claim.count("tests/")


def test_every_test_that_is_named_exists_with_its_case():
    named = NAMED.findall(PAGE)

    assert len(named) == PAGE.count("tests/")
    for file, test, case in named:
        source = (ROOT / file).read_text()
        assert re.search(rf"^(async )?def {test}\(", source, re.MULTILINE), test
        assert not case or f'"{case}":' in source, case


@pytest.mark.parametrize("who", WHO)
def test_whoever_might_try_has_a_row(who):
    assert any(who in claim.split("|")[1] for claim in CLAIMS)
