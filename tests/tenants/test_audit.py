"""What is recorded: every change of an audited row, whichever way it takes, and who did it from where."""

import threading
from datetime import timedelta
from io import StringIO

import pytest
from django.contrib.auth import get_user_model
from django.core import serializers
from django.core.management import call_command
from django.db import transaction
from django.db.models import F, Value
from django.db.models.functions import Concat, Now
from django.test import Client
from django.utils import timezone

from scans.models import Authorization, Scan, ScanProfile, Target
from tenants.accounts.api_keys import make_key
from tenants.accounts.models import ApiKey, is_last_owner
from tenants.audit import trail
from tenants.audit.models import AuditEvent, AuditHead
from tenants.audit.provenance import acting
from tenants.audit.rules import AUDITED
from tenants.audit.trail import record
from tenants.audit.verification import verify
from tenants.connections import close_tenant_connections
from tenants.context import control_plane, fleet_context, tenant_context
from tenants.exceptions import UnrecordedWriteError
from tenants.services import suspend_tenant
from tests.installation import PASSWORD
from tests.scans.rows import authorize, make_scan, make_target
from tests.tenants.browsing import log_in


def events(since=0):
    return list(AuditEvent.objects.filter(number__gt=since).order_by("number"))


@pytest.fixture
def newest():
    def number():
        return AuditHead.objects.get().number

    return number


@pytest.fixture
def target(alice):
    with tenant_context("acme"):
        return make_target(alice)


WAYS = {
    "save": lambda row: _saved(row, "name", "Shop"),
    "update": lambda row: Target.objects.filter(pk=row.pk).update(name="Shop"),
    "update of an expression": lambda row: Target.objects.update(name=Concat(Value("Sh"), Value("op"))),
    "update of what time selects": lambda row: Target.objects.filter(created_at__lt=Now()).update(name="Shop"),
    "bulk_update": lambda row: Target.objects.bulk_update([_set(row, "name", "Shop")], ["name"]),
    "update_or_create": lambda row: Target.objects.update_or_create(pk=row.pk, defaults={"name": "Shop"}),
    "update by Django's plain manager": lambda row: Target._base_manager.update(name="Shop"),
    "update of a relation's rows": lambda row: (
        get_user_model().objects.get(username="alice")
        and Target.objects.filter(created_by__username="alice").update(name="Shop")
    ),
    "loaddata": lambda row: next(
        serializers.deserialize("python", serializers.serialize("python", [_set(row, "name", "Shop")]))
    ).save(),
}


def _set(row, name, value):
    setattr(row, name, value)
    return row


def _saved(row, name, value):
    _set(row, name, value).save(update_fields=[name])


@pytest.mark.parametrize("way", WAYS)
def test_a_change_is_recorded_with_old_and_new_value_whichever_way_it_takes(target, newest, way):
    with tenant_context("acme"):
        before = newest()
        WAYS[way](target)
        (event,) = events(before)

    assert (event.action, event.resource, event.object_id) == ("changed", "scans.target", str(target.pk))
    assert event.changes == {"name": ["Web shop", "Shop"]}
    assert event.object_name == "Shop"


MAKING = {
    "save": lambda fields: Target(**fields).save(),
    "create": lambda fields: Target.objects.create(**fields),
    "bulk_create": lambda fields: Target.objects.bulk_create([Target(**fields)]),
    "bulk_create that may find a row": lambda fields: Target.objects.bulk_create(
        [Target(**fields)], ignore_conflicts=True
    ),
    "get_or_create": lambda fields: Target.objects.get_or_create(host="new.example", defaults=fields),
}


@pytest.mark.parametrize("way", MAKING)
def test_a_new_row_is_recorded_with_what_it_holds(alice, newest, way):
    with tenant_context("acme"):
        before = newest()
        MAKING[way]({"name": "New", "host": "new.example", "ports": [80], "created_by": alice})
        (event,) = events(before)
        row = Target.objects.get()

    assert (event.action, event.object_id, event.object_name) == ("created", str(row.pk), "New")
    assert event.changes.pop("created_at")[0] is None
    assert event.changes == {
        "name": [None, "New"],
        "host": [None, "new.example"],
        "ports": [None, [80]],
        "is_active": [None, True],
        "created_by": [None, str(alice.pk)],
    }


UNRECORDED = {
    "_update": lambda row: Target.objects.all()._update([(Target._meta.get_field("name"), None, "Shop")]),
    "bulk_create that may change a row": lambda row: Target.objects.bulk_create(
        [row], update_conflicts=True, update_fields=["name"], unique_fields=["id"]
    ),
    "bulk_create that may, by position": lambda row: Target.objects.bulk_create(
        [row], None, False, True, ["name"], ["id"]
    ),
    "save_base that skips ours": lambda row: Target._base_manager._insert(
        [Target(name="x", host="x.example", ports=[1], created_by=row.created_by)], Target._meta.concrete_fields
    ),
}


@pytest.mark.parametrize("way", UNRECORDED)
def test_what_cannot_be_recorded_is_refused_with_nothing_written(target, newest, way):
    with tenant_context("acme"):
        before, rows = newest(), list(Target.objects.values())
        with pytest.raises(UnrecordedWriteError, match=r"scans\.Target"):
            UNRECORDED[way](target)

        assert list(Target.objects.values()) == rows
        assert events(before) == []


DELETES = {
    "a row": lambda row: row.delete(),
    "a queryset": lambda row: Target.objects.all().delete(),
    "_raw_delete": lambda row: (
        Authorization.objects.all().delete(),
        Target.objects.all()._raw_delete(Target.objects.db),
    ),
}


@pytest.mark.parametrize("way", DELETES)
def test_a_deletion_is_recorded_with_what_was_there_and_so_is_what_it_takes_along(alice, target, newest, way):
    with tenant_context("acme"):
        authorization = authorize(target, alice)
        before, key = newest(), str(target.pk)
        DELETES[way](target)
        proof, row = events(before)

    assert [event.action for event in (proof, row)] == ["deleted", "deleted"]
    assert (proof.resource, proof.object_id) == ("scans.authorization", str(authorization.pk))
    assert (row.resource, row.object_id, row.object_name) == ("scans.target", key, "Web shop")
    assert row.changes["host"] == ["shop.example.com", None]
    assert row.changes["ports"] == [[80, 443], None]


def test_a_deletion_of_more_rows_than_are_recorded_at_once_is_refused(alice, monkeypatch):
    monkeypatch.setattr(trail, "AT_ONCE", 10)
    with tenant_context("acme"):
        Target.objects.bulk_create(
            Target(name="many", host="x.example", ports=[1], created_by=alice) for _ in range(11)
        )
        with pytest.raises(UnrecordedWriteError, match="more than 10 rows"):
            Target.objects.all()._raw_delete(Target.objects.db)

        assert Target.objects.count() == 11


def test_an_update_of_more_rows_than_are_recorded_at_once_is_refused(alice, newest, monkeypatch):
    monkeypatch.setattr(trail, "AT_ONCE", 10)
    with tenant_context("acme"):
        Target.objects.bulk_create(
            Target(name="many", host="x.example", ports=[1], created_by=alice) for _ in range(11)
        )
        before = newest()
        with pytest.raises(UnrecordedWriteError, match="more than 10 rows"):
            Target.objects.update(name="all")

        assert events(before) == []
        assert not Target.objects.filter(name="all").exists()


WRITES = {
    "save": lambda event: AuditEvent(number=99, at=timezone.now(), action="forged").save(),
    "create": lambda event: AuditEvent.objects.create(number=99, at=timezone.now(), action="forged"),
    "change": lambda event: AuditEvent.objects.update(actor="nobody"),
    "save of a row": lambda event: event.save(update_fields=["actor"]),
    "delete": lambda event: event.delete(),
    "delete of a queryset": lambda event: AuditEvent.objects.all().delete(),
    "the head": lambda event: AuditHead.objects.update(number=0),
    "the head deleted": lambda event: AuditHead.objects.all().delete(),
}


@pytest.mark.parametrize("write", WRITES)
def test_nothing_but_the_audit_itself_writes_events(target, newest, write):
    with tenant_context("acme"):
        before, number = [event.facts() for event in events()], newest()
        with pytest.raises(UnrecordedWriteError, match="audit"):
            WRITES[write](events()[-1])

        assert [event.facts() for event in events()] == before
        assert newest() == number


def test_a_change_and_its_record_are_undone_together(target, newest):
    with tenant_context("acme"):
        before = newest()
        with pytest.raises(RuntimeError), transaction.atomic():
            Target.objects.update(name="Shop")
            raise RuntimeError

        assert events(before) == []
        assert Target.objects.get().name == "Web shop"


def test_a_change_whose_record_cannot_be_written_is_undone(target, monkeypatch):
    monkeypatch.setattr("tenants.audit.trail.provenance", lambda actor: 1 / 0)

    with tenant_context("acme"):
        with pytest.raises(ZeroDivisionError):
            Target.objects.update(name="Shop")
        assert Target.objects.get().name == "Web shop"


def test_what_changes_nothing_is_no_event(target, newest):
    with tenant_context("acme"):
        before = newest()
        Target.objects.bulk_create([target], ignore_conflicts=True)
        Target.objects.update(name="Web shop")
        Target.objects.filter(name="nobody's").update(name="Shop")
        alice = get_user_model().objects.get(username="alice")
        alice.last_login = timezone.now()
        alice.save(update_fields=["last_login"])
        get_user_model().objects.update(last_login=timezone.now())

        assert events(before) == []


def test_of_a_secret_only_that_it_changed_is_recorded(alice, newest):
    with tenant_context("acme"):
        before = newest()
        alice.set_password("another long enough one")
        alice.save(update_fields=["password"])
        _, key = make_key(alice, name="CI", expires_at=timezone.now() + timedelta(days=1))
        changed, made = events(before)
        kept = repr([event.facts() for event in events()])

        assert changed.changes == {"password": ["***", "***"]}
        assert made.changes["digest"] == [None, "***"]
        for secret in (alice.password, "another long enough one", key, ApiKey.objects.get().digest, PASSWORD):
            assert secret not in kept


def test_of_parallel_changes_each_is_recorded_with_what_it_replaced(target):
    """The head's lock comes before the old value is read: else two changes of 1 to 2 would be recorded."""

    def add():
        with tenant_context("acme"):
            for _ in range(5):
                Target.objects.update(name=Concat(F("name"), Value("x")))
        close_tenant_connections()

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    with tenant_context("acme"):
        changes = [event.changes["name"] for event in events() if event.action == "changed"]
        assert len(changes) == 20
        assert [old for old, _ in changes] == ["Web shop" + "x" * count for count in range(20)]
        assert [new for _, new in changes] == ["Web shop" + "x" * count for count in range(1, 21)]
    with control_plane():  # what another thread's tenant recorded is no matter here
        assert AuditEvent.objects.filter(resource="scans.target").count() == 0


def test_who_looks_at_accounts_under_lock_and_who_changes_one_do_not_undo_each_other(alice):
    """MariaDB would end one of them: the one has the rows and waits for the head, the other the head and a row."""
    looked, failed = threading.Event(), []

    def change():
        try:
            with tenant_context("acme"):
                looked.wait(10)
                get_user_model().objects.filter(pk=alice.pk).update(email="theirs@acme.example")
        except Exception as error:
            failed.append(error)
        finally:
            close_tenant_connections()

    other = threading.Thread(target=change)
    other.start()
    with tenant_context("acme"), transaction.atomic():
        assert is_last_owner(alice)
        looked.set()
        other.join(0.5)  # in which it comes as far as it can
        get_user_model().objects.filter(pk=alice.pk).update(email="mine@acme.example")
    other.join()

    assert failed == []
    with tenant_context("acme"):
        assert get_user_model().objects.get(pk=alice.pk).email == "theirs@acme.example"


def test_one_tenants_events_are_in_its_own_audit_alone(target, globex):
    with tenant_context("globex"):
        assert not AuditEvent.objects.filter(object_id=str(target.pk)).exists()


# who, when, from where


def test_a_request_is_recorded_with_its_member_address_and_id(alice, alice_api, newest):
    alice_api.post(
        "/api/v1/targets/",
        {"name": "Shop", "host": "shop.example", "ports": [443]},
        headers={"X-Request-ID": "request-of-alice"},
        REMOTE_ADDR="198.51.100.7",
    )

    with tenant_context("acme"):
        event = events()[-1]
    assert (event.actor, event.actor_id, event.via) == ("alice", str(alice.pk), "token")
    assert (event.address, event.request_id) == ("198.51.100.7", "request-of-alice")
    assert timezone.now() - event.at < timedelta(minutes=1)


def test_a_key_is_named_as_the_door(alice):
    with tenant_context("acme"):
        key, text = make_key(alice, name="CI", scope="full", expires_at=timezone.now() + timedelta(days=1))

    Client().post(
        "/api/v1/targets/",
        {"name": "Shop", "host": "shop.example", "ports": [443]},
        content_type="application/json",
        headers={"Authorization": f"Bearer {text}"},
    )

    with tenant_context("acme"):
        event = events()[-1]
    assert (event.actor, event.via) == ("alice", f"API key {key.pk}")


def test_the_workspace_is_recorded_with_its_member(alice, tom):
    browser = Client()
    log_in(browser, "/t/acme/", "alice")

    with tenant_context("acme"):
        logged_in = events()[-1]
    page = f"/t/acme/accounts/user/{tom.pk}/change/"
    form = browser.get(page).context["adminform"].form.initial
    sent = {"username": "tom", "email": "", "role": "reader", "is_active": "on"}
    answer = browser.post(page, sent | {name: form[name] for name in ("version",) if name in form})

    assert answer.status_code == 302
    with tenant_context("acme"):
        event = events()[-1]
    assert (logged_in.action, logged_in.object_name, logged_in.actor) == ("logged_in", "alice", "alice")
    assert (event.actor, event.via, event.object_name) == ("alice", "session", "tom")
    assert event.changes["role"] == ["tester", "reader"]


def test_a_command_is_recorded_with_the_systems_user(acme, monkeypatch):
    monkeypatch.setattr("sys.stdin", StringIO("long enough for anybody"))
    call_command("create_member", "acme", "zoe", "--password-stdin")

    with tenant_context("acme"):
        event = events()[-1]
    assert (event.object_name, event.via, event.address) == ("zoe", "command create_member", "")
    assert event.actor.endswith("(operating system)")


def test_a_job_is_recorded_as_a_job(target):
    with acting("job 01890000"), tenant_context("acme"):
        Target.objects.update(name="Shop")
        event = events()[-1]

    assert (event.actor, event.via) == ("", "job 01890000")


def test_what_operators_do_is_in_their_own_audit(acme, newest):
    with control_plane():
        before = newest()
    suspend_tenant(slug="acme")

    with control_plane():
        (event,) = events(before)
    assert (event.action, event.object_name, event.changes["step"]) == ("suspend", "acme", "suspended")


def test_a_log_in_and_its_end_are_recorded(alice, client):
    body = {"tenant": "acme", "username": "alice", "password": PASSWORD}
    pair = client.post("/api/v1/token/", body, "application/json", REMOTE_ADDR="198.51.100.7").json()
    client.post("/api/v1/token/logout/", {"refresh": pair["refresh"]}, "application/json")

    with tenant_context("acme"):
        opened, ended = events()[-2:]
    assert (opened.action, opened.actor, opened.address) == ("logged_in", "alice", "198.51.100.7")
    assert (ended.action, ended.object_id, ended.changes) == ("logged_out", str(alice.pk), {"everywhere": False})


def test_a_refresh_token_that_is_used_again_is_recorded(alice, client):
    body = {"tenant": "acme", "username": "alice", "password": PASSWORD}
    refresh = client.post("/api/v1/token/", body, "application/json").json()["refresh"]
    for _ in range(2):
        client.post("/api/v1/token/refresh/", {"refresh": refresh}, "application/json")

    with tenant_context("acme"):
        event = events()[-1]
    assert (event.action, event.object_name) == ("log_in_ended", "alice")


@pytest.mark.parametrize("username", ["alice", "nobody"])
def test_a_failed_log_in_is_recorded_without_what_was_typed(acme, client, username):
    body = {"tenant": "acme", "username": username, "password": "canary-of-a-password"}
    assert client.post("/api/v1/token/", body, "application/json", REMOTE_ADDR="198.51.100.7").status_code == 401

    with tenant_context("acme"):
        event = events()[-1]
    assert (event.action, event.object_name, event.actor) == ("log_in_failed", username.replace("nobody", ""), "")
    assert event.address == "198.51.100.7"
    assert "canary" not in repr(event.facts())


def test_a_failed_log_in_at_no_tenant_is_recorded_for_operators(installation, client):
    body = {"tenant": "nobodys", "username": "alice", "password": "wrong"}
    assert client.post("/api/v1/token/", body, "application/json").status_code == 401

    with control_plane():
        event = events()[-1]
    assert (event.action, event.object_id) == ("log_in_failed", "")


def test_a_refusal_is_recorded_after_it_was_undone(tom, tom_api):
    answer = tom_api.post("/api/v1/targets/", {"name": "x"})
    assert answer.status_code == 400  # no refusal, and no event
    assert tom_api.get("/api/v1/audit-events/").status_code == 403

    with tenant_context("acme"):
        event = events()[-1]
    assert (event.action, event.actor) == ("refused", "tom")
    assert event.changes == {"method": "GET", "path": "/api/v1/audit-events/"}


def test_a_requested_scan_is_recorded(alice, alice_api, target):
    with tenant_context("acme"):
        authorize(target, alice)
        profile = ScanProfile.objects.get(name="standard")
    alice_api.post("/api/v1/scans/", {"target": str(target.pk), "profile": str(profile.pk)})

    with tenant_context("acme"):
        event, scan = events()[-1], Scan.objects.get()
    assert (event.action, event.object_id, event.actor) == ("requested", str(scan.pk), "alice")


def test_every_model_that_people_change_is_audited():
    assert {model._meta.label for model in AUDITED} >= {
        "accounts.User", "accounts.ApiKey", "scans.Target", "scans.Authorization", "scans.ScanProfile",
        "tenants.DatabaseServer",
    }  # fmt: skip


def test_events_of_all_kinds_hang_together(alice, tom, target):
    with tenant_context("acme"):
        authorization = authorize(target, alice, statement='ünïcödé \u2028 \\ "quoted" 漢字 🐍')
        Authorization.objects.filter(pk=authorization.pk).update(revoked_at=Now())
        make_scan(target, alice)
        record("tested", target, nested={"a": [1, 2.5, None, True]}, text="ü")
    with fleet_context("acme", "migration"):  # which sees the triggers
        assert verify().faults == []
