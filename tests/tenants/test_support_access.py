"""Support access, from the request to its end. What is refused at each step: tests/tenants/test_support_refusals.py."""

import pytest
from django.contrib.auth import get_user_model
from django.test import Client

from tenants.accounts import second_factor
from tenants.accounts.models import SupportAccess, User
from tenants.audit.models import AuditEvent
from tenants.context import control_plane, tenant_context
from tenants.registry import FRESH_SECONDS, registry
from tests.scans.rows import make_target
from tests.tenants.browsing import log_in
from tests.tenants.supporting import (
    API,
    REASON,
    add_operator,
    ask,
    console_of,
    enter,
    entered,
    entry_of,
    grant,
    newest,
    page_of,
)
from tests.tenants.test_commands import run


@pytest.fixture
def console(installation):
    return console_of()


@pytest.fixture
def owner(alice):
    browser = Client()
    log_in(browser, "/t/acme/")
    return browser


def target_form(name="new"):
    management = {f"authorizations-{each}_FORMS": "0" for each in ("TOTAL", "INITIAL")}
    return {"name": name, "host": "new.example.com", "ports": "[80]", "is_active": "on"} | management


def test_what_an_operator_asks_for_an_owner_grants_and_then_the_operator_is_in(console, alice_api, alice):
    with tenant_context("acme"):
        make_target(alice, name="the shop")
    assert ask(console)["Location"] == page_of()
    (asked,) = alice_api.get(API).json()["results"]
    assert (asked["operator"], asked["state"], asked["reason"]) == ("support:oscar", "asked", REASON)
    assert "granted" not in console.get(page_of()).content.decode()
    assert entry_of(console) is None

    granted = grant(alice_api, newest())
    browser, answer = enter(entry_of(console))

    assert (granted.status_code, granted.json()["state"], granted.json()["granted_by"]) == (
        200,
        "granted",
        str(alice.pk),
    )
    assert (answer.status_code, answer["Location"]) == (302, "/t/acme/")
    assert "SUPPORT:OSCAR" in browser.get("/t/acme/").content.decode().upper()
    assert "the shop" in browser.get("/t/acme/scans/target/").content.decode()


def test_a_command_asks_too(acme, console, alice_api):
    out = run("request_support_access", "acme", "--operator", "oscar", "--reason", REASON, "--full", "--hours", "3")

    (asked,) = alice_api.get(API).json()["results"]
    assert out.startswith("An owner of acme is asked.")
    assert (asked["operator"], asked["scope_asked"], asked["hours_asked"]) == ("support:oscar", "full", 3)
    assert grant(alice_api, newest()).status_code == 200
    assert entry_of(console) is not None


def test_an_owner_decides_in_the_workspace(console, owner):
    ask(console, scope="full", hours=5)
    change = f"/t/acme/accounts/supportaccess/{newest().pk}/change/"
    assert change in owner.get("/t/acme/").content.decode()
    page = owner.get(change).content.decode()
    assert 'value="grant"' in page and 'value="full"' in page and "<option selected>5</option>" in page

    decided = owner.post(change.replace("change", "decide"), {"decision": "grant", "scope": "read", "hours": "2"})
    page = owner.get(change).content.decode()
    ended = owner.post(change.replace("change", "decide"), {"decision": "end"})

    assert (decided.status_code, ended.status_code) == (302, 302)
    assert 'value="end"' in page and 'value="grant"' not in page
    assert (newest().scope, newest().state) == ("read", "ended")


def test_what_is_refused_is_over(console, owner):
    ask(console)
    owner.post(f"/t/acme/accounts/supportaccess/{newest().pk}/decide/", {"decision": "refuse"})

    assert newest().state == "refused"
    assert entry_of(console) is None


def test_read_only_reads_only(console, alice_api):
    browser = entered(alice_api, "read", console)

    assert browser.get("/t/acme/scans/target/").status_code == 200
    assert browser.post("/t/acme/scans/target/add/", target_form()).status_code == 403


def test_who_may_work_there_works_under_their_own_name(console, alice_api):
    browser = entered(alice_api, "full", console)

    assert browser.post("/t/acme/scans/target/add/", target_form()).status_code == 302
    (target,) = alice_api.get("/api/v1/targets/").json()["results"]
    with tenant_context("acme"):
        assert get_user_model().objects.get(pk=target["created_by"]).username == "support:oscar"


ENDS = {
    "an owner, through the API": lambda access, api, owner, console: api.post(f"{API}{access.pk}/end/"),
    "an owner, in the workspace": lambda access, api, owner, console: owner.post(
        f"/t/acme/accounts/supportaccess/{access.pk}/decide/", {"decision": "end"}
    ),
    "the operator": lambda access, api, owner, console: console.post(page_of(step="end/")),
    "its last moment": lambda access, api, owner, console: expire(access),
}


def expire(access):
    with tenant_context("acme"):
        SupportAccess.objects.filter(pk=access.pk).update(expires_at=access.granted_at)


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_when_it_ends_the_session_opens_nothing_any_more(console, alice_api, owner, end):
    browser = entered(alice_api, "full", console)
    assert browser.get("/t/acme/scans/target/").status_code == 200
    end(newest(), alice_api, owner, console)

    for answer in (browser.get("/t/acme/scans/target/"), browser.post("/t/acme/scans/target/add/", target_form())):
        assert (answer.status_code, answer["Location"].partition("?")[0]) == (302, "/t/acme/login/")
    assert entry_of(console) is None
    assert alice_api.get("/api/v1/targets/").json()["results"] == []


def disable_in_console(operator):
    form = {"username": operator.username, "email": "", "version": operator.version}
    assert console_of().post(f"/operator/accounts/user/{operator.pk}/change/", form).status_code == 302


def disable_by_shell(operator):
    with control_plane():
        assert User.objects.filter(pk=operator.pk).update(is_active=False) == 1


@pytest.mark.parametrize("disable", [disable_in_console, disable_by_shell])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_operator_who_is_disabled_is_out_at_once_by_unsafe_requests_and_soon_by_others(alice_api, disable, method):
    operator = add_operator("olga")
    browser = entered(alice_api, "full", console_of("olga"))
    assert browser.get("/t/acme/scans/target/").status_code == 200
    disable(operator)
    if method == "GET":
        registry._polled_at -= FRESH_SECONDS  # time passes

    answer = browser.generic(method, "/t/acme/scans/target/add/")
    assert (answer.status_code, answer["Location"].partition("?")[0]) == (302, "/t/acme/login/")
    assert browser.post("/t/acme/scans/target/add/", target_form()).status_code == 302
    assert alice_api.get("/api/v1/targets/").json()["results"] == []


def test_an_entry_of_an_operator_who_is_disabled_opens_nothing(alice_api):
    operator = add_operator("olga")
    console = console_of("olga")
    ask(console)
    grant(alice_api, newest())
    entry = entry_of(console)
    disable_by_shell(operator)

    assert enter(entry)[1].status_code == 403


def test_a_session_is_of_one_access_and_not_of_the_next(console, alice_api):
    former = entered(alice_api, "read", console)
    alice_api.post(f"{API}{newest().pk}/end/")
    latter = entered(alice_api, "full", console)

    assert latter.get("/t/acme/scans/target/").status_code == 200
    assert former.get("/t/acme/scans/target/").status_code == 302


def test_everybody_is_told_on_the_first_page_and_by_the_api_while_it_is_granted(console, alice_api, tom_api, owner):
    def told():
        tom = Client()
        log_in(tom, "/t/acme/", "tom")
        page = tom.get("/t/acme/").content.decode()
        return [
            REASON in page and "support:oscar" in page,
            [each["operator"] for each in tom_api.get("/api/v1/me/").json()["support_access"]],
        ]

    ask(console)
    asked = told()
    grant(alice_api, newest())
    granted = told()
    console.post(page_of(step="end/"))

    assert (asked, granted, told()) == ([False, []], [True, ["support:oscar"]], [False, []])


def test_who_supports_needs_no_second_factor_of_the_tenants(console, alice_api):
    browser = entered(alice_api, "read", console)
    with tenant_context("acme"):
        second_factor.require_of_everybody(True)

    assert browser.get("/t/acme/scans/target/").status_code == 200


def told(plane, *actions):
    with plane:
        found = AuditEvent.objects.filter(action__in=actions).order_by("number")
        return [(each.action, each.actor, each.object_name) for each in found]


def steps():
    """What acme's audit says of support accesses, and who did it."""
    with tenant_context("acme"):
        events = AuditEvent.objects.filter(resource="accounts.supportaccess").order_by("number")
        return [(each.action, each.actor, sorted(each.changes)) for each in events]


def test_each_step_stands_in_the_tenants_audit_with_who_took_it(console, alice_api):
    browser = entered(alice_api, "full", console)
    browser.post("/t/acme/scans/target/add/", target_form())
    alice_api.post(f"{API}{newest().pk}/end/")
    found = steps()

    assert [(action, actor) for action, actor, _ in found] == [
        ("created", "operator oscar"),
        ("changed", "alice"),
        ("changed", "operator oscar"),
        ("changed", ""),
        ("support_entered", "support:oscar"),
        ("changed", "alice"),
    ]
    assert "reason" in found[0][2] and {"granted_by", "scope", "expires_at"} <= set(found[1][2])
    assert {"ended_by", "ending"} <= set(found[-1][2])
    with tenant_context("acme"):
        added = AuditEvent.objects.get(resource="scans.target", action="created")
    assert added.actor == "support:oscar"


def test_what_operators_ask_for_and_when_they_enter_stands_in_their_own_audit(console, alice_api):
    entered(alice_api, "read", console)
    run("request_support_access", "globex", "--operator", "oscar", "--reason", REASON)
    asked, made, by_command = told(control_plane(), "support_asked", "support_entry_made")

    assert (asked, made) == (("support_asked", "oscar", "acme"), ("support_entry_made", "oscar", "acme"))
    assert (by_command[0], by_command[2]) == ("support_asked", "globex")
