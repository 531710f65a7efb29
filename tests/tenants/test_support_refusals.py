"""What a support access does not open, however it is tried."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.contrib.auth.hashers import make_password
from django.db import IntegrityError, transaction
from django.test import Client
from django.utils import timezone

from tenants.accounts import support
from tenants.accounts.models import SupportAccess, User
from tenants.context import control_plane, tenant_context
from tenants.exceptions import SupportAccessError
from tests.installation import PASSWORD
from tests.tenants.browsing import log_in
from tests.tenants.states import set_state
from tests.tenants.supporting import (
    API,
    REASON,
    add_operator,
    ask,
    asked_by,
    console_of,
    enter,
    entered,
    entry_of,
    grant,
    newest,
    page_of,
    wish,
)
from tests.tenants.test_commands import run


@pytest.fixture
def console(installation):
    return console_of()


@pytest.fixture
def entry(console, alice_api):
    """What opens acme's workspace, once."""
    ask(console)
    grant(alice_api, newest())
    return entry_of(console)


def in_parallel(*functions):
    """What each gave, begun at once."""
    barrier = threading.Barrier(len(functions))

    def one(function):
        barrier.wait(10)
        return function()

    with ThreadPoolExecutor(len(functions)) as pool:
        return list(pool.map(one, functions))


def change(**changes):
    with tenant_context("acme"):
        SupportAccess.objects.update(**changes)


def is_in(browser, slug="acme"):
    return browser.get(f"/t/{slug}/scans/target/").status_code == 200


def test_an_access_is_of_one_operator(console, alice_api):
    add_operator("olga")
    other = console_of("olga")
    ask(console)
    grant(alice_api, newest())

    assert entry_of(other) is None
    other.post(page_of(step="end/"))
    assert newest().state == "granted"
    assert (REASON in other.get(page_of()).content.decode(), REASON in console.get(page_of()).content.decode()) == (
        False,
        True,
    )
    assert entry_of(console) is not None


def test_an_entry_works_once(entry):
    first, again = enter(entry), enter(entry)

    assert (first[1].status_code, again[1].status_code) == (302, 403)
    assert (is_in(first[0]), is_in(again[0])) == (True, False)


def test_of_uses_in_parallel_one_opens_a_session(entry):
    tried = in_parallel(*[lambda: enter(entry)[1].status_code for _ in range(4)])

    assert tried.count(302) == 1
    assert set(tried) <= {302, 403, 503}  # SQLite may be too busy for one of them


USELESS = {
    "too old": lambda console, api: change(entry_expires_at=timezone.now()),
    "made before another": lambda console, api: entry_of(console),
    "of an access that has ended": lambda console, api: api.post(f"{API}{newest().pk}/end/"),
    "of an access whose time is over": lambda console, api: change(expires_at=timezone.now()),
    "given back": lambda console, api: console.post(page_of(step="end/")),
    "of a copied database": lambda console, api: change(database="t_0_g1"),
    "of a tenant that is suspended": lambda console, api: set_state("acme", "suspended"),
}


@pytest.mark.parametrize("make", USELESS.values(), ids=USELESS)
def test_an_entry_is_useless_that_is(entry, console, alice_api, make):
    make(console, alice_api)

    browser, answer = enter(entry)

    assert (answer.status_code, "sessionid_acme" in answer.cookies) == (403, False)
    assert not is_in(browser)


def test_an_entry_opens_its_own_tenant_alone(entry, console, mallory_api):
    ask(console, "globex")
    grant(mallory_api, newest("globex"))

    assert enter(entry, "globex")[1].status_code == 403
    assert enter(entry)[1].status_code == 302


@pytest.mark.parametrize("text", ["", "x", "\0", "é", "' OR 1=1 --", "x" * 100_000], ids=range(6))
def test_what_is_no_entry_opens_nothing(entry, text):
    assert enter(text)[1].status_code == 403
    assert Client().post("/t/acme/support/enter/").status_code == 403


def test_nothing_that_opens_a_workspace_stands_in_a_database(entry):
    with tenant_context("acme"):
        stored = str(list(SupportAccess.objects.values_list()))
    assert entry not in stored


def test_a_session_in_a_copy_of_the_database_opens_nothing(console, alice_api):
    """As after a restore: the row says that it is granted, and is of a generation that is past."""
    browser = entered(alice_api, console=console)
    change(database="t_0_g1")

    assert not is_in(browser)
    assert newest().state == "expired"
    assert alice_api.get("/api/v1/me/").json()["support_access"] == []
    assert ask(console).status_code == 302


def test_a_granted_row_that_is_copied_into_another_tenant_opens_nothing_there(console, alice_api, globex):
    entered(alice_api, console=console)
    access = newest()
    fields = ("reason", "scope_asked", "hours_asked", "asked_at", "scope", "granted_at", "expires_at", "database")
    with tenant_context("globex"):
        user = User.objects.create(pk=access.user_id, username="support:oscar", operator=access.user.operator,
                                   is_active=False)  # fmt: skip
        SupportAccess.objects.create(user=user, **{name: getattr(access, name) for name in fields})
        assert support.supporter(user.pk) is None
    assert entry_of(console, "globex") is None


@pytest.mark.parametrize(("state", "status"), [("suspended", 302), ("maintenance", 503), ("deleting", 302)])
def test_what_stops_members_stops_who_supports(console, alice_api, state, status):
    browser = entered(alice_api, console=console)
    set_state("acme", state)

    assert browser.get("/t/acme/scans/target/").status_code == status
    assert entry_of(console) is None
    assert ask(console).status_code == 200  # the form again, with what is wrong


def test_only_an_active_tenant_can_be_asked(console):
    for state in ("suspended", "maintenance"):
        set_state("acme", state)
        answer = ask(console).content.decode()
        assert state in answer and "errorlist" in answer
        assert console.get(page_of()).status_code == 200
    set_state("acme", "active")
    assert newest() is None


UNFIT = {
    "no reason": {"reason": ""},
    "a word": {"reason": "because"},
    "two words": {"reason": "two words"},
    "a novel": {"reason": "a b c " * 200},
    "no hours": {"hours": 0},
    "nine hours": {"hours": 9},
    "hours that are no number": {"hours": "x"},
    "a role": {"scope": "owner"},
    "no scope": {"scope": ""},
}


@pytest.mark.parametrize("changes", UNFIT.values(), ids=UNFIT)
def test_a_request_says_why_and_what_for(console, acme, changes):
    assert "errorlist" in ask(console, **changes).content.decode()
    assert newest() is None


@pytest.mark.parametrize("name", ["a word", "no hours", "nine hours"])
def test_a_request_without_the_form_is_held_to_the_same(acme, name):
    with tenant_context("acme"), pytest.raises(SupportAccessError):
        asked_by("olga", **UNFIT[name])
    assert newest() is None


BEYOND = {"no hours": {"hours": 0}, "nine hours": {"hours": 9}, "more than was asked for": {"scope": "full"}}


@pytest.mark.parametrize("changes", BEYOND.values(), ids=BEYOND)
def test_a_grant_without_the_form_is_held_to_the_same(alice, changes):
    with tenant_context("acme"):
        access = asked_by("olga")
        with pytest.raises(SupportAccessError):
            support.grant(access, owner=alice, **{"scope": "read", "hours": 1} | changes)
    assert newest().state == "asked"


MALFORMED = {
    "nothing": {},
    "another decision": {"decision": "extend"},
    "a grant of nothing": {"decision": "grant"},
    "a grant for nine hours": {"decision": "grant", "scope": "read", "hours": "9"},
    "a grant of a role": {"decision": "grant", "scope": "owner", "hours": "1"},
}


@pytest.mark.parametrize("sent", MALFORMED.values(), ids=MALFORMED)
def test_a_page_that_was_sent_something_else_decides_nothing(alice, sent):
    with tenant_context("acme"):
        path = f"/t/acme/accounts/supportaccess/{asked_by('olga').pk}/decide/"
    owner = Client(raise_request_exception=False)
    log_in(owner, "/t/acme/")

    assert (owner.post(path, sent).status_code, owner.get(path).status_code) == (302, 405)
    assert newest().state == "asked"


def test_one_request_is_open_at_a_time(console, alice_api, globex):
    assert [ask(console).status_code, ask(console, "globex").status_code] == [302, 302]
    first = newest()
    assert "is open" in ask(console).content.decode()
    grant(alice_api, first)
    assert "is open" in ask(console).content.decode()
    assert newest() == first
    alice_api.post(f"{API}{first.pk}/end/")
    assert ask(console).status_code == 302


def test_of_requests_in_parallel_one_is_open(console, acme):
    assert ask(console).status_code == 302
    console.post(page_of(step="end/"))  # so that the row of the operator is there
    with control_plane():
        oscar = User.objects.get(username="oscar")

    def once():
        with tenant_context("acme"):
            try:
                support.ask(oscar, **wish())
            except Exception as error:
                return type(error).__name__

    assert in_parallel(*[once] * 4).count(None) == 1
    with tenant_context("acme"):
        assert SupportAccess.objects.filter(is_open=True).count() == 1


def test_an_operator_asks_a_tenant_five_times_a_day(console, acme):
    for _ in range(5):
        ask(console)
        console.post(page_of(step="end/"))
    assert "5 times" in ask(console).content.decode()
    change(asked_at=timezone.now() - timedelta(days=1, seconds=1))
    assert ask(console).status_code == 302


def test_no_more_is_granted_than_was_asked_for(console, alice_api):
    ask(console)
    access = newest()

    answer = grant(alice_api, access, scope="full")

    assert (answer.status_code, answer.json()["code"]) == (409, "support_access_refused")
    for changes in ({"hours": 0}, {"hours": 9}, {"hours": "x"}, {"hours": None}, {"scope": "owner"}):
        assert grant(alice_api, access, **changes).status_code == 400
    assert newest().state == "asked"


STEPS = ["grant", "refuse", "end"]
ALLOWED = {"asked": {"grant", "refuse"}, "granted": {"end"}, "refused": set(), "ended": set(), "expired": set()}


@pytest.mark.parametrize("state", ALLOWED)
def test_a_step_that_does_not_follow_is_refused(console, alice_api, state):
    for step in STEPS:
        ask(console)
        access = newest()
        if state in ("granted", "ended"):
            grant(alice_api, access)
        if state in ("refused", "ended"):
            alice_api.post(f"{API}{access.pk}/{'end' if state == 'ended' else 'refuse'}/")
        if state == "expired":
            change(expires_at=timezone.now())
        answer = alice_api.post(f"{API}{access.pk}/{step}/", {"hours": 1}, format="json")
        assert answer.status_code == (200 if step in ALLOWED[state] else 409), step
        with tenant_context("acme"):
            SupportAccess.objects.all().delete()


def test_of_decisions_in_parallel_one_counts(acme, alice):
    with tenant_context("acme"):
        access = asked_by("olga")

    def decide(step, **more):
        with tenant_context("acme"):
            try:
                step(access, owner=alice, **more)
            except Exception as error:
                return type(error).__name__

    tried = in_parallel(
        lambda: decide(support.grant, scope="read", hours=1),
        lambda: decide(support.refuse),
        lambda: decide(support.grant, scope="read", hours=2),
    )

    assert tried.count(None) == 1


def test_an_api_key_grants_nothing_and_ends(console, alice_api):
    body = {"name": "CI", "scope": "full", "expires_at": (timezone.now() + timedelta(days=1)).isoformat()}
    key = alice_api.post("/api/v1/api-keys/", body, format="json").json()["key"]
    program = type(alice_api)(headers={"Authorization": f"Bearer {key}"})
    ask(console)

    refused, granted = grant(program, newest()), grant(alice_api, newest())
    ended = program.post(f"{API}{newest().pk}/end/")

    assert (refused.status_code, granted.status_code, ended.status_code) == (403, 200, 200)


def test_the_operators_row_opens_by_no_password(console, alice_api):
    """Not even by one that was given to it by hand; and it cannot be made active."""
    browser = entered(alice_api, console=console)
    with tenant_context("acme"):
        User.objects.filter(username="support:oscar").update(password=make_password(PASSWORD))
        with pytest.raises(IntegrityError), transaction.atomic():
            User.objects.filter(username="support:oscar").update(is_active=True)

    credentials = {"tenant": "acme", "username": "support:oscar", "password": PASSWORD}
    assert alice_api.post("/api/v1/token/", credentials, format="json").status_code == 401
    assert log_in(Client(), "/t/acme/", "support:oscar").status_code == 200
    assert is_in(browser)
    answer = browser.post("/t/acme/password_change/", {"old_password": PASSWORD})
    assert (answer.status_code, "errorlist" in answer.content.decode()) == (200, True)


def test_an_operators_row_is_no_account_that_could_be_given_rights(console, alice_api, alice):
    entered(alice_api, console=console)
    owner, pk = Client(), newest().user_id
    log_in(owner, "/t/acme/")

    assert "/accounts/user/" + str(alice.pk) in owner.get("/t/acme/accounts/user/").content.decode()
    assert "support:oscar" not in owner.get("/t/acme/accounts/user/").content.decode().partition("</p>")[2]
    form = {"username": "support:oscar", "role": "owner", "is_active": "on"}
    for path in ("change/", "password/"):
        assert owner.post(f"/t/acme/accounts/user/{pk}/{path}", form).status_code in (302, 404)
    with tenant_context("acme"):
        row = User.objects.get(pk=pk)
    assert (row.role, row.is_active, row.has_usable_password()) == ("reader", False, False)


@pytest.mark.parametrize("name", ["support:oscar", "support:", "a:b"])
def test_no_member_can_be_named_as_an_operator_is(alice, name):
    owner = Client()
    log_in(owner, "/t/acme/")
    passwords = {"password1": "another correct horse", "password2": "another correct horse", "usable_password": "true"}

    assert owner.post("/t/acme/accounts/user/add/", {"username": name, "role": "owner"} | passwords).status_code == 200
    with tenant_context("acme"):
        assert not User.objects.filter(username=name).exists()


def test_who_was_logged_in_as_a_member_acts_as_who_supports_and_no_more(entry, alice):
    browser = Client()
    log_in(browser, "/t/acme/")
    enter(entry, browser=browser)

    assert browser.get("/t/acme/accounts/user/").status_code == 403


def test_an_operator_who_was_renamed_stays_one_and_their_old_name_is_nobody_elses(console, alice_api):
    entered(alice_api, console=console)
    console.post(page_of(step="end/"))
    with control_plane():
        User.objects.filter(username="oscar").update(username="otto")
    renamed = console_of("otto")
    ask(renamed)
    assert newest().user.username == "support:otto"
    renamed.post(page_of(step="end/"))
    add_operator("oscar")
    with control_plane():
        User.objects.filter(username="otto").update(username="x" * 57)

    assert ask(console_of("oscar")).status_code == 302
    assert "too long" in ask(renamed).content.decode()
    with control_plane():
        User.objects.filter(username="oscar").update(username="ophelia")
        User.objects.filter(username="x" * 57).update(username="oscar")
    assert "has been another operator" in ask(renamed).content.decode()


def test_an_operator_who_is_disabled_asks_and_enters_no_more(console, alice_api):
    ask(console)
    grant(alice_api, newest())
    with control_plane():
        User.objects.filter(username="oscar").update(is_active=False)

    assert entry_of(console) is None
    with pytest.raises(Exception, match="no operator 'oscar'"):
        run("request_support_access", "globex", "--operator", "oscar", "--reason", "To see why")


def test_on_a_host_of_their_own_operators_are_sent_to_the_members(console, alice_api, settings):
    ask(console)
    grant(alice_api, newest())
    settings.BULKHEAD_OPERATOR_HOST = "operators.example"
    settings.ALLOWED_HOSTS = ["other.example", "app.example", "operators.example"]
    settings.BULKHEAD_PUBLIC_URL = "https://app.example:8443"

    page = console.post(page_of(step="enter/"), headers={"Host": "operators.example"})

    assert 'action="https://app.example:8443/t/acme/support/enter/"' in page.content.decode()
    policy, usual = page["Content-Security-Policy"], console.get("/operator/", headers={"Host": "operators.example"})
    assert policy.endswith("; form-action https://app.example:8443")
    expected = usual["Content-Security-Policy"].replace("form-action 'self'", "form-action https://app.example:8443")
    assert sorted(policy.split("; ")) == sorted(expected.split("; "))
