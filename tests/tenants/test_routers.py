"""Ring one: an alias or an error, never ``None``; and what an object knows of where it came from."""

import copy
import pickle

import pytest
from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.db import router

from scans.models import Authorization, ScanProfile, Target
from tenants.accounts.models import User
from tenants.context import control_plane, server_plane, tenant_context
from tenants.exceptions import NoTenantError, WrongTenantError
from tenants.models import Tenant
from tenants.planes import require_bound
from tenants.provisioning import Server
from tests.invariants.work import add, names

SERVER = Server(name="local", engine="sqlite", host="", port=None, admin_user="", sealed_admin_password="")
QUESTIONS = {
    "db_for_read": lambda: router.db_for_read(User),
    "db_for_write": lambda: router.db_for_write(User),
    "allow_relation": lambda: router.allow_relation(User(), User()),
    "allow_migrate": lambda: router.allow_migrate("default", "accounts"),
}


@pytest.mark.parametrize("ask", QUESTIONS.values(), ids=QUESTIONS.keys())
def test_unbound_every_question_is_refused(installation, ask):
    with pytest.raises(NoTenantError):
        ask()


def test_models_live_in_their_own_planes_only(acme):
    planes = {"tenant": tenant_context("acme"), "control": control_plane(), "server": server_plane(SERVER)}
    lives = {
        "tenant": {ScanProfile, User, ContentType, Permission},
        "control": {Tenant, User, ContentType, Permission},
        "server": set(),
    }
    for plane, binding in planes.items():
        with binding:
            for model in (ScanProfile, Tenant, User, ContentType, Permission):
                for ask in (router.db_for_read, router.db_for_write):
                    if model in lives[plane]:
                        assert ask(model) == require_bound().alias
                    else:
                        with pytest.raises(WrongTenantError, match=f"{model._meta.label} does not live in the {plane}"):
                            ask(model)
                assert router.allow_migrate_model("default", model) == (model in lives[plane])


def test_migrations_are_of_the_bound_database_and_of_managed_models(acme, globex, monkeypatch):
    with tenant_context("acme"):
        for alias in ("default", acme.alias):
            assert router.allow_migrate(alias, "scans")
            assert not router.allow_migrate(alias, "tenants")
        for alias in (globex.alias, "control"):
            with pytest.raises(WrongTenantError):
                router.allow_migrate(alias, "scans")
        monkeypatch.setattr(ScanProfile._meta, "managed", False)
        assert not router.allow_migrate_model("default", ScanProfile)


FOREIGN_USES = {
    "save": lambda row, own: row.save(),
    "save of a field": lambda row, own: row.save(update_fields=["name"]),
    "delete": lambda row, own: row.delete(),
    "refresh": lambda row, own: row.refresh_from_db(),
    "validate": lambda row, own: row.full_clean(),
    "a deferred field": lambda row, own: ScanProfile.from_db(row._state.db, ["id"], [row.pk]).name,
    "a copy": lambda row, own: copy.copy(row).save(),
    "a pickle": lambda row, own: pickle.loads(pickle.dumps(row)).save(),
    "bulk_create": lambda row, own: ScanProfile.objects.bulk_create([row]),
    "save using default": lambda row, own: row.save(using="default"),
    "save using the bound": lambda row, own: row.save(using=require_bound().alias),
    "delete using default": lambda row, own: row.delete(using="default"),
    "refresh using default": lambda row, own: row.refresh_from_db(using="default"),
}


@pytest.mark.parametrize("use", FOREIGN_USES.values(), ids=FOREIGN_USES.keys())
def test_an_object_of_one_tenant_is_no_use_in_another(acme, globex, use):
    with tenant_context("acme"):
        row = add("row")
    with tenant_context("globex"):
        own = add("row of globex")
        with pytest.raises(WrongTenantError, match=acme.alias):
            use(row, own)
    with pytest.raises(NoTenantError):
        use(row, own)
    assert (names("acme"), names("globex")) == ({"row"}, {"row of globex"})


def test_relations_do_not_cross_tenants(acme, globex, alice, mallory):
    with tenant_context("acme"):
        group = Group.objects.create(name="g")
        target = Target.objects.create(name="t", host="t.example", ports=[443], created_by=alice)
    with tenant_context("globex"):
        for use in (
            lambda: Target(created_by=alice),
            lambda: setattr(Target(created_by=mallory), "created_by", alice),
            lambda: mallory.groups.add(group),
            lambda: list(group.user_set.all()),
            lambda: list(target.authorizations.all()),
            lambda: target.created_by.refresh_from_db(),
            lambda: Authorization(target=target).full_clean(),
        ):
            with pytest.raises(WrongTenantError, match=acme.alias):
                use()
        assert not mallory.groups.exists()
    with control_plane(), pytest.raises(WrongTenantError):
        alice.groups.count()
