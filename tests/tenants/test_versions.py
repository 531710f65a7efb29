"""A row that was changed since it was read is not written over, a deleted one is not made again, and none is whole."""

import copy
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib.auth.models import Group
from django.core import serializers
from django.core.management import call_command
from django.db import connection
from django.db.models import F
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from scans.models import Finding, ScanProfile, Target, TaskQueue
from tenants.accounts.models import User
from tenants.context import control_plane, tenant_context
from tenants.exceptions import DeletedMeanwhileError, StaleVersionError, UnnamedColumnsError
from tenants.orm import names_its_columns
from tenants.versions import VersionedModel
from tests.scans.rows import make_finding, make_run, make_scan, make_target

EDITORS = 6


@pytest.fixture
def target(alice):
    with tenant_context("acme"):
        return make_target(alice)


def write(row, **changes):
    for name, value in changes.items():
        setattr(row, name, value)
    row.save(update_fields=list(changes))


def row_of(model, pk, *names):
    return model.objects.values_list(*names).get(pk=pk)


def test_each_change_makes_the_next_version(target):
    with tenant_context("acme"):
        for name in ("one", "two"):
            write(target, name=name)

        assert target.version == 3
        assert row_of(Target, target.pk, "name", "version") == ("two", 3)


def test_a_row_that_was_changed_since_it_was_read_is_not_written_and_both_values_are_named(target):
    with tenant_context("acme"):
        mine, same, theirs = (Target.objects.get(pk=target.pk) for _ in range(3))
        write(theirs, name="theirs", ca_pem="the same")

        with pytest.raises(StaleVersionError) as caught:
            write(mine, name="mine", ca_pem="the same", ports=[1])
        with pytest.raises(StaleVersionError) as of_what_is_the_same:
            write(same, ca_pem="the same")

        assert caught.value.code == "stale" and caught.value.version == 2
        assert caught.value.fields == {"name": ("mine", "theirs"), "ports": ([1], [80, 443])}
        assert of_what_is_the_same.value.fields == {}
        assert row_of(Target, target.pk, "name", "ports", "version") == ("theirs", [80, 443], 2)


def test_a_relation_is_named_by_its_key(target, alice, tom):
    with tenant_context("acme"):
        mine, theirs = Target.objects.get(pk=target.pk), Target.objects.get(pk=target.pk)
        write(theirs, name="theirs")

        with pytest.raises(StaleVersionError) as caught:
            write(mine, created_by=tom)

        assert caught.value.fields == {"created_by": (tom.pk, alice.pk)}


def test_a_row_that_was_read_again_is_written(target):
    with tenant_context("acme"):
        mine, theirs = Target.objects.get(pk=target.pk), Target.objects.get(pk=target.pk)
        write(theirs, name="theirs")
        mine.refresh_from_db()
        write(mine, ports=[1])

        assert row_of(Target, target.pk, "name", "ports", "version") == ("theirs", [1], 3)


@pytest.mark.parametrize("save", [
    lambda row: row.save(update_fields=["name"]),
    lambda row: row.save(),
    lambda row: copy.copy(row).save(),
    lambda row: pickle.loads(pickle.dumps(row)).save(update_fields=["name"]),  # noqa: S301
    lambda row: User.objects.create_user("somebody").save(update_fields=["email"]) or row.save(update_fields=["name"]),
], ids=["a column", "whole", "a copy", "a pickle", "among others"])  # fmt: skip
def test_a_row_that_was_deleted_since_it_was_read_is_not_made_again(target, save):
    with tenant_context("acme"):
        Target.objects.filter(pk=target.pk).delete()

        with pytest.raises((DeletedMeanwhileError, UnnamedColumnsError)):
            save(target)

        assert not Target.objects.exists()


def test_a_deleted_account_is_not_made_again_by_what_does_not_ask_for_a_version(tom):
    with tenant_context("acme"):
        User.objects.filter(pk=tom.pk).delete()

        with pytest.raises(DeletedMeanwhileError):
            write(tom, last_login=timezone.now())


@pytest.mark.parametrize("update", [
    lambda rows: rows.update(name="theirs"),
    lambda rows: rows.bulk_update(rows, ["name"]),
    lambda rows: rows.filter(name="Web shop").update(name="theirs", version=F("version") + 1),
], ids=["update", "bulk_update", "with the version"])  # fmt: skip
def test_what_a_program_changes_of_many_rows_counts_too(target, update):
    with tenant_context("acme"):
        update(Target.objects.all())

        assert row_of(Target, target.pk, "version") == (2,)
        with pytest.raises(StaleVersionError):
            write(target, ca_pem="mine")


def test_what_nobody_reads_before_they_write_it_neither_asks_nor_counts(tom, alice):
    with tenant_context("acme"):
        mine, theirs = User.objects.get(pk=tom.pk), User.objects.get(pk=tom.pk)
        write(theirs, last_login=timezone.now())
        User.objects.update(last_login=None)
        write(mine, email="tom@acme.example")
        write(theirs, last_login=timezone.now(), password="!")

        assert row_of(User, tom.pk, "version", "email", "password") == (2, "tom@acme.example", "!")
        with pytest.raises(StaleVersionError) as caught:
            write(theirs, password="!secret", role="owner")
        assert caught.value.fields == {"role": ("owner", "tester")}
        assert "secret" not in f"{caught.value!r} {caught.value}"


def test_a_scan_that_sees_a_finding_again_takes_it_from_nobody_who_looks_at_it(target, alice):
    with tenant_context("acme"):
        finding = make_finding(make_run(make_scan(target, alice)))
        Finding.objects.update(last_seen_at=timezone.now(), severity="high")

        write(finding, state="fixed")

        assert row_of(Finding, finding.pk, "state", "version", "severity") == ("fixed", 2, "high")


def test_a_row_without_its_version_is_not_written(target):
    with tenant_context("acme"):
        partly = Target.objects.only("name").get()

        with pytest.raises(UnnamedColumnsError, match="only"):
            write(partly, name="mine")

        assert row_of(Target, target.pk, "name", "version") == ("Web shop", 1)


def test_a_row_that_was_never_read_is_not_written_by_its_key(target, alice):
    with tenant_context("acme"):
        write(target, name="Shop")

        with pytest.raises(StaleVersionError):
            Target(pk=target.pk, name="blind", ports=[1], created_by=alice).save(force_update=True)

        assert row_of(Target, target.pk, "name") == ("Shop",)


def test_what_save_calls_asks_too_when_it_is_called_by_itself(target):
    with tenant_context("acme"):
        mine, theirs = Target.objects.get(pk=target.pk), Target.objects.get(pk=target.pk)
        write(theirs, name="theirs")

        with pytest.raises(StaleVersionError):
            mine.save_base()

        assert row_of(Target, target.pk, "name", "version") == ("theirs", 2)


@pytest.mark.parametrize("round", range(3))
def test_of_parallel_changes_to_one_version_one_is_written(target, round):
    together = threading.Barrier(EDITORS, timeout=60)

    def edit(number):
        with tenant_context("acme"):
            row = Target.objects.get(pk=target.pk)
            together.wait()
            try:
                write(row, name=f"editor {number}")
            except StaleVersionError as error:
                return error.fields["name"]
            return None

    with ThreadPoolExecutor(EDITORS) as pool:
        told = list(pool.map(edit, range(EDITORS)))

    won = told.index(None)
    assert told == [None if number == won else (f"editor {number}", f"editor {won}") for number in range(EDITORS)]
    with tenant_context("acme"):
        assert row_of(Target, target.pk, "name", "version") == (f"editor {won}", 2)


OURS = sorted(model._meta.label for model in apps.get_models() if names_its_columns(model))


def test_every_model_of_our_own_in_tenants_databases_is_among_them():
    theirs = {"admin", "auth", "contenttypes", "sessions"}
    labels = {model._meta.label for model in apps.get_models() if model._meta.app_label in settings.TENANT_APPS}

    assert set(OURS) == {label for label in labels if label.partition(".")[0] not in theirs}
    assert {"accounts.User", "scans.Target", "scans.TaskQueue"} <= set(OURS)


@pytest.mark.parametrize("label", OURS)
@pytest.mark.parametrize("save", [
    lambda row: row.save(), lambda row: row.save(False, False, None, None), lambda row: row.save(force_update=True),
], ids=["plain", "by position", "forced"])  # fmt: skip
@pytest.mark.filterwarnings("ignore:Passing positional arguments to save")
def test_no_row_of_ours_is_saved_whole_and_nothing_is_sent(acme, label, save):
    model = apps.get_model(label)
    with tenant_context("acme"):
        row = model(pk=model._meta.pk.get_default() or 41)
        row._state.adding, row._state.db = False, acme.alias
        with CaptureQueriesContext(connection) as sent, pytest.raises(UnnamedColumnsError, match="update_fields"):
            save(row)

    assert sent.captured_queries == []


def test_a_row_that_was_loaded_in_part_is_not_saved_whole_either(target):
    with tenant_context("acme"), pytest.raises(UnnamedColumnsError):
        ScanProfile.objects.only("name").first().save()


def test_an_account_of_control_is_not_saved_whole(installation):
    with control_plane():
        oscar = User.objects.get()
        oscar.email = "oscar@bulkhead.example"
        with pytest.raises(UnnamedColumnsError, match="accounts.User"):
            oscar.save()


def test_djangos_own_models_are_saved_as_ever(acme):
    with tenant_context("acme"):
        group = Group.objects.create(name="one")
        group.name = "two"
        group.save()

        assert Group.objects.get().name == "two"


def test_new_rows_copies_and_fixtures_are_saved_as_ever(target, alice, tmp_path):
    with tenant_context("acme"):
        TaskQueue(pk=41, task_id=1).save()
        Target(name="new", host="new.example", ports=[1], created_by=alice).save()
        twin = Target.objects.get(pk=target.pk)
        twin.pk = Target._meta.pk.get_default()
        twin.save(force_insert=True)
        write(twin, name="fixture", ports=[2])
        dump = tmp_path / "rows.json"
        dump.write_text(serializers.serialize("json", [twin]))
        Target.objects.filter(pk=twin.pk).delete()
        for _ in range(2):  # not there, and there
            call_command("loaddata", dump, verbosity=0)

        assert set(Target.objects.values_list("name", "version")) == {("Web shop", 1), ("new", 1), ("fixture", 2)}


def test_a_changed_password_alone_is_written_where_django_saves_the_account_whole(tom):
    with tenant_context("acme"):
        mine = User.objects.get(pk=tom.pk)
        User.objects.filter(pk=tom.pk).update(email="tom@acme.example")
        mine.set_password("another correct horse")
        mine.save()

        assert row_of(User, tom.pk, "email") == ("tom@acme.example",)
        assert User.objects.get(pk=tom.pk).check_password("another correct horse")
        mine.set_password("one more correct horse")
        mine.role = "owner"
        with pytest.raises(UnnamedColumnsError):
            mine.save()
        assert User.objects.get(pk=tom.pk).check_password("another correct horse")


def test_what_was_read_again_counts_as_read_and_what_was_not_does_not(tom):
    with tenant_context("acme"):
        mine = User.objects.get(pk=tom.pk)
        User.objects.filter(pk=tom.pk).update(email="tom@acme.example")
        mine.set_password("another correct horse")
        mine.refresh_from_db(fields=["email"])
        mine.save()  # the password is all that differs

        assert User.objects.get(pk=tom.pk).check_password("another correct horse")
        User.objects.filter(pk=tom.pk).update(role="owner")
        mine.refresh_from_db()
        mine.set_password("one more correct horse")
        mine.save()
        assert User.objects.get(pk=tom.pk).check_password("one more correct horse")


def test_django_s_command_changes_a_password(tom, monkeypatch):
    monkeypatch.setattr("getpass.getpass", lambda prompt: "another correct horse")
    with tenant_context("acme"):
        call_command("changepassword", "tom", verbosity=0)

        assert User.objects.get(pk=tom.pk).check_password("another correct horse")


def test_what_people_edit_has_a_version():
    assert {User, Target, Finding} <= {model for model in apps.get_models() if issubclass(model, VersionedModel)}
