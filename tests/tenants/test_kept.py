"""What is kept from one binding answers nothing in another: users and their rights, sessions, content types."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.middleware import SessionMiddleware
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext

from tenants import kept
from tenants.accounts.models import User
from tenants.authentication import Member
from tenants.context import control_plane, tenant_context
from tenants.exceptions import InvalidTokenError, NoTenantError, WrongTenantError
from tenants.kept import RecentlyUsed
from tests.tenants.browsing import is_in, log_in

RIGHTS = {
    "has_perm": lambda user: user.has_perm("scans.add_scan"),
    "has_perms": lambda user: user.has_perms(["scans.add_scan"]),
    "has_module_perms": lambda user: user.has_module_perms("scans"),
    "get_all_permissions": lambda user: user.get_all_permissions(),
    "get_user_permissions": lambda user: user.get_user_permissions(),
    "get_group_permissions": lambda user: user.get_group_permissions(),
    "ahas_perm": lambda user: asyncio.run(user.ahas_perm("scans.add_scan")),
    "ahas_module_perms": lambda user: asyncio.run(user.ahas_module_perms("scans")),
    "aget_all_permissions": lambda user: asyncio.run(user.aget_all_permissions()),
    "aget_user_permissions": lambda user: asyncio.run(user.aget_user_permissions()),
}


@pytest.fixture
def people(acme, globex):
    """Alice in both tenants, under one key; in acme she has a permission by herself and one by a group."""
    with tenant_context("acme"):
        alice = User.objects.get(username="alice")
        first, second = Permission.objects.all()[:2]
        alice.user_permissions.add(first)
        group = Group.objects.create(name="group")
        group.permissions.add(second)
        alice.groups.add(group)
    with tenant_context("globex"):
        User.objects.create(pk=alice.pk, username="alice", role="tester", password=alice.password)
    with tenant_context("acme"):
        return User.objects.get(pk=alice.pk), Member(str(alice.pk), "owner")


@pytest.mark.parametrize("is_asked_before", [True, False], ids=["asked before", "not asked before"])
@pytest.mark.parametrize("ask", RIGHTS.values(), ids=RIGHTS)
@pytest.mark.parametrize("which", [0, 1], ids=["a user", "a member"])
def test_a_kept_user_has_rights_in_their_own_tenant_alone(people, ask, which, is_asked_before):
    user = people[which]
    if is_asked_before:
        with tenant_context("acme"):
            assert ask(user)

    with pytest.raises(NoTenantError):
        ask(user)
    for plane in (tenant_context("globex"), control_plane()):
        with plane, pytest.raises(WrongTenantError):
            ask(user)
    with tenant_context("acme"):
        assert ask(user)


def test_a_kept_member_is_not_looked_up_in_another_tenant(people):
    _, member = people

    with tenant_context("globex"), pytest.raises(WrongTenantError, match="A member of"):
        member.username  # noqa: B018
    with pytest.raises(NoTenantError):
        member.is_authenticated  # noqa: B018
    with tenant_context("acme"):
        assert member.role == "owner"


def test_a_member_who_is_gone_meanwhile_is_nobody(people):
    _, member = people
    with tenant_context("acme"):
        User.objects.filter(username="alice").update(is_active=False)

        assert member.is_authenticated and member.pk
        with pytest.raises(InvalidTokenError):
            member.username  # noqa: B018


@pytest.fixture
def request_of_alice(people):
    """A request with the cookie of a session that both tenants have, and its user not looked up yet."""
    browser = Client()
    log_in(browser, "/t/acme/")
    key = browser.cookies["sessionid_acme"].value
    with tenant_context("acme"):
        row = Session.objects.values().get(pk=key)
    with tenant_context("globex"):
        Session.objects.create(**row)
    request = RequestFactory().get("/")
    request.COOKIES["sessionid"] = key
    with tenant_context("acme"):
        SessionMiddleware(lambda request: None).process_request(request)
        AuthenticationMiddleware(lambda request: None).process_request(request)
    return request


@pytest.mark.parametrize("is_read_before", [True, False], ids=["read before", "not read before"])
def test_a_kept_requests_user_is_looked_up_in_its_own_tenant_alone(request_of_alice, is_read_before):
    request = request_of_alice
    if is_read_before:
        with tenant_context("acme"):
            assert request.session["_auth_user_id"]

    with tenant_context("globex"), pytest.raises(WrongTenantError, match="A session of"):
        request.user.is_authenticated  # noqa: B018
    with pytest.raises(NoTenantError):
        request.user.is_authenticated  # noqa: B018
    with tenant_context("acme"):
        assert request.user.username == "alice"


USES = {
    "get": lambda session: session.get("key"),
    "set": lambda session: session.__setitem__("key", 1),
    "save": lambda session: session.save(),
    "flush": lambda session: session.flush(),
    "cycle_key": lambda session: session.cycle_key(),
    "aget": lambda session: asyncio.run(session.aget("key")),
    "aflush": lambda session: asyncio.run(session.aflush()),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("is_read_before", [True, False], ids=["read before", "not read before"])
def test_a_kept_session_is_used_in_its_own_tenant_alone(request_of_alice, use, is_read_before):
    session = request_of_alice.session
    if is_read_before:
        with tenant_context("acme"):
            assert session["_auth_user_id"]

    with tenant_context("globex"), pytest.raises(WrongTenantError):
        use(session)
    with tenant_context("globex"):
        assert Session.objects.count() == 1
    with tenant_context("acme"):
        use(session)


def test_a_session_made_where_nothing_is_bound_is_of_no_tenant(acme):
    session = SessionStore()

    with tenant_context("acme"), pytest.raises(WrongTenantError, match="no plane"):
        session["key"] = 1


def test_an_ordinary_log_in_works(acme, globex):
    browser = Client()
    log_in(browser, "/t/acme/")

    assert is_in(browser, "/t/acme/") and not is_in(browser, "/t/globex/")


# Content types


def test_content_types_are_kept_for_so_many_databases_and_no_more(acme, globex, monkeypatch):
    cache = RecentlyUsed(2)
    for manager in ContentType._meta.managers:
        monkeypatch.setattr(manager, "_cache", cache)

    def queries():
        with CaptureQueriesContext(connection) as captured:
            assert ContentType.objects.get_for_model(User)._state.db == connection.alias
            assert ContentType.objects.get_for_id(ContentType.objects.get_for_model(User).pk)
        return len(captured)

    counts = []
    for plane in ("acme", "globex", "acme", "control", "acme", "globex"):
        with control_plane() if plane == "control" else tenant_context(plane):
            counts.append((plane, queries(), len(cache)))

    assert counts == [
        ("acme", 1, 1), ("globex", 1, 2), ("acme", 0, 2), ("control", 1, 2), ("acme", 0, 2), ("globex", 1, 2)
    ]  # fmt: skip


def test_the_cache_of_content_types_is_the_bounded_one_for_every_manager():
    managers = [ContentType.objects, ContentType._default_manager, ContentType._base_manager.model.objects]

    assert {type(manager._cache) for manager in managers} == {RecentlyUsed}
    assert len({id(manager._cache) for manager in managers}) == 1
    assert ContentType.objects._cache._capacity == kept.CONTENT_TYPES_OF


def test_threads_may_use_the_cache_of_content_types_at_once():
    cache = RecentlyUsed(4)

    def use(seed):
        for number in range(5000):
            alias = str((seed + number * 7) % 12)
            try:
                assert cache[alias]["alias"] == alias
            except KeyError:
                cache.setdefault(alias, {"alias": alias})["alias"] = alias
        return len(cache)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(use, range(8)))

    assert len(cache) <= 4
