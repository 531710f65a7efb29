"""The documents name what there is, and what they name is there."""

import re
from pathlib import Path

import pytest
from django.core.management import get_commands

from tenants import exceptions

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def text(name):
    return (ROOT / name).read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if "://" not in link:
            assert (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_are_named_exist(page):
    for name in re.findall(r"`((?:config|tenants|scans|tests|tools|benchmarks|docs)/[\w/.-]+\.\w+)`", page.read_text()):
        assert (ROOT / name).exists(), name


def test_every_command_is_documented():
    page = text("docs/reference/commands.md")

    for name, app in get_commands().items():
        if app in ("tenants", "scans"):
            assert re.search(rf"`{name}\b", page), name


def test_every_variable_is_documented_and_no_other():
    read = set(re.findall(r'"((?:BULKHEAD_|DATABASE_|REDIS_|SECRET_)\w+)"', text("config/env.py")))
    documented = set(re.findall(r"^\| `(\w+)`", text("docs/reference/settings.md"), re.MULTILINE))

    assert read == documented


def test_every_error_is_documented_with_its_code():
    page = text("docs/reference/errors.md")

    for name, error in vars(exceptions).items():
        if (
            isinstance(error, type)
            and issubclass(error, exceptions.TenantError)
            and error is not exceptions.TenantError
        ):
            assert f"| `{name}` | `{error.code}` |" in page, name


def test_every_make_target_in_the_readme_exists():
    targets = set(re.findall(r"^([a-z-]+):", text("Makefile"), re.MULTILINE))

    assert set(re.findall(r"\bmake ([a-z-]+)", text("README.md"))) <= targets
