"""A database's migration history, content types and permissions are of its own plane's apps only."""

import io

import pytest
from django.conf import settings
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.core.management import CommandError, call_command
from django.core.management.sql import emit_post_migrate_signal
from django.db import DEFAULT_DB_ALIAS, connection
from django.db.migrations.recorder import MigrationRecorder

from tenants.context import control_plane, fleet_context
from tenants.routers import _labels
from tenants.services import migrate_bound_database

PLANES = {
    "control": (control_plane, lambda: set(settings.CONTROL_APPS)),
    "tenant": (lambda: fleet_context("acme", "migration"), lambda: set(settings.TENANT_APPS)),
}
planes = pytest.mark.parametrize("bind, apps", PLANES.values(), ids=PLANES.keys())


def labels():
    return {
        "history": {app for app, _ in MigrationRecorder(connection).applied_migrations()},
        "content types": set(ContentType.objects.values_list("app_label", flat=True)),
        "permissions": set(Permission.objects.values_list("content_type__app_label", flat=True)),
        "tables": {table.split("_")[0] for table in connection.introspection.table_names()} - {"sqlite"},
    }


@planes
@pytest.mark.parametrize(
    "again",
    [
        lambda: None,
        lambda: call_command("migrate", verbosity=0),
        lambda: emit_post_migrate_signal(0, False, DEFAULT_DB_ALIAS),  # as Django's flush does
    ],
    ids=["new", "migrated again", "post_migrate"],
)
def test_a_database_knows_its_own_planes_apps_only(acme, bind, apps, again):
    with bind():
        again()
        for what, found in labels().items():
            foreign = found - apps() - {"django"}
            assert not foreign, (what, foreign)
        assert "accounts" in labels()["permissions"]


@planes
def test_nothing_is_pending_in_a_new_database(acme, bind, apps):
    with bind():
        call_command("migrate", check_unapplied=True, verbosity=0)
        assert migrate_bound_database() == []
        shown = io.StringIO()
        call_command("showmigrations", stdout=shown)
        assert "[ ]" not in shown.getvalue()
        assert {line for line in shown.getvalue().split("\n") if line and line[0] != " "} <= apps()


def test_an_app_of_another_plane_cannot_be_migrated(acme):
    with control_plane(), pytest.raises(CommandError, match="scans"):
        call_command("migrate", "scans", verbosity=0)
    with fleet_context("acme", "migration"), pytest.raises(CommandError, match="tenants"):
        call_command("migrate", "tenants", verbosity=0)


def test_an_app_that_moves_to_both_planes_has_its_migrations_to_do(acme, settings):
    settings.TENANT_APPS = [*settings.TENANT_APPS, "tenants"]
    _labels.cache_clear()
    try:
        with fleet_context("acme", "migration"):
            with pytest.raises(SystemExit):
                call_command("migrate", check_unapplied=True, verbosity=0)
            assert "tenants.0001_initial" in migrate_bound_database()
            assert "tenants_tenant" in connection.introspection.table_names()
            with connection.schema_editor() as editor:
                from django.apps import apps

                for model in reversed(list(apps.get_app_config("tenants").get_models())):
                    editor.delete_model(model)
    finally:
        _labels.cache_clear()


def test_makemigrations_finds_every_planes_migrations(acme):
    with control_plane():
        call_command("makemigrations", check_changes=True, dry_run=True, verbosity=0)
