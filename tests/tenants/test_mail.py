"""Mails on their way: to a real mail server, into files, and what becomes of them when something fails."""

import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from email import message_from_bytes, policy
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult
from django.conf import settings as django_settings
from django.core.management import call_command
from django.db import connections
from django.utils import timezone

from config.env import read_environment
from tenants.accounts import sending
from tenants.accounts.models import MailLink
from tenants.context import control_plane, tenant_context
from tenants.models import Tenant
from tenants.wakeup import connect
from tests.serving import manage
from tests.tenants.mailing import (
    ask,
    change,
    choose,
    code_in,
    empty_mailbox,
    is_chosen,
    let_pass,
    mails,
    new_mails,
)  # fmt: skip
from tests.tenants.states import set_state


class Server:
    """``received``: envelopes, in order. ``refuse``: what is said to each recipient instead of 250."""

    def __init__(self):
        self.received, self.refuse, self.logins = [], "", []

    async def handle_RCPT(self, server, session, envelope, address, options):
        if self.refuse:
            return self.refuse
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        self.received.append((envelope, message_from_bytes(envelope.content, policy=policy.default)))
        return "250 OK"

    def authenticate(self, server, session, envelope, mechanism, data):
        self.logins.append((data.login.decode(), data.password.decode()))
        return AuthResult(success=True)


class Loopback(Controller):
    """On a port that the system chooses."""

    def factory(self):
        return SMTP(self.handler, authenticator=self.handler.authenticate, auth_require_tls=False)

    def _trigger_server(self):
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


@contextmanager
def serving(handler):
    controller = Loopback(handler, hostname="127.0.0.1", port=0)
    controller.start()
    try:
        yield controller.port
    finally:
        controller.stop()


@pytest.fixture
def server(acme, settings):
    handler = Server()
    with serving(handler) as port:
        settings.MAILERS = {
            "default": {
                "BACKEND": "django.core.mail.backends.smtp.EmailBackend",
                "OPTIONS": {"host": "127.0.0.1", "port": port, "timeout": 10},
            }
        }
        yield handler


@pytest.fixture(autouse=True)
def mailbox(acme, globex):
    change("alice", email="alice@acme.example")
    change("mallory", "globex", email="mallory@globex.example")
    yield
    empty_mailbox()


def links(slug="acme"):
    with tenant_context(slug):
        return list(MailLink.objects.order_by("pk"))


def test_a_mail_goes_to_the_mail_server_that_is_configured(server):
    ask()
    sending.sweep()
    ((envelope, mail),) = server.received

    assert (envelope.rcpt_tos, mail["To"]) == (["alice@acme.example"], "alice@acme.example")
    assert (envelope.mail_from, mail["From"]) == ("bulkhead@localhost", "Bulkhead <bulkhead@localhost>")
    assert mail["Auto-Submitted"] == "auto-generated" and mail.get_content_type() == "text/plain"
    assert is_chosen(choose(code_in(mail)))


def test_a_mail_server_is_logged_in_to_with_the_name_and_password_of_its_url(server, settings, monkeypatch):
    monkeypatch.setenv("BULKHEAD_MAIL_URL", "smtp+tls://us%40er:pa%3Ass@127.0.0.1:1")
    options = read_environment().mailer["OPTIONS"]
    assert options["use_tls"] is True
    port = settings.MAILERS["default"]["OPTIONS"]["port"]
    settings.MAILERS = {
        "default": settings.MAILERS["default"] | {"OPTIONS": options | {"port": port, "use_tls": False}}
    }
    ask()
    sending.sweep()

    assert (len(server.received), server.logins) == (1, [("us@er", "pa:ss")])


def test_without_a_mail_server_mails_are_files_of_this_user_alone():
    ask()
    (mail,) = new_mails()
    directory = Path(django_settings.BULKHEAD_HOME) / "mail"

    assert mail["To"] == "alice@acme.example"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o600}


def test_a_mail_that_the_server_did_not_take_is_sent_later_with_a_link_that_works(server):
    server.refuse = "451 later"
    ask()
    sending.sweep()
    (link,) = links()
    assert (link.sent_at, link.tries, server.received) == (None, 1, [])

    server.refuse = ""
    sending.sweep()
    assert server.received == []  # it waits its time
    let_pass(minutes=2)
    sending.sweep()
    ((_, mail),) = server.received
    assert links()[0].sent_at is not None and is_chosen(choose(code_in(mail)))


def test_a_mail_server_that_is_away_loses_no_mail(server, settings):
    mailers = settings.MAILERS
    settings.MAILERS = {"default": mailers["default"] | {"OPTIONS": {"host": "127.0.0.1", "port": 1, "timeout": 2}}}
    ask()
    sending.sweep()
    settings.MAILERS = mailers
    let_pass(minutes=2)
    sending.sweep()

    assert len(server.received) == 1


def test_each_further_try_waits_for_longer_until_the_link_has_expired(server):
    server.refuse = "550 no"
    ask()
    waits = []
    for _ in range(4):
        began_at = timezone.now()
        sending.sweep()
        waits.append(round((links()[0].next_try_at - began_at).total_seconds() / 60))
        let_pass(seconds=waits[-1] * 60 + 1)
    let_pass(minutes=60)
    tries = links()[0].tries
    sending.sweep()

    assert waits == [1, 2, 4, 8] and links()[0].tries == tries


def test_a_sender_that_dies_after_its_claim_has_lost_nothing(monkeypatch):
    ask()
    with monkeypatch.context() as dying:
        dying.setattr(sending, "send", lambda *mail: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            sending.sweep()
    assert new_mails() == []
    let_pass(minutes=2)
    (mail,) = new_mails()

    assert is_chosen(choose(code_in(mail)))


def test_of_several_senders_one_sends_a_mail(server):
    ask()
    barrier = threading.Barrier(4)

    def run():
        barrier.wait(120)
        sending.sweep()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(server.received) == 1


def overtake(monkeypatch, name, before):
    """While a sender is in what is called so, before it or after, another one claims the mail, sends it, and ends."""
    done = getattr(sending, name)

    def another():
        let_pass(minutes=2)
        sending.sweep()
        connections.close_all()

    def overtaken(*args):
        monkeypatch.setattr(sending, name, done)
        result = None if before else done(*args)
        with ThreadPoolExecutor(1) as second:
            second.submit(another).result()
        return done(*args) if before else result

    monkeypatch.setattr(sending, name, overtaken)


def test_a_sender_that_was_overtaken_does_not_take_the_mail_for_sent(server, monkeypatch):
    """Its own brought a link that the second one has replaced, whose mail the server did not take."""
    taken = server.handle_RCPT

    async def first_only(*args):
        return "451 later" if server.received else await taken(*args)

    monkeypatch.setattr(server, "handle_RCPT", first_only)
    overtake(monkeypatch, "send", before=False)
    ask()
    sending.sweep()
    (link,) = links()
    monkeypatch.setattr(server, "handle_RCPT", taken)
    let_pass(minutes=10)
    sending.sweep()

    assert (link.tries, link.sent_at, len(server.received)) == (2, None, 2)
    assert [is_chosen(choose(code_in(mail))) for _, mail in server.received] == [False, True]


def test_a_sender_that_was_overtaken_before_it_made_its_link_ends_no_other(server, monkeypatch):
    overtake(monkeypatch, "make_code", before=True)
    ask()
    sending.sweep()
    ((_, mail),) = server.received

    assert links()[0].sent_at is not None and is_chosen(choose(code_in(mail)))


def test_an_address_that_is_none_is_not_tried_again():
    change("alice", email="alice@acme.example\nBcc: eve@evil.example")
    ask()

    assert new_mails() == []
    assert [(link.ending, link.next_try_at) for link in links()] == [("undeliverable", None)]


@pytest.mark.parametrize(
    "name", ["Acme\r\nBcc: eve@evil.example", "Acme\n\nDear customer", "Ac\u2028me", "{url}", "%s"]
)
def test_a_tenants_name_adds_no_header_and_no_line(server, name):
    with control_plane():
        Tenant.objects.filter(slug="acme").update(name=name)
    set_state("acme", "active")
    ask()
    sending.sweep()
    ((envelope, mail),) = server.received

    assert envelope.rcpt_tos == ["alice@acme.example"] and "Bcc" not in mail
    assert mail["Subject"] == f"Choose a new password for {' '.join(name.split())}"
    assert "evil" not in "".join(line for line in mail.get_content().splitlines() if line.startswith(("Bcc", "Dear")))


def test_a_tenant_that_fails_keeps_no_other_from_its_mail(monkeypatch):
    ask()
    ask("globex", "mallory")
    find = sending._find_user

    def fail_in_acme(link):
        if sending.name_of(link) == "alice":
            raise RuntimeError("a fault")
        return find(link)

    monkeypatch.setattr(sending, "_find_user", fail_in_acme)

    assert [mail["To"] for mail in new_mails()] == ["mallory@globex.example"]


def test_a_tenant_with_many_mails_does_not_keep_the_next_one_waiting(monkeypatch):
    monkeypatch.setattr(sending, "AT_ONCE", 1)
    with tenant_context("acme"):
        sender = sending.User.objects.get(username="alice")
        for number in range(3):
            sending.MailLink.objects.create(
                purpose="invitation",
                user=sending.User.objects.create(username=f"u{number}", email=f"u{number}@x.example", is_invited=True),
                invited_by=sender,
                expires_at=timezone.now() + timedelta(days=1),
            )
    ask("globex", "mallory")
    found = [mail["To"] for mail in new_mails()]

    assert found.index("mallory@globex.example") <= 1 and len(found) == 4


def test_links_that_expired_a_week_ago_are_forgotten():
    ask()
    new_mails()
    let_pass(days=7, hours=2)
    sending.sweep()

    assert links() == []


def test_a_request_wakes_the_sender_and_redis_learns_the_tenants_id_alone(acme):
    ask()
    ask("nobody")

    waiting = connect().zrange("bulkhead:tenants-with-mail", 0, -1)
    assert waiting == [acme.pk.hex.encode(), b"0" * 32]


def test_the_sender_sends_when_it_is_woken_and_stops_when_it_should(monkeypatch, settings):
    settings.BULKHEAD_SWEEP_SECONDS = 600
    stop, sent = threading.Event(), threading.Event()
    send = sending.send

    def send_and_say(*mail):
        send(*mail)
        sent.set()

    monkeypatch.setattr(sending, "send", send_and_say)
    sender = threading.Thread(target=sending.run_sender, args=[stop.is_set])
    sender.start()
    try:
        ask()
        assert sent.wait(120)
    finally:
        stop.set()
        sender.join(120)
    assert not sender.is_alive() and len(mails()) == 1


def test_the_command_sends_what_is_due(installation):
    assert ask().status_code == 200
    manage(installation, "send_mail", "--once")

    assert [mail["To"] for mail in mails()] == ["alice@acme.example"]


@pytest.mark.parametrize("command", ["send_mail", "dispatch"])
def test_the_commands_that_go_on_give_up_the_fleet_key(monkeypatch, command):
    given_up = []
    monkeypatch.setattr("tenants.management.loops.give_up_fleet_key", lambda: given_up.append(True))
    with control_plane():
        call_command(command, once=True)

    assert given_up == [True]
