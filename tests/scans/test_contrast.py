"""Both halves of the contrast, as the command prints them."""

import io
import re

import pytest
from django.core.management import call_command

from scans.contrast import QUEUES, Sent
from scans.contrast.ours import run_apart


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    return run_apart(tmp_path_factory.mktemp("bulkhead")).sweep


def test_our_dispatcher_sends_each_tenants_own_tasks_and_all_of_them(ours):
    held = {Sent(tenant, row.queue_id, row.task_id) for tenant, rows in QUEUES.items() for row in rows}

    assert set(ours.sent) == held and len(ours.sent) == len(held) and ours.wrong == ()
    assert Sent("acme", 41, 38) in ours.sent and Sent("globex", 41, 121) in ours.sent


def test_our_dispatcher_takes_one_task_of_each_tenant_in_turn(ours):
    assert [sent.tenant for sent in ours.sent][:6] == ["globex", "acme"] * 3


def test_each_of_our_statements_went_to_one_of_the_two_databases(ours):
    assert {statement.database for statement in ours.statements} == {"acme.sqlite3", "globex.sqlite3"}


@pytest.fixture(scope="module")
def chapters():
    """Of what the command prints, each with its introduction and its parts."""
    out = io.StringIO()
    call_command("contrast", stdout=out)
    return [chapter.strip().split("\n\n") for chapter in out.getvalue().split("\n\n\n")]


def verdicts(parts):
    return {part.splitlines()[0]: part.splitlines()[-1].strip() for part in parts}


def test_the_command_shows_both_halves_with_the_sql_of_each(chapters):
    _, *parts = chapters[0]

    assert verdicts(parts) == {
        "SQLAlchemy, one scoped session, kept alive: list": "1 of 7 sent for the wrong customer",
        "SQLAlchemy, one scoped session, kept alive: loop variable": "1 of 7 sent for the wrong customer",
        "SQLAlchemy, one scoped session, kept alive: nothing": "0 of 7 sent for the wrong customer",
        "Bulkhead: the function that `manage.py dispatch` runs": "0 of 7 sent for the wrong customer",
    }
    assert "".join(parts).count("sent for acme    row 41 -> task 121   WRONG: acme's row 41 says 38") == 2
    assert all(re.search(r"to acme.sqlite3 +SELECT .* FROM", part) for part in parts)


def test_the_command_shows_who_loses_an_update_and_who_leaves_half(chapters):
    _, (_, *edits), (_, *commits) = chapters
    lost = {title: verdict.partition(" changes lost")[0] for title, verdict in verdicts(edits).items()}

    assert [title for title, number in lost.items() if number == "1 of 2"] == [
        "SQLAlchemy, merged into a second session",
        "Django, save()",
    ]
    assert len(lost) == 8 and set(lost.values()) == {"0 of 2", "1 of 2"}
    assert "".join(edits).count("    request 1: written   LOST: name\n") == 2
    assert verdicts(commits) == {
        "SQLAlchemy, save(row, commit=...)": "2 of 4 left half",
        "Django, autocommit": "1 of 4 left half",
        "Django, atomic()": "0 of 4 left half",
        "Django, commit() inside atomic()": "0 of 4 left half",
        "Bulkhead, a POST request": "0 of 5 left half",
    }
