"""A forgotten password: who gets a link, what it opens, and what ends it."""

import logging
import threading
import time
from dataclasses import replace

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import make_password
from django.db import connections
from django.test import Client

from tenants.accounts import links, second_factor, tries
from tenants.accounts.models import MailLink
from tenants.context import control_plane, current_record, tenant_context
from tenants.rotation import rotate_tenant_keys
from tenants.services import suspend_tenant
from tests.conftest import api_client
from tests.installation import PASSWORD
from tests.routes.world import contents
from tests.tenants.browsing import form, is_in, log_in
from tests.tenants.enrolling import Clock, browser_of, enrol
from tests.tenants.mailing import (
    NEW,
    ask,
    change,
    choose,
    code_in,
    empty_mailbox,
    is_chosen,
    let_pass,
    mails,
    new_mails,
    opens,
    reset_code,
)  # fmt: skip
from tests.tenants.states import set_state
from tests.tenants.trying import API, attempt, counted, set_failures


@pytest.fixture(autouse=True)
def addresses(acme, globex, settings):
    settings.BULKHEAD_PUBLIC_URL = "https://bulkhead.example"
    for username, slug in {"alice": "acme", "tom": "acme", "mallory": "globex"}.items():
        change(username, slug, email=f"{username}@{slug}.example")
    yield
    empty_mailbox()


def test_a_member_chooses_a_new_password_with_the_link_in_a_mail():
    answer = ask()
    (mail,) = new_mails()

    assert answer.status_code == 200 and b"a link is on its way" in answer.content
    assert (mail["To"], mail["Subject"]) == ("alice@acme.example", "Choose a new password for Acme")
    assert "https://bulkhead.example/t/acme/password/set/#" in mail.get_content()
    assert is_chosen(choose(code_in(mail)))
    assert attempt(API).status_code == 401
    assert attempt(API, username="alice", password=PASSWORD, address="192.0.2.9").status_code == 401
    assert attempt(API, password=NEW).status_code == 200


def test_asking_changes_nothing_by_itself():
    reset_code()

    assert attempt(API, password=PASSWORD).status_code == 200


# Whose name is typed: nobody of these gets a mail, and whoever asks is told the same.
WITHOUT = {
    "nobody": {"username": "nobody"},
    "disabled": {"is_active": False},
    "without an address": {"email": ""},
    "invited": {"is_active": False, "is_invited": True, "password": make_password(None)},
    "invited and let in otherwise": {"is_invited": True},
    "logs in elsewhere": {"password": make_password(None)},
}


@pytest.mark.parametrize("changes", WITHOUT.values(), ids=WITHOUT)
def test_who_may_have_no_link_gets_no_mail_and_the_page_says_the_same(changes):
    known = form(ask(username="alice"), "acme")
    change("tom", **changes)

    assert form(ask(username="tom"), "acme") == known
    assert [mail["To"] for mail in new_mails()] == ["alice@acme.example"]
    with tenant_context("acme"):
        assert MailLink.objects.count() == 1


@pytest.mark.parametrize("state", ["unknown", "suspended", "provisioning", "deleting", "deleted"])
def test_whether_there_is_such_a_tenant_is_not_told_and_none_that_is_not_active_sends_mail(state):
    slug = "globey" if state == "unknown" else "globex"
    if state != "unknown":
        set_state("globex", state)
    for path, body in {
        "reset": {"username": "mallory"},
        "set": {"code": "x", "password1": NEW, "password2": NEW},
    }.items():
        pages = [
            [
                form(Client().get(f"/t/{each}/password/{path}/"), each),
                *(form(Client().post(f"/t/{each}/password/{path}/", sent), each) for sent in (body, {}, {"a": "b"})),
            ]
            for each in ("acme", slug)
        ]
        assert pages[0] == pages[1]

    assert [mail["To"] for mail in new_mails()] == []
    with control_plane():
        assert MailLink.objects.count() == 0


def test_a_tenant_in_maintenance_answers_as_everywhere_and_sends_nothing():
    assert ask("globex", "mallory").status_code == 200
    set_state("globex", "maintenance")

    assert ask("globex", "mallory").status_code == 503
    assert new_mails() == []


def test_what_was_typed_is_looked_up_by_the_sender_alone_and_stands_nowhere():
    typed = ["alice", "nobody", "a-password-in-the-wrong-field"]
    for number, username in enumerate(typed):
        assert ask(username=username, address=f"192.0.2.{number}").status_code == 200
        assert ask("globey", username, address=f"192.0.2.{number}").status_code == 200

    for plane in (tenant_context("acme"), control_plane()):
        with plane:
            assert list(MailLink.objects.values_list("user", "digest")) == [(None, "")] * 3
            assert all(row.sealed_name.startswith("bh1.runtime.") for row in MailLink.objects.all())
    for plane in ("acme", "control"):
        assert typed[2] not in str(contents(plane)) and "nobody" not in str(contents(plane)["accounts_maillink"])


@pytest.mark.parametrize(("slug", "username"), [("acme", "alice"), ("acme", "nobody"), ("globey", "alice")])
def test_an_answer_takes_a_time_of_its_own_whatever_was_found(monkeypatch, slug, username):
    monkeypatch.setattr(tries, "STEP_SECONDS", 0.5)
    for answer in (lambda: ask(slug, username), lambda: choose(f"{'0' * 32}-{'A' * 43}", slug)):
        began_at = time.monotonic()
        assert answer().status_code == 200
        assert time.monotonic() - began_at >= 0.5


ENDS = {
    "used": lambda code: choose(code, password="another purple elephant"),
    "another password": lambda code: change("alice", password=make_password("another purple elephant")),
    "another address": lambda code: change("alice", email="alice@elsewhere.example"),
    "a newer link": lambda code: [let_pass(minutes=6), reset_code()],
    "an hour": lambda code: let_pass(minutes=60),
    "disabled": lambda code: change("alice", is_active=False),
    "an emergency rotation": lambda code: rotate_tenant_keys(slug="acme", emergency=True),
    "no password of their own": lambda code: change("alice", password=make_password(None)),
    "suspended": lambda code: suspend_tenant(slug="acme"),
    "deleted": lambda code: set_state("acme", "deleted"),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_a_link_that_has_ended_opens_nothing(end):
    code = reset_code()
    assert opens(code)
    end(code)
    with_hash = get_hash() if end not in (ENDS["suspended"], ENDS["deleted"]) else None

    assert not is_chosen(choose(code))
    if with_hash is not None:
        assert get_hash() == with_hash


def get_hash(username="alice", slug="acme"):
    with tenant_context(slug):
        return get_user_model().objects.get(username=username).password


def test_a_link_goes_on_through_a_rotation_of_keys_with_grace():
    code = reset_code()
    rotate_tenant_keys(slug="acme")

    assert is_chosen(choose(code))


def test_a_link_of_a_cloned_tenant_opens_its_own_tenant_alone(alice):
    """The same row, the same key and the same hash in both."""
    code = reset_code()
    with tenant_context("acme"):
        row = {name: value for name, value in vars(MailLink.objects.get()).items() if name[0] != "_"}
    with tenant_context("globex"):
        get_user_model().objects.create(
            pk=alice.pk, username="alice", password=alice.password, email="alice@acme.example", role="owner"
        )
        MailLink.objects.create(**row)

    assert not opens(code, "globex") and not is_chosen(choose(code, "globex"))
    assert is_chosen(choose(code, "acme"))


def test_a_link_of_another_generation_of_the_database_opens_nothing(monkeypatch):
    """As after a restore, in which a link that was used since the copy is open again."""
    code = reset_code()
    with tenant_context("acme"):
        record = current_record()
    restored = replace(record, snapshot=replace(record.snapshot, generation=2))
    assert opens(code)
    monkeypatch.setattr(links, "current_record", lambda: restored)

    assert not is_chosen(choose(code))


def test_a_row_that_was_copied_from_another_tenant_is_sent_to_nobody():
    assert ask("globex", "mallory").status_code == 200
    change("alice", username="mallory")
    with tenant_context("globex"):
        row = {name: value for name, value in vars(MailLink.objects.get()).items() if name[0] != "_"}
        MailLink.objects.all().delete()
    with tenant_context("acme"):
        MailLink.objects.create(**row)

    assert new_mails() == []


def test_of_uses_in_parallel_one_succeeds(monkeypatch):
    code, chosen = reset_code(), []
    hashes = {f"{NEW} {number}": make_password(f"{NEW} {number}") for number in range(6)}
    barrier = threading.Barrier(len(hashes))

    def wait_for_the_others(password):
        barrier.wait(120)
        return hashes[password]

    monkeypatch.setattr(links, "make_password", wait_for_the_others)

    def use(password):
        try:
            if is_chosen(choose(code, password=password)):
                chosen.append(password)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=use, args=[password]) for password in hashes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    (password,) = chosen
    assert attempt(API, password=password).status_code == 200


def test_a_new_password_ends_all_sessions_and_log_ins_of_the_member_and_logs_nobody_in(alice, tom):
    code = reset_code()
    alices, toms, visitor = Client(), Client(), Client()
    log_in(alices, "/t/acme/"), log_in(toms, "/t/acme/", "tom")
    alices_api, toms_api = api_client("acme", alice), api_client("acme", tom)
    assert is_in(alices, "/t/acme/") and alices_api.get("/api/v1/me/").status_code == 200

    assert is_chosen(choose(code, client=visitor))

    assert not is_in(alices, "/t/acme/") and not is_in(visitor, "/t/acme/")
    assert alices_api.post("/api/v1/targets/", {}, format="json").status_code == 401
    assert toms.get("/t/acme/").status_code == 200
    assert toms_api.post("/api/v1/targets/", {}, format="json").status_code == 400


def test_a_new_password_does_not_go_round_a_second_factor(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(second_factor, "time", clock)
    secret, _ = enrol(browser_of("/t/acme/", "alice"), "/t/acme/", clock)

    assert is_chosen(choose(reset_code()))
    assert attempt(API, password=NEW).status_code == 401
    assert log_in(Client(), "/t/acme/", password=NEW).status_code == 200
    assert log_in(Client(), "/t/acme/", password=NEW, otp=clock.code(secret)).status_code == 302


def test_a_password_is_held_against_the_policy_and_the_link_stays():
    code = reset_code()
    for password, again, words in (
        ("short", None, "too short"), ("password1234", None, "too common"), ("alice@acme.example", None, "too similar"),
        (NEW, "seven purple elephant", "match"), ("", None, "required"),
    ):  # fmt: skip
        answer = choose(code, password=password, again=again)
        assert not is_chosen(answer) and words in answer.content.decode(), password
        assert attempt(API, password=PASSWORD).status_code == 200

    assert is_chosen(choose(code))


def variants(code):
    row, secret = code.split("-", 1)
    return {
        "nothing": "", "a space": " ", "the row alone": row, "without a secret": f"{row}-", "the secret alone": secret,
        "another secret": f"{row}-{'A' * 43}", "another row": f"{'0' * 32}-{secret}", "SQL": f"' OR 1=1 -- -{secret}",
        "a character less": code[:-1], "a character more": f"{code}A", "row in upper case": f"{row.upper()}X-{secret}",
        "twice": code * 2, "a NUL": f"{code}\0", "not ASCII": f"{code[:-1]}\u00e9", "oversized": code * 1000,
        "full width": f"{row}-{chr(0xFF21) * 43}",
    }  # fmt: skip


@pytest.mark.parametrize("name", variants("a-b"))
def test_what_is_not_the_code_opens_nothing(name):
    code = reset_code()
    before = get_hash()
    forged = variants(code)[name]

    assert not is_chosen(choose(forged)) and get_hash() == before
    assert (
        form(choose(forged), "acme")
        == form(choose(forged, "globex"), "globex")
        == form(choose(forged, "globey"), "globey")
    )
    assert is_chosen(choose(code))


def test_a_code_stands_in_no_address_answer_log_or_database(caplog):
    caplog.set_level(logging.DEBUG)
    code = reset_code()
    secret = code.split("-", 1)[1]
    for plane in ("acme", "control"):
        assert secret not in str(contents(plane)) and code not in str(contents(plane))
    page = Client().get("/t/acme/password/set/")
    answer = choose(code)

    assert is_chosen(answer) and secret not in answer.content.decode() + str(answer.headers) + caplog.text
    for each in (page, answer):
        assert each["Referrer-Policy"] == "same-origin" and "no-store" in each["Cache-Control"]
    assert "alice@acme.example" not in caplog.text


@pytest.mark.parametrize(
    "headers",
    [{"Host": "127.0.0.1"}, {"Host": "localhost:8888"}, {"X-Forwarded-Host": "evil.example"}, {"Forwarded": "host=e"},
     {"X-Original-Host": "evil.example"}, {"X-Forwarded-Proto": "ftp"}, {"Origin": "https://evil.example"}],
    ids=str,
)  # fmt: skip
def test_a_link_leads_where_the_installation_says_it_is_whatever_a_request_says(headers):
    assert ask(**headers).status_code == 200
    (mail,) = new_mails()

    assert mail.get_content().count("://") == 1 and "https://bulkhead.example/t/acme/" in mail.get_content()


def test_a_host_that_is_not_ours_is_refused():
    assert ask(Host="evil.example").status_code == 400
    assert new_mails() == []


@pytest.mark.parametrize(("slug", "username"), [("acme", "alice"), ("acme", "nobody"), ("globey", "alice")])
def test_an_account_can_be_asked_for_five_times_and_then_less_and_less_often(slug, username):
    given = [ask(slug, username, f"192.0.2.{n}") for n in range(7)]

    assert [answer.status_code for answer in given] == [200] * 5 + [429] * 2
    assert 1 <= int(given[5]["Retry-After"]) <= 15 and "Set-Cookie" not in given[5]
    assert ask("globez", username).status_code == 200


def test_an_address_can_ask_a_hundred_times_and_headers_make_no_other():
    assert ask(username="somebody").status_code == 200
    set_failures("acme", "reset_from", 99)
    given = [
        ask(username=f"n{n}", **{"X-Forwarded-For": f"203.0.113.{n}", "X-Real-IP": "203.0.113.1"}).status_code
        for n in range(3)
    ]

    assert given == [200, 429, 429]
    assert ask(username="alice", address="192.0.2.2").status_code == 200
    assert ask("globex", "mallory").status_code == 200


def test_asking_and_logging_in_are_counted_apart():
    for _ in range(5):
        assert ask().status_code == 200

    assert (ask().status_code, attempt(API, password=PASSWORD).status_code) == (429, 200)
    assert counted("acme", "reset") == [5] and counted("acme", "account") == [0]


def test_whoever_asks_in_somebodys_name_neither_floods_them_nor_ends_their_link():
    code = reset_code()
    let_pass(minutes=4)
    assert ask(address="198.51.100.1").status_code == 200
    assert new_mails() == [] and opens(code)
    let_pass(minutes=2)
    assert ask(address="198.51.100.1").status_code == 200

    assert len(new_mails()) == 1 and not opens(code)


def test_requests_that_nobody_has_looked_at_are_bounded(monkeypatch):
    monkeypatch.setattr(links, "WAITING", 3)
    monkeypatch.setattr(links, "AT_ONCE", 2)
    for slug in ("acme", "globey"):
        for name in "abcdef":
            assert ask(slug, name).status_code == 200
    ask(username="alice")

    for plane in (tenant_context("acme"), control_plane()):
        with plane:
            assert 1 <= MailLink.objects.count() <= 3
    assert [mail["To"] for mail in new_mails()] == ["alice@acme.example"]


def test_the_log_in_page_of_a_workspace_leads_there_and_the_operators_does_not():
    assert "/t/acme/password/reset/" in Client().get("/t/acme/login/").content.decode()
    assert "password/reset" not in Client().get("/operator/login/").content.decode()
    assert mails() == []
