"""Argon2id as it is set here, and how many of it run at once."""

import threading
from contextlib import ExitStack

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import Argon2PasswordHasher, check_password, make_password
from django.db import connection

from tenants.accounts import hashers
from tenants.accounts.hashers import BoundedArgon2
from tenants.context import control_plane, tenant_context
from tenants.exceptions import TooBusyError
from tests.installation import PASSWORD
from tests.tenants.trying import API, FORM, attempt, opens

AS_SET = "argon2$argon2id$v=19$m=65536,t=3,p=1$"
DEPLOYED = {name: getattr(BoundedArgon2, name) for name in ("time_cost", "memory_cost")}


@pytest.fixture
def as_deployed(monkeypatch):
    """The costs that tests/conftest.py lowered for all other tests."""
    for name, value in DEPLOYED.items():
        monkeypatch.setattr(BoundedArgon2, name, value)


def test_a_password_is_hashed_with_64_mib_in_three_passes_on_one_thread(acme, as_deployed):
    with tenant_context("acme"):
        User = get_user_model()
        assert User.objects.create_user("zoe", PASSWORD).password.startswith(AS_SET)


def test_one_that_was_hashed_otherwise_is_hashed_anew_at_the_next_log_in(acme, alice, as_deployed):
    with tenant_context("acme"), connection.cursor() as cursor:
        old = Argon2PasswordHasher().encode(PASSWORD, "saltsaltsaltsaltsaltsa")
        cursor.execute("UPDATE accounts_user SET password = %s WHERE username = 'alice'", [old])
    assert not old.startswith(AS_SET)

    assert opens(API)

    with tenant_context("acme"):
        assert get_user_model().objects.get(username="alice").password.startswith(AS_SET)


@pytest.fixture
def all_turns_taken(settings, monkeypatch):
    monkeypatch.setattr(hashers, "WAIT_SECONDS", 0.01)
    with ExitStack() as turns:
        for _ in range(settings.BULKHEAD_PARALLEL_HASHES):
            turns.enter_context(hashers._in_turn())
        yield turns


@pytest.mark.parametrize("door", [API, FORM])
@pytest.mark.parametrize("tenant", ["acme", "nobody"])
def test_whoever_waits_too_long_for_their_turn_is_told_when_to_come_back(acme, all_turns_taken, door, tenant):
    answer = attempt(door, tenant, password=PASSWORD)

    assert (answer.status_code, answer["Retry-After"]) == (503, "5")
    if door == API:
        assert answer.json()["code"] == "too_busy"
    all_turns_taken.close()
    assert opens(door)


def test_no_more_are_hashed_at_once_than_is_set_and_the_others_wait_for_their_turn(settings, monkeypatch):
    """Two are held in the middle of it; of the others none has begun until they are let go."""
    settings.BULKHEAD_PARALLEL_HASHES = 2
    hashers._turns.cache_clear()
    at_once, most, guard = [], [], threading.Lock()
    both_are_in, go_on = threading.Barrier(3), threading.Event()
    encode = Argon2PasswordHasher.encode

    def watched(self, password, salt):
        with guard:
            at_once.append(password)
            most.append(len(at_once))
        if not go_on.is_set():
            both_are_in.wait(20)
            go_on.wait(20)
        try:
            return encode(self, password, salt)
        finally:
            with guard:
                at_once.remove(password)

    monkeypatch.setattr(Argon2PasswordHasher, "encode", watched)
    threads = [threading.Thread(target=make_password, args=[f"password {number}"]) for number in range(6)]
    for thread in threads:
        thread.start()
    both_are_in.wait(20)
    begun = len(most)
    go_on.set()
    for thread in threads:
        thread.join(30)
    hashers._turns.cache_clear()

    assert (begun, len(most), max(most)) == (2, 6, 2)


@pytest.mark.parametrize("what", ["hash", "compare"])
def test_a_turn_is_given_back_by_whoever_fails(installation, settings, monkeypatch, what):
    encoded = make_password(PASSWORD)

    def fails(*args):
        raise MemoryError

    monkeypatch.setattr(Argon2PasswordHasher, "encode", fails)
    monkeypatch.setattr(Argon2PasswordHasher, "verify", fails)
    monkeypatch.setattr(hashers, "WAIT_SECONDS", 0.01)
    for _ in range(settings.BULKHEAD_PARALLEL_HASHES + 1):
        with pytest.raises(MemoryError):
            make_password(PASSWORD) if what == "hash" else check_password(PASSWORD, encoded)


def test_an_operators_password_waits_for_its_turn_too(installation, all_turns_taken):
    with control_plane(), pytest.raises(TooBusyError):
        get_user_model().objects.create_user("somebody", PASSWORD)
