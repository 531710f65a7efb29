"""The lost update and the four combinations of commits: what each way of writing loses, and what it is told."""

import pytest

from scans.contrast.bulkhead_commits import REFUSED
from scans.contrast.commits import COMBINATIONS, ROWS, Combination, CommitOutcome
from scans.contrast.edits import BEFORE, CHANGES, WRITTEN, EditOutcome
from scans.contrast.ours import from_json, run_apart, to_json
from scans.contrast.sqlalchemy_commits import run_commits
from scans.contrast.sqlalchemy_edits import WAYS, Target, VersionedTarget, merge_into_another_session, run_edits

FIRST, SECOND = BEFORE | CHANGES[0], BEFORE | CHANGES[1]
BOTH = FIRST | CHANGES[1]
OF_SQLALCHEMY = {
    "SQLAlchemy, merged into a second session": ((WRITTEN, WRITTEN), SECOND, ("name",)),
    "SQLAlchemy, each in the session that it was read in": ((WRITTEN, WRITTEN), BOTH, ()),
    "SQLAlchemy, merged into a second session, with a version_id_col": ((WRITTEN, "StaleDataError"), FIRST, ()),
}
OF_OURS = {
    "Django, save()": ((WRITTEN, WRITTEN), SECOND, ("name",)),
    "Django, save(update_fields=[...])": ((WRITTEN, WRITTEN), BOTH, ()),
    "Bulkhead, save() of a target": (("UnnamedColumnsError",) * 2, BEFORE, ()),
    "Bulkhead, two PATCH requests": ((WRITTEN, "409 stale"), FIRST, ()),
    "Bulkhead, two PATCH requests, the refused one once more": ((WRITTEN, WRITTEN), BOTH, ()),
}
SWITCHES = [combination.label for combination in COMBINATIONS]
KEPT = {
    "SQLAlchemy, save(row, commit=...)": [ROWS, (), ROWS[:1], ROWS[:1]],
    "Django, autocommit": [ROWS, ROWS, ROWS, ROWS[:1]],
    "Django, atomic()": [ROWS, ROWS, ROWS, ()],
    "Django, commit() inside atomic()": [(), ROWS, (), ()],
    "Bulkhead, a POST request": [ROWS, ROWS, ROWS, (), ()],
}


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    return run_apart(tmp_path_factory.mktemp("bulkhead"))


@pytest.mark.parametrize("way", OF_SQLALCHEMY)
def test_sqlalchemy_loses_a_change_when_rows_are_merged_without_a_version(tmp_path, way):
    outcome = run_edits(way, tmp_path)

    assert (outcome.answers, outcome.row, outcome.lost) == OF_SQLALCHEMY[way]


def test_the_second_merge_writes_the_first_ones_column_back(tmp_path):
    assert set(WAYS) == set(OF_SQLALCHEMY)
    assert WAYS["SQLAlchemy, merged into a second session"] == (merge_into_another_session, Target)
    updates = [each.sql for each in run_edits("SQLAlchemy, merged into a second session", tmp_path).statements]

    assert updates == [
        "UPDATE target SET name='Web shop' WHERE target.id = 1",
        "UPDATE target SET name='Shop', host='www.shop.example' WHERE target.id = 1",
    ]


def test_the_version_is_all_that_differs_between_the_loss_and_the_error():
    columns = {column.name for column in VersionedTarget.__table__.columns}

    assert columns == {column.name for column in Target.__table__.columns} | {"version"}


def test_django_loses_it_without_any_merge_and_this_service_says_so_or_keeps_both(ours):
    assert {each.way: (each.answers, each.row, each.lost) for each in ours.edits} == OF_OURS


def test_both_halves_of_the_lost_update_were_sent_to_a_database(ours):
    sent = {each.way: [statement.sql for statement in each.statements] for each in ours.edits}

    assert {statement.database for each in ours.edits for statement in each.statements} == {"acme.sqlite3"}
    assert [len(statements) for statements in sent.values()] == [2, 2, 0, 1, 2]
    whole, named, _, asked, again = sent.values()
    assert all('"object_repr" = ' in sql and '"change_message" = ' in sql for sql in whole)
    assert ["object_repr" in sql for sql in named] == [True, False]
    assert '"version" = 2 WHERE ("scans_target"."version" = 1 AND' in asked[0]
    assert '"version" = 3 WHERE ("scans_target"."version" = 2 AND' in again[1] and '"name"' not in again[1]


@pytest.mark.parametrize("number", range(len(COMBINATIONS)), ids=SWITCHES)
def test_what_sqlalchemy_keeps_follows_from_who_commits(tmp_path, number):
    outcome = run_commits(COMBINATIONS[number], tmp_path)

    assert outcome.kept == KEPT[outcome.way][number]


def test_without_a_failure_between_two_commits_keep_both(tmp_path):
    assert run_commits(Combination("twice", (True, True)), tmp_path).kept == ROWS


def test_django_keeps_each_save_or_all_and_a_request_here_all_or_nothing(ours):
    kept = {}
    for outcome in ours.commits:
        kept.setdefault(outcome.way, []).append(outcome.kept)

    assert kept == {way: each for way, each in KEPT.items() if not way.startswith("SQLAlchemy")}
    labels = [each.combination for each in ours.commits if each.way == "Bulkhead, a POST request"]
    assert labels == [*SWITCHES, REFUSED.label]


def test_a_commit_inside_atomic_is_refused(ours):
    refused = [each.combination for each in ours.commits if each.error == "TransactionManagementError"]

    assert refused == ["commit=False, commit=True", "commit=True, commit=False"]


def test_what_was_told_to_be_written_and_is_not_there_is_lost():
    def lost(answers, **row):
        return EditOutcome("", (), answers, BEFORE | row).lost

    assert lost((WRITTEN, WRITTEN)) == ("name", "host")
    assert lost((WRITTEN, "refused")) == ("name",)
    assert lost(("refused", "refused")) == ()
    assert lost((WRITTEN, WRITTEN), **BOTH) == ()


def test_one_row_without_the_other_is_half():
    assert [CommitOutcome("", "", kept).is_half for kept in (ROWS, (), ROWS[:1], ROWS[1:])] == [0, 0, 1, 1]


def test_the_other_process_hands_over_what_it_saw(ours):
    assert from_json(to_json(ours)) == ours
