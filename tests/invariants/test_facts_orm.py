"""What Django was seen to do between tenants, and no table of cases in test_querysets.py has: each refused here."""

import pytest
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import Group
from django.contrib.contenttypes.models import ContentType

from scans.models import Scan, Target
from tenants.accounts.models import User
from tenants.context import tenant_context
from tenants.exceptions import WrongTenantError
from tests.scans.rows import make_scan, make_target


@pytest.fixture
def scans(alice, mallory):
    """Three in each tenant."""
    for slug, user in (("acme", alice), ("globex", mallory)):
        with tenant_context(slug):
            target = make_target(user, name=slug)
            for _ in range(3):
                make_scan(target, user)


def test_the_next_chunk_of_a_prefetching_iterator_is_not_fetched_in_another_tenant(scans):
    with tenant_context("acme"):
        chunks = Scan.objects.prefetch_related("target").iterator(chunk_size=1)
        assert next(chunks).target.name == "acme"
    with tenant_context("globex"), pytest.raises(WrongTenantError):
        next(chunks)


def test_bulk_create_that_updates_on_conflict_overwrites_no_row_of_another_tenant(acme, globex):
    with tenant_context("acme"):
        group = Group.objects.create(name="acme's")
    with tenant_context("globex"):
        own = Group.objects.create(pk=group.pk, name="globex's")
        with pytest.raises(WrongTenantError):
            Group.objects.bulk_create([group], update_conflicts=True, update_fields=["name"], unique_fields=["id"])
        own.refresh_from_db()
        assert own.name == "globex's"


def test_a_generic_reference_leads_to_no_row_of_another_tenant(scans, alice):
    with tenant_context("acme"):
        entry = LogEntry.objects.create(
            user=alice,
            content_type=ContentType.objects.get_for_model(Target),
            object_id=str(Target.objects.get().pk),
            action_flag=CHANGE,
        )
        assert entry.get_edited_object().name == "acme"
        entry = LogEntry.objects.get()
    with tenant_context("globex"), pytest.raises(WrongTenantError):
        entry.get_edited_object()


def test_a_kept_users_groups_and_permissions_are_not_looked_up_in_another_tenant(alice, mallory):
    with tenant_context("acme"):
        kept = User.objects.get(username="alice")
    with tenant_context("globex"):
        for use in (lambda: kept.groups.exists(), lambda: kept.user_permissions.exists(), kept.refresh_from_db):
            with pytest.raises(WrongTenantError):
                use()
