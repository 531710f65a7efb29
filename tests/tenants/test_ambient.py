"""The same key, name, user and value in two tenants: each gets its own, and accepts none of the other's."""

from datetime import timedelta

import pytest
from django.conf import settings as live
from django.contrib.auth import get_user_model
from django.contrib.auth.tokens import default_token_generator
from django.contrib.messages.storage.base import Message
from django.contrib.messages.storage.cookie import CookieStorage
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.core import signing
from django.core.cache import cache, caches
from django.test import Client, RequestFactory, override_settings
from jwt.exceptions import InvalidKeyError
from rest_framework.test import APIRequestFactory
from rest_framework.throttling import UserRateThrottle
from rest_framework_simplejwt.tokens import AccessToken

from tenants import facets, rotation
from tenants.context import control_plane, current_record, tenant_context
from tenants.exceptions import NoTenantError
from tenants.rotation import rotate_tenant_keys
from tests.tenants.browsing import is_in, log_in

KEPT_BY_A_MODULE = signing.Signer()


def in_each(work):
    """What it gives in acme, in globex and in control."""
    results = []
    for plane in (tenant_context("acme"), tenant_context("globex"), control_plane()):
        with plane:
            results.append(work())
    return results


def test_every_facet_gives_each_tenant_its_own(acme, globex):
    def probes():
        return {facet.name: facet.probe() for facet in facets.registered()}

    with tenant_context("acme"):
        first, again = probes(), probes()
    with tenant_context("globex"):
        second = probes()

    assert first == again
    assert set(first) == set(second) and len(first) >= 9
    assert [name for name in first if first[name] == second[name]] == []


@pytest.mark.parametrize("alias", live.CACHES)
def test_a_cache_key_is_another_entry_in_each_plane(acme, globex, alias):
    for value, plane in (("acme's", tenant_context("acme")), ("globex's", tenant_context("globex"))):
        with plane:
            assert caches[alias].get("key") is None
            caches[alias].set_many({"key": value, "other": value})
            caches[alias].set("counter", 1)
            caches[alias].incr("counter")

    with tenant_context("acme"):
        assert caches[alias].get_many(["key", "other", "counter"]) == {"key": "acme's", "other": "acme's", "counter": 2}
        caches[alias].delete("key")
    with tenant_context("globex"):
        assert caches[alias].get("key") == "globex's"
    with control_plane():
        assert caches[alias].get("key") is None
    caches[alias].clear()


@pytest.mark.parametrize("use", [lambda: cache.get("key"), lambda: cache.set("key", 1), lambda: cache.delete("key")])
def test_a_cache_is_not_used_where_nothing_is_bound(installation, use):
    with pytest.raises(NoTenantError):
        use()


def test_a_throttle_counts_each_tenants_user_of_that_key_by_itself(alice, globex):
    throttle = type("Throttle", (UserRateThrottle,), {"rate": "2/hour"})
    request = APIRequestFactory().get("/")
    request.user = alice  # the same user, so the same key

    def ask():
        return [throttle().allow_request(request, None) for _ in range(3)]

    assert in_each(ask) == [[True, True, False]] * 3
    cache.clear()


def test_each_plane_has_keys_of_its_own_and_none_tells_what_it_is_made_from(acme, globex):
    keys = in_each(lambda: str(live.SECRET_KEY))
    secrets = [str(key) for slug in ("acme", "globex") for key in registry_keys(slug)]

    assert len({*keys, *secrets}) == 5
    assert keys[2] == str(live._wrapped.SECRET_KEY) == str(live.SECRET_KEY)
    assert "*" in repr([live.SECRET_KEY])


def registry_keys(slug):
    with tenant_context(slug):
        return list(current_record().signing_keys.values())


def cookie(name):
    storage = CookieStorage(RequestFactory().get("/"))
    return storage._encode([Message(20, name)])


SIGNED = {
    "dumps": (lambda user: signing.dumps(user.pk.hex), lambda user, value: signing.loads(value)),
    "Signer": (lambda user: signing.Signer().sign("x"), lambda user, value: signing.Signer().unsign(value)),
    "a kept Signer": (lambda user: KEPT_BY_A_MODULE.sign("x"), lambda user, value: KEPT_BY_A_MODULE.unsign(value)),
    "a cookie": (
        lambda user: signing.get_cookie_signer().sign("x"),
        lambda user, value: signing.get_cookie_signer().unsign(value),
    ),
    "a message": (
        lambda user: cookie("hello"),
        lambda user, value: CookieStorage(RequestFactory().get("/"))._decode(value),
    ),
    "a password reset": (
        lambda user: default_token_generator.make_token(user),
        lambda user, value: default_token_generator.check_token(user, value),
    ),
    "a session hash": (
        lambda user: user.get_session_auth_hash(),
        lambda user, value: value == user.get_session_auth_hash(),
    ),
    "a session's content": (
        lambda user: SessionStore().encode({"user": user.pk.hex}),
        lambda user, value: SessionStore().decode(value),
    ),
}


@pytest.mark.parametrize(("sign", "read"), SIGNED.values(), ids=SIGNED)
def test_what_one_plane_signed_is_nothing_to_another(alice, globex, sign, read):
    def accepts(value):
        try:
            return bool(read(alice, value))
        except signing.BadSignature:
            return False

    values = in_each(lambda: sign(alice))
    accepted = [in_each(lambda value=value: accepts(value)) for value in values]

    assert accepted == [[True, False, False], [False, True, False], [False, False, True]]


def test_what_an_older_key_signed_is_accepted_until_that_key_is_gone(acme, globex, monkeypatch):
    monkeypatch.setattr(rotation, "KNOWN_EVERYWHERE", timedelta(0))  # the new key signs at once
    signed = []
    for emergency in (False, True):
        with tenant_context("acme"):
            signed += [signing.dumps("value"), KEPT_BY_A_MODULE.sign("value")]
        rotate_tenant_keys(slug="acme", emergency=emergency)
        with tenant_context("acme"):
            if emergency:
                for value in signed:
                    with pytest.raises(signing.BadSignature):
                        KEPT_BY_A_MODULE.unsign(value)
                    with pytest.raises(signing.BadSignature):
                        signing.loads(value)
            else:
                assert (signing.loads(signed[0]), KEPT_BY_A_MODULE.unsign(signed[1])) == ("value", "value")


def test_a_session_of_a_cloned_tenant_opens_the_original_alone(alice, globex):
    """The clone has the same users with the same passwords, and the same sessions."""
    browser = Client()
    log_in(browser, "/t/acme/")
    key = browser.cookies["sessionid_acme"].value
    with tenant_context("acme"):
        users = list(get_user_model().objects.values())
        rows = list(Session.objects.values())
    with tenant_context("globex"):
        get_user_model().objects.all().delete()
        get_user_model().objects.bulk_create([get_user_model()(**values) for values in users])
        Session.objects.bulk_create([Session(**values) for values in rows])
    browser.cookies["sessionid_globex"] = key

    assert is_in(browser, "/t/acme/") and not is_in(browser, "/t/globex/")


def test_outside_tenants_the_setting_is_the_installations_and_may_be_overridden(acme, settings):
    before = live.SECRET_KEY
    with override_settings(SECRET_KEY="overridden", SECRET_KEY_FALLBACKS=["older"]):
        assert (live.SECRET_KEY, live.SECRET_KEY_FALLBACKS) == ("overridden", ["older"])
        assert signing.Signer().key == "overridden"
        with tenant_context("acme"):
            assert live.SECRET_KEY not in ("overridden", before)
            assert live.SECRET_KEY_FALLBACKS == ()
    assert before == live.SECRET_KEY
    settings.SECRET_KEY = "set by a test"
    assert live.SECRET_KEY == "set by a test"
    with control_plane():
        assert signing.loads(signing.dumps("x"), key="set by a test") == "x"


def test_a_key_that_is_given_is_the_one_that_signs(acme):
    signer = signing.Signer(key="given", fallback_keys=["older"])

    assert signer.key == "given" and signer.fallback_keys == ["older"]
    with tenant_context("acme"):
        assert signer.unsign(signing.Signer(key="older").sign("x")) == "x"


def test_stock_simplejwt_signs_nothing(alice):
    """It would keep the key that it read at its import, and accept one tenant's tokens in another."""
    with tenant_context("acme"), pytest.raises(InvalidKeyError):
        str(AccessToken.for_user(alice))
