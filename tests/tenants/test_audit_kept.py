"""What was recorded stays as it was: who may not change it, and how a change by whoever can is found."""

import json
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import Error as DatabaseError
from django.db import connection, transaction
from django.utils import timezone

from scans.models import Target
from tenants.audit.models import AuditEvent, AuditHead, hash_after
from tenants.audit.trail import record
from tenants.audit.triggers import TABLE, create_triggers, drop_triggers
from tenants.context import control_plane, fleet_context, tenant_context
from tenants.models import AuditAnchor
from tests.scans.rows import make_target


@pytest.fixture
def history(alice, alice_api):
    """Twelve events at least in acme's audit; the newest one's number."""
    with tenant_context("acme"):
        target = make_target(alice)
        for number in range(10):
            Target.objects.filter(pk=target.pk).update(name=f"name {number}")
        return AuditHead.objects.get().number


def run(command, *arguments):
    """Its output, and its failure or an empty text."""
    out = StringIO()
    try:
        call_command(command, *arguments, stdout=out, stderr=StringIO())
    except CommandError as error:
        return out.getvalue(), str(error)
    return out.getvalue(), ""


def sql(statement, *values):
    with connection.cursor() as cursor:
        cursor.execute(statement, values)


def tamper(*statements):
    """As somebody does who has the migration account, and takes the triggers away for a moment."""
    with fleet_context("acme", "migration"):
        drop_triggers()
        for statement in statements:
            if callable(statement):
                statement()
            else:
                sql(statement)
        create_triggers()


STATEMENTS = [
    f"UPDATE {TABLE} SET actor = 'nobody'",
    f"UPDATE {TABLE} SET hash = hash",
    f"DELETE FROM {TABLE} WHERE number = 1",
    f"DELETE FROM {TABLE}",
    f"REPLACE INTO {TABLE} SELECT * FROM {TABLE}",
    f"TRUNCATE {TABLE}",
    f"DROP TABLE {TABLE}",
    "DROP TRIGGER audit_no_update",
    "DROP TRIGGER audit_no_delete",
    f"ALTER TABLE {TABLE} DROP COLUMN actor",
]


@pytest.mark.parametrize("statement", STATEMENTS)
def test_the_database_refuses_to_change_an_event_whatever_sql_is_sent(history, statement):
    with tenant_context("acme"):
        before = [event.facts() for event in AuditEvent.objects.all()]
        with pytest.raises(DatabaseError), transaction.atomic():
            sql(statement)

        assert [event.facts() for event in AuditEvent.objects.all()] == before
    assert run("verify_audit", "acme")[1] == ""


@pytest.mark.parametrize("statement", STATEMENTS[:4])
def test_the_control_database_refuses_it_too(acme, statement):
    with control_plane(), pytest.raises(DatabaseError), transaction.atomic():
        sql(statement)


def test_an_untouched_audit_is_as_recorded(history):
    out, failure = run("verify_audit", "acme", "--json")

    (row,) = json.loads(out)
    assert failure == ""
    assert (row["audit"], row["number"], row["faults"]) == ("acme", history, [])
    assert row["events"] == history
    with tenant_context("acme"):
        assert row["hash"] == AuditHead.objects.get().hash


def test_all_audits_are_verified_when_none_is_named(acme, globex):
    out, failure = run("verify_audit")

    assert failure == ""
    assert [line.split()[0] for line in out.splitlines()[1:]] == ["(control)", "acme", "globex"]


EDITS = {
    "number": "99",
    "at": "'2020-01-01 00:00:00'",
    "action": "'created'",
    "resource": "'x'",
    "object_id": "'x'",
    "object_name": "'x'",
    "actor_id": "'x'",
    "actor": "'mallory'",
    "via": "'x'",
    "address": "'x'",
    "request_id": "'x'",
    "changes": """'{"name": ["a", "b"]}'""",
    "hash": f"'{'0' * 64}'",
}


@pytest.mark.parametrize("column", EDITS)
def test_an_edit_of_any_column_is_found(history, column):
    tamper(f"UPDATE {TABLE} SET {column} = {EDITS[column]} WHERE number = 7")

    assert "acme" in run("verify_audit", "acme")[1]


def test_each_column_of_an_event_is_vouched_for():
    assert set(EDITS) == {field.name for field in AuditEvent._meta.concrete_fields} - {"id"}


@pytest.mark.parametrize("which", ["number = 1", "number = 6", "number IN (6, 7)", "number = {newest}", "number > 3"])
def test_a_deletion_is_found(history, which):
    tamper(f"DELETE FROM {TABLE} WHERE {which.format(newest=history)}")

    out, failure = run("verify_audit", "acme")
    assert "missing" in out
    assert "acme" in failure


def test_a_reordering_is_found(history):
    swap = [(6, 1006), (7, 6), (1006, 7)]
    tamper(*(f"UPDATE {TABLE} SET number = {new} WHERE number = {old}" for old, new in swap))

    assert "event 6 is not what was recorded" in run("verify_audit", "acme")[0]


def test_a_forged_event_after_the_newest_is_found(history):
    columns = [field.column for field in AuditEvent._meta.concrete_fields if field.name not in ("id", "number")]
    kept = ", ".join(columns)
    key = "'01890000000070008000000000000000'"
    tamper(f"INSERT INTO {TABLE} (id, number, {kept}) SELECT {key}, 999, {kept} FROM {TABLE} WHERE number = 3")

    assert "event 999 was never recorded" in run("verify_audit", "acme")[0]


def test_a_missing_head_is_found(history):
    tamper("DELETE FROM audit_audithead")

    assert "the row that names the newest event is missing" in run("verify_audit", "acme")[0]


def rewrite(first, actor, up_to=None):
    """Edits the event ``first`` and makes every later hash fit, as somebody does who knows how they are made."""
    previous = AuditEvent.objects.get(number=first - 1).hash
    for event in AuditEvent.objects.filter(number__gte=first).order_by("number"):
        if event.number == first:
            event.actor = actor
        if up_to is not None and event.number > up_to:
            sql(f"DELETE FROM {TABLE} WHERE number = %s", event.number)
            continue
        previous = hash_after(previous, event.facts())
        sql(f"UPDATE {TABLE} SET actor = %s, hash = %s WHERE number = %s", event.actor, previous, event.number)
        number = event.number
    sql("UPDATE audit_audithead SET number = %s, hash = %s", number, previous)


def test_a_history_that_was_rewritten_to_its_end_is_found_once_it_had_been_verified(history):
    assert run("verify_audit", "acme")[1] == ""
    tamper(lambda: rewrite(6, "mallory"))

    assert f"event {history} was verified with another hash: history was rewritten" in run("verify_audit", "acme")[0]


def test_a_history_that_was_cut_short_is_found_once_it_had_been_verified(history):
    assert run("verify_audit", "acme")[1] == ""
    tamper(lambda: rewrite(6, "alice", up_to=history - 2))

    assert f"the events up to {history} were verified, and end at {history - 2}" in run("verify_audit", "acme")[0]


def test_what_was_not_in_order_is_not_remembered_as_verified(history):
    tamper(f"DELETE FROM {TABLE} WHERE number = 6")
    run("verify_audit", "acme")

    with control_plane():
        assert not AuditAnchor.objects.filter(tenant__slug="acme").exists()


@pytest.mark.parametrize("trigger", ["audit_no_update", "audit_no_delete"])
def test_a_trigger_that_was_taken_away_is_found(history, trigger):
    with fleet_context("acme", "migration"):
        sql(f"DROP TRIGGER {trigger}")
    try:
        assert f"trigger {trigger} is missing" in run("verify_audit", "acme")[0]
    finally:
        with fleet_context("acme", "migration"):
            drop_triggers()
            create_triggers()


def test_a_trigger_that_does_something_else_is_found(history):
    with fleet_context("acme", "migration"):
        sql("DROP TRIGGER audit_no_delete")
        body = "BEGIN SELECT 1; END" if connection.vendor == "sqlite" else "SET @harmless = 1"
        sql(f"CREATE TRIGGER audit_no_delete BEFORE DELETE ON {TABLE} FOR EACH ROW {body}")
    try:
        assert "trigger audit_no_delete is missing or changed" in run("verify_audit", "acme")[0]
    finally:
        with fleet_context("acme", "migration"):
            drop_triggers()
            create_triggers()


def test_one_tenants_fault_is_not_anothers(history, globex):
    tamper(f"DELETE FROM {TABLE} WHERE number = 6")

    out, failure = run("verify_audit")
    assert failure == "Not as recorded: the audit of acme."
    assert "globex" in out


# export


def test_an_export_can_be_verified_without_the_database(history, tmp_path):
    lines = run("export_audit", "acme")[0]
    file = tmp_path / "audit.jsonl"
    file.write_text(lines)

    assert len(lines.splitlines()) == history
    assert run("verify_audit", "--export", str(file))[1] == ""
    for change in (lambda kept: kept.pop(5), lambda kept: kept.insert(5, kept.pop(6)), edit_of_one):
        kept = lines.splitlines()
        change(kept)
        file.write_text("\n".join(kept))
        assert run("verify_audit", "--export", str(file))[1] != ""


def edit_of_one(lines):
    lines[5] = json.dumps(json.loads(lines[5]) | {"actor": "mallory"})


def test_an_export_goes_on_where_the_last_one_ended(history):
    numbers = [json.loads(line)["number"] for line in run("export_audit", "acme", "--after", "9")[0].splitlines()]

    assert numbers == list(range(10, history + 1))


@pytest.mark.parametrize("content", ["", "nonsense", "[1]", '{"number": 1}'])
def test_a_file_that_is_no_export_is_refused_in_one_sentence(installation, tmp_path, content):
    file = tmp_path / "audit.jsonl"
    file.write_text(content)

    out, failure = run("verify_audit", "--export", str(file))
    assert failure.startswith(f"{file} is no export of an audit") or (content == "" and " 0 " in out)


@pytest.mark.parametrize("command", ["export_audit", "prune_audit"])
@pytest.mark.parametrize("which", [[], ["acme", "--control"]])
def test_a_command_wants_one_audit(acme, command, which):
    days = ["--days", "100"] if command == "prune_audit" else []

    assert run(command, *which, *days)[1] == "Name a tenant, or give --control."


def test_the_operators_audit_is_exported_too(acme):
    first = json.loads(run("export_audit", "--control")[0].splitlines()[0])

    assert first["number"] == 1


def test_the_api_lists_and_exports_it(history, alice_api):
    page = alice_api.get("/api/v1/audit-events/", {"resource": "scans.target", "action": "changed", "limit": 3}).json()
    export = alice_api.get("/api/v1/audit-events/export.jsonl")
    lines = b"".join(export.streaming_content).decode().splitlines()

    assert page["count"] == 10
    assert [event["number"] for event in page["results"]] == [history, history - 1, history - 2]
    assert page["results"][0]["changes"] == {"name": ["name 8", "name 9"]}
    assert [json.loads(line)["number"] for line in lines] == list(range(1, history + 1))


@pytest.mark.parametrize("query", [{"since": "yesterday"}, {"action": "x" * 41}, {"before": ""}])
def test_a_query_that_cannot_be_is_refused(acme, alice_api, query):
    assert alice_api.get("/api/v1/audit-events/", query).status_code == 400


def test_the_api_finds_by_time(history, alice_api):
    later = (timezone.now() + timedelta(hours=1)).isoformat()

    assert alice_api.get("/api/v1/audit-events/", {"since": later}).json()["count"] == 0
    assert alice_api.get("/api/v1/audit-events/", {"before": later}).json()["count"] == history


# retention


@pytest.fixture
def old(history):
    """All events so far are of two hundred days ago, with hashes that fit."""

    def age():
        previous = ""
        for event in AuditEvent.objects.order_by("number"):
            event.at -= timedelta(days=200)
            previous = hash_after(previous, event.facts())
            sql(f"UPDATE {TABLE} SET at = %s, hash = %s WHERE number = %s", event.at, previous, event.number)
        sql("UPDATE audit_audithead SET hash = %s", previous)

    tamper(age)
    return history


def test_what_is_old_is_forgotten_and_the_chain_goes_on(old):
    with tenant_context("acme"):
        record("tested")
    out, failure = run("prune_audit", "acme", "--days", "100")

    assert failure == ""
    assert out == f"Forgotten: events up to {old}.\n"
    with tenant_context("acme"):
        kept = list(AuditEvent.objects.order_by("number"))
        assert [event.action for event in kept] == ["tested", "pruned"]
        assert kept[1].changes["up_to"] == old
    assert run("verify_audit", "acme")[1] == ""
    with tenant_context("acme"), pytest.raises(DatabaseError), transaction.atomic():
        sql(f"DELETE FROM {TABLE}")


def test_all_may_be_forgotten(old):
    assert run("prune_audit", "acme", "--days", "100")[1] == ""

    assert run("verify_audit", "acme")[1] == ""


def test_what_is_not_old_is_kept(history):
    assert run("prune_audit", "acme", "--days", "90")[0] == "Nothing is that old.\n"

    with tenant_context("acme"):
        assert AuditEvent.objects.count() == history


def test_nothing_is_forgotten_of_an_audit_that_is_not_as_recorded(old):
    tamper(f"UPDATE {TABLE} SET actor = 'mallory' WHERE number = 3")
    assert "acme" in run("prune_audit", "acme", "--days", "100")[1]

    with tenant_context("acme"):
        assert AuditEvent.objects.count() == old


def test_events_that_were_removed_as_if_forgotten_are_found(history):
    run("verify_audit", "acme")
    with tenant_context("acme"):
        Target.objects.update(name="later")
        newest = AuditEvent.objects.first()
    tamper(
        f"DELETE FROM {TABLE} WHERE number <= {newest.number}",
        lambda: sql("UPDATE audit_audithead SET kept_after = %s, kept_after_hash = hash", newest.number),
    )

    assert f"events up to {newest.number} were removed" in run("verify_audit", "acme")[0]


def test_too_short_a_time_is_refused(history):
    assert run("prune_audit", "acme", "--days", "89")[1] == "At least 90 days are kept."
