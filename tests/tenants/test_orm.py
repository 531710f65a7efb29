"""What ``default`` means to Django's own code: the bound database, by its real name."""

import io
import json

import pytest
from django.contrib.contenttypes.models import ContentType
from django.core import serializers
from django.core.management import call_command

from scans.models import ScanProfile
from tenants.accounts.models import User
from tenants.context import control_plane, tenant_context
from tenants.exceptions import WrongTenantError
from tests.invariants.work import add, names

THROUGH_DEFAULT = {
    "using": lambda: ScanProfile.objects.using("default").get(name="row"),
    "save": lambda: _saved(ScanProfile(name="row 2", engines={"ports": {}})),
    "db_manager": lambda: ScanProfile.objects.db_manager("default").create(name="row 2", engines={"ports": {}}),
    "bulk_create": lambda: ScanProfile.objects.using("default").bulk_create([ScanProfile(name="row 2", engines={})])[0],
    "raw": lambda: ScanProfile.objects.using("default").raw("SELECT * FROM scans_scanprofile")[0],
}


def _saved(row):
    row.save(using="default")
    return row


@pytest.mark.parametrize("through", THROUGH_DEFAULT.values(), ids=THROUGH_DEFAULT.keys())
def test_an_object_that_came_through_default_knows_its_tenant(acme, globex, through):
    with tenant_context("acme"):
        add("row")
        row = through()
        assert row._state.db == acme.alias
        row.save(update_fields=["name"])
    with tenant_context("globex"), pytest.raises(WrongTenantError):
        row.save(update_fields=["name"])
    assert names("globex") == set()


def test_commands_without_a_database_are_of_the_bound_plane(acme, globex):
    with tenant_context("acme"):
        call_command("createsuperuser", interactive=False, username="eve", verbosity=0)
        eve = User.objects.get(username="eve")
        assert eve._state.db == acme.alias
    for binding in (tenant_context("globex"), control_plane()):
        with binding:
            assert not User.objects.filter(username="eve").exists()


def test_a_dump_of_one_tenant_loads_into_another(acme, globex, tmp_path):
    with tenant_context("acme"):
        row, dump = add("row"), io.StringIO()
        call_command("dumpdata", "scans.scanprofile", primary_keys=str(row.pk), stdout=dump)
        foreign = list(serializers.deserialize("python", serializers.serialize("python", ScanProfile.objects.all())))
    assert [each["fields"]["name"] for each in json.loads(dump.getvalue())] == ["row"]
    fixture = tmp_path / "rows.json"
    fixture.write_text(dump.getvalue())
    with tenant_context("globex"):
        call_command("loaddata", fixture, verbosity=0)
        assert {row._state.db for row in ScanProfile.objects.all()} == {globex.alias}
        assert {each.object._state.db for each in foreign} <= {None, acme.alias}
    assert names("globex") == {"row"}


def test_content_types_are_each_databases_own(acme, globex):
    with tenant_context("acme"):
        for manager in (ContentType.objects, ContentType.objects.db_manager("default")):
            assert manager.get_for_model(User)._state.db == acme.alias
        kept = ContentType.objects.db_manager("default"), ContentType.objects.db_manager(acme.alias)
    with tenant_context("globex"):
        for manager in (ContentType.objects, ContentType.objects.db_manager("default"), kept[0]):
            assert manager.get_for_model(User)._state.db == globex.alias
        with pytest.raises(WrongTenantError, match=acme.alias):
            kept[1].get_for_model(User)
    with control_plane():
        assert ContentType.objects.get_for_model(User)._state.db == "control"
