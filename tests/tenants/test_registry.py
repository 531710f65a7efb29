"""What each process knows of the tenants: fresh, bounded, and enough to open a tenant's connection by itself."""

import threading
import time

import pytest
from django.contrib.auth import get_user_model
from django.db import OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext

from scans.models import ScanProfile
from tenants import registry as registry_module
from tenants.connections import close_tenant_connections
from tenants.context import control_plane, current_record, tenant_context
from tenants.exceptions import TenantNotFoundError, TenantSuspendedError, TenantUnavailableError, WrongTenantError
from tenants.models import RegistryRevision, Tenant
from tenants.registry import FRESH_SECONDS, Registry, registry
from tenants.services import resume_tenant, suspend_tenant
from tests.invariants.work import run_python


@pytest.fixture
def polls(monkeypatch):
    """The times at which control was asked what changed."""
    times = []
    read = Registry._read_changes

    def counted(self):
        times.append(time.monotonic())
        read(self)

    monkeypatch.setattr(Registry, "_read_changes", counted)
    return times


@pytest.fixture
def unreadable_control(installation, monkeypatch):
    """Control as it is when its server is gone."""

    def fail():
        from tenants.binding import control_plane as genuine

        close_tenant_connections()
        with genuine():
            raise OperationalError("control is gone")

    return lambda: monkeypatch.setattr(registry_module, "_committed_control", fail)


def age(seconds):
    registry._polled_at -= seconds


def test_a_tenant_is_read_once_and_asked_about_once_a_second_at_most(acme, globex, polls):
    registry.get("acme")
    with control_plane():
        with CaptureQueriesContext(connection) as none:
            for _ in range(200):
                assert registry.get("acme") is registry.get(acme.id)
        age(FRESH_SECONDS)
        with CaptureQueriesContext(connection) as one:
            registry.get("acme")
        assert (len(none), len(one), len(polls)) == (0, 1, 2)


def test_operators_and_halts_are_read_again_only_when_something_of_theirs_was_recorded(acme):
    def read():
        age(FRESH_SECONDS)
        with CaptureQueriesContext(connection) as captured:
            registry.get("acme")
        return len(captured), set(registry.operators)

    with control_plane():
        registry.get("acme")
        olga = get_user_model().objects.create_user("olga")
        before, again = read(), read()
        get_user_model().objects.filter(pk=olga.pk).update(is_active=False)
        disabled = read()

    assert (before[0], again, disabled) == (3, (1, before[1]), (3, before[1] - {olga.pk}))
    assert olga.pk in before[1]


def test_of_many_threads_one_asks_and_none_goes_on_with_what_is_too_old(acme, polls, monkeypatch):
    registry.get("acme")
    suspend_tenant(slug="acme")
    states, slow = [], Registry._read_changes

    def slowly(self):
        time.sleep(0.1)
        slow(self)

    monkeypatch.setattr(Registry, "_read_changes", slowly)
    registry._is_expired = False
    age(5)
    threads = [threading.Thread(target=lambda: states.append(registry.get("acme").snapshot.state)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert states == ["suspended"] * 8
    assert len(polls) == 2


def test_a_thread_does_not_wait_for_another_that_asks_while_what_it_has_is_fresh_enough(acme):
    registry.get("acme")
    age(FRESH_SECONDS)
    with registry._polling:
        assert registry.get("acme").snapshot.slug == "acme"


@pytest.mark.parametrize("change, outcome", [("suspend_tenant", TenantSuspendedError), ("resume_tenant", None)])
def test_another_process_change_takes_effect_within_two_seconds(acme, installation, change, outcome):
    if change == "resume_tenant":
        suspend_tenant(slug="acme")
    with pytest.raises(TenantSuspendedError) if outcome is None else tenant_context("acme"), tenant_context("acme"):
        pass
    run_python(installation, f"from tenants.services import {change}; {change}(slug='acme')")
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        try:
            with tenant_context("acme"):
                seen = None
        except TenantSuspendedError:
            seen = TenantSuspendedError
        if seen is outcome:
            return
        time.sleep(0.05)
    pytest.fail("took no effect")


def test_this_process_sees_its_own_change_at_once(acme):
    for change, state in ((suspend_tenant, "suspended"), (resume_tenant, "active")):
        change(slug="acme")
        assert registry.get("acme").snapshot.state == state


def test_a_change_during_a_poll_is_asked_about_again(acme, monkeypatch):
    registry.get("acme")
    read = Registry._forget

    def change_meanwhile(self, tenant_id):
        monkeypatch.setattr(Registry, "_forget", read)
        registry.expire()
        read(self, tenant_id)

    suspend_tenant(slug="acme")
    monkeypatch.setattr(Registry, "_forget", change_meanwhile)
    registry.get("acme")
    assert registry._age() == float("inf")


def test_a_record_that_changed_while_it_was_read_is_not_kept(acme, monkeypatch):
    registry.clear()
    registry._poll()

    class Slow(registry_module.TenantRecord):
        def __init__(self, **parts):
            super().__init__(**parts)
            registry._revision += 1  # another thread has polled, and been told of a change

    monkeypatch.setattr(registry_module, "TenantRecord", Slow)
    registry._load("acme")
    assert acme.id not in registry._records


def test_a_control_database_restored_from_a_copy_is_read_anew(acme):
    record = registry.get("acme")
    registry._revision += 100
    registry.expire()
    assert registry.get("acme") is not record
    assert registry.get("acme") is registry.get("acme")


def test_it_is_bounded_and_forgets_the_least_recently_used(acme, globex, monkeypatch):
    monkeypatch.setattr(registry_module, "CAPACITY", 1)
    registry.get("acme"), registry.get("globex")
    assert list(registry._records) == [globex.id]
    assert registry._ids == {"globex": globex.id}


def test_text_that_no_database_takes_names_no_tenant(acme):
    for text in ("\udcff", "acm\u00e9", "acme\udc80"):
        with pytest.raises(TenantNotFoundError):
            registry.get(text)


def test_a_renamed_tenant_is_found_under_its_new_slug_alone(acme, globex):
    registry.get("acme")
    with control_plane(), transaction.atomic():
        RegistryRevision.publish([acme], slug="umbrella")
    assert registry.get("umbrella").snapshot.id == acme.id
    with pytest.raises(TenantNotFoundError):
        registry.get("acme")


def test_what_is_not_committed_is_not_read(acme):
    """A transaction's own change may be rolled back, and would stay in the registry."""
    registry.clear()
    with control_plane(), transaction.atomic():
        Tenant.objects.filter(pk=acme.pk).update(state="suspended")
        with pytest.raises(WrongTenantError, match="open transaction"):
            registry.get("acme")
        transaction.set_rollback(True)
    assert registry.get("acme").snapshot.state == "active"


def test_control_that_cannot_be_read_makes_tenants_unavailable_and_is_asked_once_a_second(
    acme, polls, unreadable_control
):
    registry.clear()
    unreadable_control()
    for _ in range(5):
        with pytest.raises(TenantUnavailableError), tenant_context("acme"):
            pytest.fail("was bound")
    assert len(polls) == 1


def test_bound_work_reads_nothing_of_control(acme, unreadable_control):
    registry.get("acme")
    with tenant_context("acme"):
        close_tenant_connections()
        unreadable_control()
        registry._is_expired = True
        assert ScanProfile.objects.exists() in (True, False)
        assert current_record().signing_keys[1]
