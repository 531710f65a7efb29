"""What ends a log-in, and when it is heard of."""

import json
from base64 import urlsafe_b64decode
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from threading import Barrier, Event, current_thread, main_thread

import pyotp
import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.tokens import default_token_generator
from django.contrib.sessions.models import Session
from django.core import signing
from django.db import OperationalError, connection, connections, transaction
from django.db.models import QuerySet
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from tenants import registry as registry_module
from tenants.accounts import logins, second_factor
from tenants.accounts.api_keys import make_key
from tenants.accounts.models import ApiKey, Login
from tenants.audit.models import AuditHead
from tenants.audit.trail import lock_head
from tenants.context import control_plane, tenant_context
from tenants.exceptions import InvalidTokenError, TenantUnavailableError
from tenants.models import RegistryRevision, Tenant
from tenants.services import create_tenant
from tenants.tokens import TenantAccessToken, TenantRefreshToken, verify
from tests.installation import PASSWORD
from tests.serving import WebServer, seconds_until_always
from tests.tenants.browsing import is_in
from tests.tenants.browsing import log_in as browser_log_in
from tests.tenants.states import set_state

UNAUTHORISED = {"code": "not_authenticated", "detail": "The credentials are not valid."}
WITHIN_SECONDS = 2.0
TARGET = {"name": "shop", "host": "127.0.0.1"}


def post(path, **body):
    return APIClient().post(f"/api/v1/{path}", body, format="json")


def log_in(username="alice", password=PASSWORD, tenant="acme"):
    return post("token/", tenant=tenant, username=username, password=password).json()


def refresh(tokens):
    return post("token/refresh/", refresh=tokens["refresh"])


def read(tokens):
    return APIClient().get("/api/v1/targets/", headers={"Authorization": f"Bearer {tokens['access']}"}).status_code


def write(tokens):
    """What an unsafe request gets that its role allows: 400 for its body, when the log-in stands."""
    headers = {"Authorization": f"Bearer {tokens['access']}"}
    return APIClient().post("/api/v1/targets/", {}, format="json", headers=headers).status_code


def claims(token):
    return json.loads(urlsafe_b64decode(token.split(".")[1] + "=="))


def ending(tokens):
    with tenant_context("acme"):
        return Login.objects.get(pk=claims(tokens["access"])["login"]).ending


def change(username, **changes):
    with tenant_context("acme"):
        user = get_user_model().objects.get(username=username)
        for name, value in changes.items():
            setattr(user, name, value)
        user.save(update_fields=list(changes))


def test_a_renewed_pair_is_of_the_same_log_in_and_both_access_tokens_open_it(acme):
    first = log_in()
    second = refresh(first).json()

    assert claims(second["access"])["login"] == claims(first["access"])["login"]
    assert (write(first), write(second), read(first), read(second)) == (400, 400, 200, 200)
    assert refresh(second).status_code == 200


def test_a_refresh_token_that_is_used_again_ends_its_log_in_and_no_other(acme):
    tokens, elsewhere = log_in(), log_in()
    renewed = refresh(tokens).json()

    answer = refresh(tokens)

    assert (answer.status_code, answer.json()) == (401, UNAUTHORISED)
    assert (refresh(renewed).json(), write(renewed)) == (UNAUTHORISED, 401)
    assert ending(tokens) == "reused"
    assert (refresh(elsewhere).status_code, write(elsewhere)) == (200, 400)


def test_of_refreshes_in_parallel_one_succeeds(acme):
    tokens, together = log_in(), Barrier(6)

    def once(_):
        together.wait()
        return refresh(tokens).status_code

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(once, range(6)))

    assert sorted(answers) == [200] + [401] * 5


def test_a_token_from_a_renewal_that_the_database_has_forgotten_ends_the_log_in(acme):
    """As after a copy of yesterday's was put in its place: the number would be given to two tokens."""
    tokens = log_in()
    renewed = refresh(tokens).json()
    with tenant_context("acme"):
        Login.objects.filter(pk=claims(tokens["access"])["login"]).update(generation=1)

    assert refresh(renewed).status_code == 401
    assert refresh(tokens).status_code == 401


def test_logging_out_ends_one_log_in_or_all_of_the_member(acme, globex):
    here, there, everywhere, toms = log_in(), log_in(), log_in(), log_in("tom")

    assert post("token/logout/", refresh=here["refresh"]).status_code == 204
    assert [write(tokens) for tokens in (here, there, everywhere)] == [401, 400, 400]
    assert [read(tokens) for tokens in (here, there, everywhere)] == [401, 200, 200]
    assert refresh(here).json() == UNAUTHORISED
    assert post("token/logout/", refresh=everywhere["refresh"], everywhere=True).status_code == 204
    assert [write(tokens) for tokens in (there, everywhere, toms)] == [401, 401, 400]


def test_what_is_left_of_an_ended_log_in_ends_no_other(acme):
    ended, standing = log_in(), log_in()
    post("token/logout/", refresh=ended["refresh"])

    assert post("token/logout/", refresh=ended["refresh"], everywhere=True).json() == UNAUTHORISED
    assert write(standing) == 400


@pytest.mark.parametrize("body", [{}, {"refresh": ""}, {"refresh": "x", "everywhere": "perhaps"}, {"refresh": 7}])
def test_a_malformed_log_out_is_refused(acme, body):
    assert post("token/logout/", **body).status_code in (400, 401)


def test_an_access_token_logs_nobody_out(acme):
    tokens = log_in()

    assert post("token/logout/", refresh=tokens["access"]).json() == UNAUTHORISED
    assert write(tokens) == 400


def test_a_new_password_ends_the_log_ins_of_its_member_alone(acme):
    tokens, toms = log_in(), log_in("tom")
    with tenant_context("acme"):
        user = get_user_model().objects.get(username="alice")
        user.set_password("another correct horse")
        user.save()

    assert (write(tokens), refresh(tokens).status_code, ending(tokens)) == (401, 401, "new_credentials")
    assert write(toms) == 400


def test_a_disabled_member_stays_logged_out_when_enabled_again(acme):
    tokens = log_in("tom")
    change("tom", is_active=False)
    refused = write(tokens), read(tokens), refresh(tokens).status_code
    change("tom", is_active=True)

    assert refused == (401, 401, 401)
    assert (write(tokens), refresh(tokens).status_code, ending(tokens)) == (401, 401, "disabled")
    assert write(log_in("tom")) == 400


def test_a_member_disabled_in_bulk_cannot_renew(acme):
    tokens = log_in("tom")
    with tenant_context("acme"):
        get_user_model().objects.filter(username="tom").update(is_active=False)

    assert (read(tokens), refresh(tokens).json(), write(tokens)) == (401, UNAUTHORISED, 401)


def test_an_account_that_is_saved_as_it_was_stays_logged_in(acme):
    tokens = log_in("tom")
    change("tom", email="tom@acme.example", role="owner")
    with tenant_context("acme"):
        get_user_model().objects.only("email", "version").get(username="tom").save(update_fields=["email"])

    assert write(tokens) == 400


def test_a_change_that_is_rolled_back_ends_no_log_in(acme):
    tokens = log_in("tom")
    with tenant_context("acme"), pytest.raises(ZeroDivisionError), transaction.atomic():
        user = get_user_model().objects.get(username="tom")
        user.set_password("another correct horse")
        user.save()
        raise ZeroDivisionError

    assert write(tokens) == 400


def test_a_role_is_what_it_is_now_and_not_what_it_was_at_the_log_in(acme):
    tokens = log_in("tom")
    headers = {"Authorization": f"Bearer {tokens['access']}"}

    def authorise():
        return APIClient().post(f"/api/v1/targets/{claims(tokens['access'])['sub']}/authorizations/", headers=headers)

    before = authorise().status_code
    change("tom", role="owner")

    assert (before, authorise().status_code) == (403, 404)


def test_a_log_in_has_a_last_moment_however_often_it_is_renewed(acme):
    tokens = log_in()
    with tenant_context("acme"):
        Login.objects.update(expires_at=timezone.now() + timedelta(minutes=30))
    renewed = refresh(tokens).json()
    lives = claims(renewed["refresh"])
    with tenant_context("acme"):
        Login.objects.update(expires_at=timezone.now() + timedelta(minutes=5))
    renewed = refresh(renewed).json()
    shorter = claims(renewed["access"])
    with tenant_context("acme"):
        Login.objects.update(expires_at=timezone.now() - timedelta(seconds=1))

    assert 1790 <= lives["exp"] - lives["iat"] <= 1801
    assert 290 <= shorter["exp"] - shorter["iat"] <= 301
    assert refresh(renewed).json() == UNAUTHORISED
    assert ending(tokens) == "", "it expired: nobody has used a token twice"


def test_a_log_in_forgets_those_that_have_expired(acme):
    old = claims(log_in()["access"])["login"]
    toms = claims(log_in("tom")["access"])["login"]
    with tenant_context("acme"):
        Login.objects.update(expires_at=timezone.now() - timedelta(minutes=2))
    new = claims(log_in()["access"])["login"]

    with tenant_context("acme"):
        assert {str(each.pk) for each in Login.objects.all()} == {new, toms} != {new, old}


def test_reading_costs_no_query_for_the_account_but_two_a_second(acme, monkeypatch):
    monkeypatch.setattr(logins, "FRESH_SECONDS", 60.0)
    tokens = log_in()
    said = verify(tokens["access"])
    with tenant_context("acme"):
        with CaptureQueriesContext(connection) as first:
            role = logins.require_standing(said, at_once=False)
        with CaptureQueriesContext(connection) as later:
            roles = {logins.require_standing(said, at_once=False) for _ in range(100)}
        with CaptureQueriesContext(connection) as unsafe:
            logins.require_standing(said, at_once=True)
        queries = len(first), len(later), len(unsafe)

    assert (queries, {role}, roles) == ((2, 0, 1), {"owner"}, {"owner"})


def test_what_changes_something_asks_the_database_whatever_was_read_lately(acme, monkeypatch):
    monkeypatch.setattr(logins, "FRESH_SECONDS", 60.0)
    tokens = log_in()
    before = read(tokens), write(tokens)
    post("token/logout/", refresh=tokens["refresh"])

    assert (before, read(tokens), write(tokens)) == ((200, 400), 200, 401)


def test_a_member_who_is_newer_than_what_was_read_is_served(acme, monkeypatch):
    monkeypatch.setattr(logins, "FRESH_SECONDS", 60.0)
    assert read(log_in()) == 200
    with tenant_context("acme"):
        get_user_model().objects.create_user("nina", PASSWORD)

    assert read(log_in("nina")) == 200


def test_what_was_read_of_one_tenant_is_not_asked_for_another(acme, globex, monkeypatch):
    monkeypatch.setattr(logins, "FRESH_SECONDS", 60.0)
    tokens = log_in()
    assert read(tokens) == 200
    said = verify(tokens["access"])

    with tenant_context("globex"), pytest.raises(InvalidTokenError):
        logins.require_standing(said, at_once=False)
    assert read(log_in("mallory", tenant="globex")) == 200


@pytest.mark.parametrize("door", ["the API", "the workspace"])
def test_what_changes_something_hears_of_a_suspension_at_once(acme, monkeypatch, door):
    """Also when this process has just looked, and another one suspends the tenant."""
    tokens, browser = log_in(), Client()
    browser_log_in(browser, "/t/acme/")

    def statuses():
        if door == "the API":
            return read(tokens), write(tokens)
        return browser.get("/t/acme/").status_code, browser.post("/t/acme/scans/target/add/").status_code

    before = statuses()
    monkeypatch.setattr(registry_module, "FRESH_SECONDS", 60.0)
    monkeypatch.setattr(registry_module, "STALE_SECONDS", 90.0)
    registry_module.registry.get("acme")
    with monkeypatch.context() as patch:
        patch.setattr(registry_module.registry, "expire", lambda: None)
        set_state("acme", "maintenance")

    assert (before, statuses()) == ((200, 400 if door == "the API" else 200), (200, 503))


def test_what_changes_something_is_not_begun_when_control_cannot_be_read(acme, monkeypatch):
    tokens = log_in()
    before = write(tokens)

    def fail():
        raise OperationalError("control is gone")

    monkeypatch.setattr(registry_module, "_committed_control", fail)

    assert (before, read(tokens), write(tokens)) == (400, 200, 503)
    with pytest.raises(TenantUnavailableError):
        registry_module.registry.look()


@pytest.mark.parametrize("whose", ["nobody's", "somebody else's"])
def test_a_token_that_names_another_log_in_changes_nothing(alice, tom, whose):
    """Only the tenant's own key can have made it. Reading alone is not asked of the database."""
    with tenant_context("acme"):
        others = Login.objects.create(user=tom).pk if whose == "somebody else's" else alice.pk
        genuine = TenantRefreshToken.for_user(alice).access_token
        token = str(genuine)
        genuine["login"] = str(others)
        forged = str(genuine)

    assert (write({"access": token}), write({"access": forged})) == (400, 401)


@pytest.mark.parametrize("claim", ["login", "generation"])
@pytest.mark.parametrize("value", [None, "", "x", 0, -1, True, 1.0, [], {}, "1", "\0", 2**31], ids=repr)
def test_a_token_that_names_no_log_in_is_no_token(alice, claim, value):
    with tenant_context("acme"):
        genuine = TenantRefreshToken.for_user(alice).access_token
        genuine[claim] = value
        token = str(genuine)
    with pytest.raises(InvalidTokenError):
        verify(token)


def test_a_stock_token_of_the_right_key_names_no_log_in(alice):
    with tenant_context("acme"):
        token = str(TenantAccessToken.for_user(alice))
    with pytest.raises(InvalidTokenError):
        verify(token)


ENDINGS = {
    "log-out": lambda web, tokens: web.ask("POST", "/api/v1/token/logout/", {"refresh": tokens["refresh"]}),
    "password": lambda web, tokens: change("tom", password="!"),
    "disabled": lambda web, tokens: change("tom", is_active=False),
    "reuse": lambda web, tokens: [
        web.ask("POST", "/api/v1/token/refresh/", {"refresh": tokens["refresh"]}) for _ in range(2)
    ],
}


def test_an_end_is_heard_of_within_two_seconds_everywhere_and_at_once_where_something_is_changed(installation, acme):
    with WebServer(installation) as web:
        for name, end in ENDINGS.items():
            change("tom", is_active=True)
            with tenant_context("acme"):
                user = get_user_model().objects.get(username="tom")
                user.set_password(PASSWORD)
                user.save()
            tokens = web.log_in("acme", "tom", PASSWORD)[1]

            def me(tokens=tokens):
                return web.ask("GET", "/api/v1/me/", token=tokens["access"])[0]

            assert {me() for _ in range(20)} == {200}, name
            end(web, tokens)
            writes = {web.ask("POST", "/api/v1/targets/", TARGET, tokens["access"])[0] for _ in range(20)}
            assert writes == {401}, name
            assert seconds_until_always(401, me) < WITHIN_SECONDS, name


def test_a_role_is_heard_of_within_two_seconds_and_at_once_where_something_is_changed(installation, acme):
    with WebServer(installation) as web:
        token = web.log_in("acme", "tom", PASSWORD)[1]["access"]
        path = "/api/v1/targets/00000000-0000-7000-8000-000000000000/authorizations/"
        before = {web.ask("POST", path, {"x": 1}, token)[0] for _ in range(20)}
        change("tom", role="owner")

        assert (before, {web.ask("POST", path, {"x": 1}, token)[0] for _ in range(20)}) == ({403}, {404})
        assert web.ask("GET", "/api/v1/me/", token=token)[1]["role"] == "owner"


def test_a_slug_that_is_used_again_opens_with_nothing_of_the_tenant_that_had_it(alice):
    """Whatever its new tenant's database holds: the same member with the same key and hash, the same session row."""
    User = get_user_model()
    tokens, browser = log_in(), Client()
    browser_log_in(browser, "/t/acme/")
    with tenant_context("acme"):
        signed, reset = signing.dumps("value"), default_token_generator.make_token(User.objects.get(pk=alice.pk))
        users, sessions = list(User.objects.values()), list(Session.objects.values())
        text = make_key(alice, name="CI", expires_at=timezone.now() + timedelta(days=1))[1]
        keys, rows = list(ApiKey.objects.values()), list(Login.objects.values())
    with control_plane(), transaction.atomic():
        RegistryRevision.publish(Tenant.objects.filter(slug="acme"), slug="former", state="deleted")
    create_tenant(slug="acme")
    with tenant_context("acme"):
        for model, copied in ((User, users), (Session, sessions), (ApiKey, keys), (Login, rows)):
            model.objects.bulk_create([model(**row) for row in copied])
        with pytest.raises(signing.BadSignature):
            signing.loads(signed)
        assert not default_token_generator.check_token(User.objects.get(pk=alice.pk), reset)

    assert (read(tokens), write(tokens), refresh(tokens).status_code) == (401, 401, 401)
    assert (is_in(browser, "/t/acme/"), read({"access": text})) == (False, 401)
    assert read(log_in()) == 200


def enrol():
    with tenant_context("acme"):
        user = get_user_model().objects.get(username="alice")
        secret = second_factor.begin(user)
        assert second_factor.confirm(user, pyotp.TOTP(secret).now())


def require_a_second_factor():
    with tenant_context("acme"):
        second_factor.require_of_everybody(True)


MEANWHILE = {
    "a new password": (partial(change, "alice", password="argon2$another"), 401),
    "disabled": (partial(change, "alice", is_active=False), 401),
    "a second factor": (enrol, 401),
    "a second factor of everybody": (require_a_second_factor, 403),
}


@pytest.mark.parametrize(("meanwhile", "status"), MEANWHILE.values(), ids=MEANWHILE)
def test_a_log_in_that_is_under_way_when_log_ins_end_opens_nothing(alice, monkeypatch, meanwhile, status):
    """Its password was right when it was looked at: whoever has it and tries all the time is always under way."""
    with tenant_context("acme"):
        get_user_model().objects.create_user("olivia", PASSWORD, role="owner")
    ask, check_password = [meanwhile], get_user_model().check_password

    def right_before_it_changes(self, password):
        is_right = check_password(self, password)
        with ThreadPoolExecutor(1) as other:
            other.submit(ask.pop()).result()
        return is_right

    monkeypatch.setattr(get_user_model(), "check_password", right_before_it_changes)
    answer = post("token/", tenant="acme", username="alice", password=PASSWORD)

    assert (answer.status_code, ask) == (status, [])
    with tenant_context("acme"):
        assert not alice.logins.filter(ended_at=None).exists()


def test_a_log_out_that_cannot_be_recorded_has_not_happened(acme, monkeypatch):
    tokens = log_in()

    def fail(*args, **facts):
        raise OperationalError("The server has gone away.")

    with monkeypatch.context() as failing:
        failing.setattr(logins, "record", fail)
        assert post("token/logout/", refresh=tokens["refresh"], everywhere=True).status_code == 503

    assert (write(tokens), post("token/logout/", refresh=tokens["refresh"]).status_code) == (400, 204)


@pytest.mark.parametrize("end", ["by the API", "on the page"])
def test_log_ins_that_end_by_two_hands_at_once_wait_for_each_other_in_no_circle(alice, tom, monkeypatch, end):
    tokens, browser = log_in("tom"), Client()
    browser_log_in(browser, "/t/acme/", "tom")
    asks, select_for_update = Event(), QuerySet.select_for_update

    def noting(self, *args, **kwargs):
        if self.model is AuditHead and current_thread() is not main_thread():
            asks.set()
        return select_for_update(self, *args, **kwargs)

    def log_out():
        try:
            if end == "by the API":
                return post("token/logout/", refresh=tokens["refresh"]).status_code
            return browser.post("/t/acme/open-sessions/", {"end": "others", "password": PASSWORD}).status_code
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as other:
        with tenant_context("acme"), transaction.atomic():
            lock_head()
            monkeypatch.setattr(QuerySet, "select_for_update", noting)
            status = other.submit(log_out)
            assert connection.vendor == "sqlite" or asks.wait(60)  # on SQLite its own transaction has not begun
            tom.logins.end(Login.Ending.DISABLED)
        assert status.result() in (200, 401)
