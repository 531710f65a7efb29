"""Answers of authenticators that are not what was asked for, each beside a genuine one: none counts, all look alike."""

import hashlib
import json
import time
from datetime import UTC, datetime, timedelta
from itertools import count
from types import SimpleNamespace

import cbor2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from django.test import Client
from webauthn.helpers import base64url_to_bytes, bytes_to_base64url, encode_cbor

from tenants.accounts import passkeys
from tenants.accounts.models import Passkey
from tenants.context import tenant_context
from tests.installation import PASSWORD
from tests.tenants.authenticators import (
    AT,
    BE,
    BS,
    ED,
    ES256,
    RS256,
    UP,
    UV,
    Authenticator,
    begin,
    log_in,
    opens,
    options_for,
    register,
    send,
    show,
)
from tests.tenants.browsing import form
from tests.tenants.browsing import log_in as log_in_with_password
from tests.tenants.enrolling import browser_of
from tests.tenants.trying import counted, set_failures

ACME, GLOBEX, OPERATOR = "/t/acme/", "/t/globex/", "/operator/"
EVIL = {"origin": "https://evil.example"}


class Scene:
    """Alice's genuine passkey, a browser that was asked for it, and others' passkeys."""

    def __init__(self, keys, later):
        self.later = later
        self.key, self.toms, self.mallorys, self.oscars = keys
        self.browser = Client()
        self.options = options_for(self.browser, ACME)

    def shown(self, **changes):
        return self.key.shown(self.options, **changes)

    def with_response(self, **changes):
        answer = self.shown()
        return answer | {"response": answer["response"] | changes}

    def elsewhere(self, site):
        """Asked of a browser with the same cookie there, which a visitor may write."""
        cookie = self.browser.cookies["csrftoken_acme"].value
        other = Client()
        other.cookies[f"csrftoken_{site.strip('/').removeprefix('t/')}"] = cookie
        return self.key.shown(options_for(other, site))


def flipped(data, at):
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def part(answer, name):
    return base64url_to_bytes(answer["response"][name])


def unsigned(scene, name, at):
    """One bit of a part is another than was signed."""
    answer = scene.shown()
    return answer | {"response": answer["response"] | {name: bytes_to_base64url(flipped(part(answer, name), at))}}


def re_signed(scene, signer):
    """Alice's credential and handle, and somebody else's signature."""
    stranger = Authenticator(signer.key)
    stranger.id, stranger.handle, stranger.count = scene.key.id, scene.key.handle, 2**31
    return stranger.shown(scene.options)


def swapped_ids(scene, other):
    answer, others = scene.shown(), bytes_to_base64url(other.id)
    return answer | {"id": others, "rawId": others}


def replayed(scene):
    answer = scene.shown(count=next(scene.key.on))
    assert show(scene.browser, ACME, answer).status_code == 302
    return answer


def expired(scene):
    answer = scene.shown()
    scene.later(301)
    return answer


def newer_was_answered(scene):
    answer = scene.shown()
    newer = Client()
    assert show(newer, ACME, scene.key.shown(options_for(newer, ACME), count=next(scene.key.on))).status_code == 302
    return answer


def text_challenge(scene, change):
    """A challenge in the form of ours, with a part that is another."""
    challenge = base64url_to_bytes(scene.options["challenge"]).decode()
    asked, _, signature = challenge.partition(":")
    return scene.key.shown({"challenge": bytes_to_base64url(change(asked, signature).encode())})


# What is sent in place of a genuine answer.
BROWSER = {  # what it says of itself
    "another origin": lambda scene: scene.shown(client=EVIL),
    "another origin's prefix": lambda scene: scene.shown(client={"origin": "http://localhost:8000.evil.example"}),
    "a subdomain": lambda scene: scene.shown(client={"origin": "http://a.localhost:8000"}),
    "another port": lambda scene: scene.shown(client={"origin": "http://localhost:8001"}),
    "another scheme": lambda scene: scene.shown(client={"origin": "https://localhost:8000"}),
    "an origin in capitals": lambda scene: scene.shown(client={"origin": "HTTP://LOCALHOST:8000"}),
    "no origin": lambda scene: scene.shown(client={"origin": None}),
    "a list of origins": lambda scene: scene.shown(client={"origin": ["http://localhost:8000"]}),
    "inside another site's page": lambda scene: scene.shown(client={"crossOrigin": True}),
    "a registration's type": lambda scene: scene.shown(client={"type": "webauthn.create"}),
    "no type": lambda scene: scene.shown(client={"type": None}),
    "client data that is a list": lambda scene: scene.with_response(clientDataJSON=bytes_to_base64url(b"[]")),
    "client data that is no JSON": lambda scene: scene.with_response(clientDataJSON=bytes_to_base64url(b"{")),
    "client data that is no UTF-8": lambda scene: scene.with_response(clientDataJSON=bytes_to_base64url(b"\xff{}")),
    "nested client data": lambda scene: scene.with_response(clientDataJSON=bytes_to_base64url(b"[" * 5000)),
    "no client data": lambda scene: scene.shown(clientDataJSON=None),
}
CHALLENGE = {  # whose it is, and of when
    "another challenge": lambda scene: scene.shown(client={"challenge": "A" * 43}),
    "no challenge": lambda scene: scene.shown(client={"challenge": None}),
    "an empty challenge": lambda scene: scene.shown(client={"challenge": ""}),
    "a challenge that is no text": lambda scene: scene.shown(client={"challenge": 7}),
    "a challenge without its signature": lambda scene: text_challenge(scene, lambda asked, _: asked),
    "a later challenge": lambda scene: text_challenge(scene, lambda asked, mac: f"9{asked}:{mac}"),
    "a challenge that is no number": lambda scene: text_challenge(scene, lambda _, mac: f"x-y:{mac}"),
    "a challenge of another browser's": lambda scene: scene.key.shown(options_for(Client(), ACME)),
    "a challenge of another tenant's": lambda scene: scene.elsewhere(GLOBEX),
    "a challenge of the console's": lambda scene: scene.elsewhere(OPERATOR),
    "a challenge of no tenant's": lambda scene: scene.elsewhere("/t/nobody/"),
    "a challenge that was answered": replayed,
    "a challenge before one that was answered": newer_was_answered,
    "a challenge of long ago": expired,
}
DATA = {  # what the authenticator says
    "another relying party": lambda scene: scene.shown(rp_id="evil.example"),
    "its user was not verified": lambda scene: scene.shown(flags=UP),
    "its user was not there": lambda scene: scene.shown(flags=UV),
    "neither": lambda scene: scene.shown(flags=0),
    "backed up, and cannot be": lambda scene: scene.shown(flags=UP | UV | BS),
    "a count that went back": lambda scene: scene.shown(count=0),
    "truncated data": lambda scene: scene.with_response(
        authenticatorData=bytes_to_base64url(part(scene.shown(), "authenticatorData")[:36])
    ),
    "data with leftovers": lambda scene: scene.shown(more=b"\0"),
    "extensions that are not there": lambda scene: scene.shown(flags=UP | UV | ED),
    "truncated extensions": lambda scene: scene.shown(flags=UP | UV | ED, more=b"\xa1\x63abc"),
    "nested extensions": lambda scene: scene.shown(flags=UP | UV | ED, more=b"\x81" * 3000),
    "extensions of a huge length": lambda scene: scene.shown(flags=UP | UV | ED, more=b"\x5b" + b"\x7f" * 8),
    "a truncated credential": lambda scene: scene.shown(flags=UP | UV | AT, more=bytes(16) + b"\xff\xff"),
    "no data": lambda scene: scene.shown(authenticatorData=None),
    "empty data": lambda scene: scene.shown(authenticatorData=b""),
}
SIGNATURE = {  # what was signed
    "a flag that was not signed": lambda scene: unsigned(scene, "authenticatorData", 32),
    "a count that was not signed": lambda scene: unsigned(scene, "authenticatorData", 36),
    "client data that were not signed": lambda scene: unsigned(scene, "clientDataJSON", -3),
    "a signature of one other bit": lambda scene: unsigned(scene, "signature", -1),
    "an empty signature": lambda scene: scene.shown(signature=b""),
    "no signature": lambda scene: scene.shown(signature=None),
    "a signature that is zero": lambda scene: scene.shown(signature=bytes.fromhex("3006020100020100")),
    "a signature of another answer": lambda scene: scene.shown(signature=part(scene.shown(), "signature")),
    "another's signature": lambda scene: re_signed(scene, scene.toms),
    "a stranger's signature": lambda scene: re_signed(scene, Authenticator()),
}
PERSON = {  # whose passkey it is
    "nobody's passkey": lambda scene: Authenticator().shown(scene.options, userHandle=scene.key.handle),
    "another tenant's passkey": lambda scene: scene.mallorys.shown(scene.options),
    "another tenant's passkey and a handle of here": lambda scene: scene.mallorys.shown(
        scene.options, userHandle=scene.key.handle
    ),
    "an operator's passkey": lambda scene: scene.oscars.shown(scene.options),
    "another member's handle": lambda scene: scene.shown(userHandle=scene.toms.handle),
    "no handle": lambda scene: scene.shown(userHandle=None),
    "an empty handle": lambda scene: scene.shown(userHandle=b""),
    "a handle that is no text": lambda scene: scene.with_response(userHandle=[1]),
    "another member's id": lambda scene: swapped_ids(scene, scene.toms),
    "two ids": lambda scene: scene.shown() | {"id": bytes_to_base64url(scene.toms.id)},
    "another raw id": lambda scene: scene.shown() | {"rawId": bytes_to_base64url(scene.toms.id)},
    "a padded id": lambda scene: scene.shown() | {"id": bytes_to_base64url(scene.key.id) + "="},
    "an id that is no text": lambda scene: scene.shown() | {"id": None},
    "an empty id": lambda scene: scene.shown() | {"id": "", "rawId": ""},
    "an id of thousands of bytes": lambda scene: scene.shown() | {"id": "A" * 4000, "rawId": "A" * 4000},
    "an id that is no base64": lambda scene: scene.shown() | {"id": "\u0661\0", "rawId": "\u0661\0"},
}
FORM = {  # how it is written
    "another type": lambda scene: scene.shown() | {"type": "password"},
    "no type at all": lambda scene: {name: each for name, each in scene.shown().items() if name != "type"},
    "a response that is a list": lambda scene: scene.shown() | {"response": []},
    "no response": lambda scene: scene.shown() | {"response": None},
    "an attachment that there is none of": lambda scene: scene.shown() | {"authenticatorAttachment": "glued"},
    "a list": lambda scene: json.dumps([scene.shown()]),
    "a text": lambda scene: json.dumps(json.dumps(scene.shown())),
    "a number": lambda scene: "7",
    "a long number": lambda scene: "9" * 5000,
    "null": lambda scene: "null",
    "an empty object": lambda scene: "{}",
    "half an object": lambda scene: json.dumps(scene.shown())[:-1],
    "no JSON": lambda scene: "passkey",
    "a space": lambda scene: " ",
    "nested JSON": lambda scene: '{"a":' * 1500,
    "NUL": lambda scene: "\0",
    "more than there is room for": lambda scene: json.dumps(scene.shown()) + " " * passkeys.MAX_ANSWER,
    "a registration": lambda scene: scene.key.made(
        scene.options | {"user": {"id": bytes_to_base64url(scene.key.handle)}}
    ),
}
ANSWERS = {
    "browser": BROWSER, "challenge": CHALLENGE, "data": DATA, "signature": SIGNATURE, "person": PERSON, "form": FORM,
}  # fmt: skip


@pytest.fixture
def keys(acme, globex):
    """Of alice, tom, mallory and oscar, each of whom has one. Alice's has been used: its count has gone on."""
    people = {"alice": ACME, "tom": ACME, "mallory": GLOBEX, "oscar": OPERATOR}
    found = [register(browser_of(site, username), site) for username, site in people.items()]
    found[0].on = count(1000)
    assert opens(found[0], ACME, count=next(found[0].on))
    found[0].count = 2**31
    return found


@pytest.fixture
def later(monkeypatch):
    def go_on(seconds):
        now = time.time() + seconds
        monkeypatch.setattr(passkeys, "time", SimpleNamespace(time=lambda: now))

    return go_on


def without_cookies(answer):
    """One browser has the form's cookie already, another gets it."""
    return form(answer, "acme")[:3]


@pytest.mark.parametrize("group", ANSWERS)
def test_an_answer_that_is_not_genuine_opens_nothing_and_says_what_every_such_does(keys, later, monkeypatch, group):
    """And a genuine one beside it opens."""
    expected = without_cookies(log_in(Authenticator(), ACME, Client()))
    for name, make in ANSWERS[group].items():
        scene = Scene(keys, later)
        sent, browser = make(scene), visitor(scene.browser)
        before = counted("acme", "address")[0]
        answer = show(browser, ACME, sent)

        assert without_cookies(answer) == expected, name
        assert browser.get(ACME).status_code == 302, name
        assert counted("acme", "address") == [before + 1], name
        monkeypatch.setattr(passkeys, "time", time)
        set_failures("acme", "address", 0)
        assert opens(scene.key, ACME, count=next(scene.key.on)), name


def visitor(browser):
    """Whoever sits there, and has not logged in: a challenge is of the browser that has the form's cookie."""
    other = Client()
    other.cookies = browser.cookies.copy()
    other.cookies.pop("sessionid_acme", None)
    return other


def test_hostile_answers_are_of_many_kinds():
    assert sum(map(len, ANSWERS.values())) >= 80 and len(REGISTRATIONS) >= 35


PARTS = ["clientDataJSON", "authenticatorData", "signature", "userHandle", "id"]


@pytest.mark.parametrize("name", PARTS)
def test_no_byte_of_an_answer_can_be_another(keys, monkeypatch, name):
    monkeypatch.setattr(passkeys, "answer_in_step", lambda request: None)
    scene = Scene(keys, None)
    answer, browser = scene.shown(), visitor(scene.browser)
    text = answer["id"] if name == "id" else answer["response"][name]
    data, opened = base64url_to_bytes(text), []
    for at in range(len(data)):
        if at % 50 == 0:  # before there are too many tries
            set_failures("acme", "address", 0)
        other = bytes_to_base64url(flipped(data, at))
        changed = {"id": other, "rawId": other} if name == "id" else {"response": answer["response"] | {name: other}}
        if (status := show(browser, ACME, answer | changed).status_code) != 200:
            opened.append((at, status))

    assert opened == [] and len(data) >= 32
    assert show(browser, ACME, answer).status_code == 302


def test_a_tenant_that_is_not_there_says_the_same(acme):
    answers = [form(log_in(Authenticator(), f"/t/{slug}/", Client()), slug) for slug in ("acme", "nobody")]

    assert answers[0] == answers[1]


def test_an_answer_of_more_than_a_form_may_have_is_answered_as_any_such_form(keys):
    browser = Client()
    answer = keys[0].shown(options_for(browser, ACME))
    too_long = show(browser, ACME, json.dumps(answer) + " " * 300_000)
    as_long = log_in_with_password(Client(), ACME, password="x" * 300_000)

    assert too_long.status_code == as_long.status_code == 413 and too_long.content == as_long.content


def test_name_and_password_beside_a_passkey_that_is_refused_are_not_looked_at(keys, hashed):
    browser = Client()
    answer = keys[0].shown(options_for(browser, ACME), flags=UP)

    assert show(browser, ACME, answer, username="alice", password=PASSWORD).status_code == 200 and len(hashed) == 0


# Registrations, which are a member's own.


def made(options, authenticator=None, **changes):
    return (authenticator or Authenticator()).made(options, **changes)


def attested(options, **parts):
    answer = made(options)
    attestation = bytes_to_base64url(parts.pop("raw")) if "raw" in parts else None
    return answer | {
        "response": answer["response"] | parts | ({"attestationObject": attestation} if attestation else {})
    }


def long_id(options):
    authenticator = Authenticator()
    authenticator.id = b"x" * 256
    return authenticator.made(options)


def certified(options):
    """By a certificate of its own making, with a good signature: nothing is wrong with it but that it is there."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(1), now + timedelta(1))
    certificate = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
    answer = made(options)
    attestation = cbor2.loads(part(answer, "attestationObject"))
    signed = attestation["authData"] + hashlib.sha256(part(answer, "clientDataJSON")).digest()
    signature = key.sign(signed, ec.ECDSA(hashes.SHA256()))
    statement = {"alg": -7, "sig": signature, "x5c": [certificate]}
    raw = encode_cbor(attestation | {"fmt": "packed", "attStmt": statement})
    return answer | {"response": answer["response"] | {"attestationObject": bytes_to_base64url(raw)}}


X5C = {"alg": -7, "sig": b"x", "x5c": [b"no certificate"]}
POINT = {1: 2, 3: -7, -1: 1, -2: bytes(31) + b"\1", -3: bytes(31) + b"\1"}  # on no curve
REGISTRATIONS = {
    "another origin": lambda options: made(options, client=EVIL),
    "a log-in's type": lambda options: made(options, client={"type": "webauthn.get"}),
    "another challenge": lambda options: made(options, client={"challenge": "A" * 43}),
    "inside another site's page": lambda options: made(options, client={"crossOrigin": True}),
    "another relying party": lambda options: made(options, rp_id="evil.example"),
    "its user was not verified": lambda options: made(options, flags=UP | AT),
    "its user was not there": lambda options: made(options, flags=UV | AT),
    "backed up, and cannot be": lambda options: made(options, flags=UP | UV | AT | BS),
    "no credential": lambda options: made(options, flags=UP | UV),
    "extensions that are not there": lambda options: made(options, flags=UP | UV | AT | ED),
    "an id that is too long": long_id,
    "a key of nothing": lambda options: made(options, public={}),
    "a key that is a list": lambda options: made(options, public=[1, 2]),
    "a key on no curve": lambda options: made(options, public=POINT),
    "a key of an algorithm that was not asked for": lambda options: made(
        options, public=ES256().public() | {3: -35, -1: 2}
    ),
    "a key of no algorithm": lambda options: made(options, public=ES256().public() | {3: 0}),
    "a short key": lambda options: made(options, Authenticator(RS256(1024))),
    "an attestation that there is none of": lambda options: made(options, fmt="paper"),
    "a maker of its own": certified,
    "an attestation with certificates": lambda options: made(options, fmt="packed", statement=X5C),
    "an authenticator's maker": lambda options: made(options, fmt="fido-u2f", statement=X5C),
    "another maker": lambda options: made(options, fmt="tpm", statement=X5C),
    "a statement of nothing": lambda options: made(options, fmt="none", statement={"sig": b"x"}),
    "another's signature": lambda options: made(options, fmt="packed", statement={"alg": -7, "sig": b"x"}),
    "no attestation": lambda options: attested(options, attestationObject=None),
    "truncated CBOR": lambda options: attested(
        options, raw=base64url_to_bytes(made(options)["response"]["attestationObject"])[:-1]
    ),
    "CBOR that is a list": lambda options: attested(options, raw=encode_cbor([1])),
    "nested CBOR": lambda options: attested(options, raw=b"\x81" * 4000),
    "CBOR without data": lambda options: attested(options, raw=encode_cbor({"fmt": "none", "attStmt": {}})),
    "data that is no bytes": lambda options: attested(
        options, raw=encode_cbor({"fmt": "none", "attStmt": {}, "authData": 7})
    ),
    "a format that is no text": lambda options: attested(
        options, raw=encode_cbor({"fmt": [], "attStmt": {}, "authData": bytes(37)})
    ),
    "two ids": lambda options: made(options) | {"id": "AAAA"},
    "no JSON": lambda options: "{",
    "a list": lambda options: "[]",
    "nested JSON": lambda options: '{"a":' * 1500,
    "more than there is room for": lambda options: json.dumps(made(options)) + " " * passkeys.MAX_ANSWER,
    "a log-in": lambda options: Authenticator().shown(options),
}


def test_what_is_no_genuine_registration_registers_nothing_and_says_what_every_such_does(acme):
    browser = browser_of(ACME, "alice")
    begin(browser, ACME)
    expected = without_cookies(send(browser, ACME, "passkey"))
    assert b"was not registered" in expected[1].encode()
    for name, make in REGISTRATIONS.items():
        options = begin(browser, ACME)
        answer = send(browser, ACME, make(options))
        again = send(browser, ACME, Authenticator().made(options))

        assert without_cookies(answer) == without_cookies(again) == expected, name
        with tenant_context("acme"):
            assert not Passkey.objects.exists(), name
    assert opens(register(browser, ACME), ACME)


def test_a_passkey_that_may_be_backed_up_counts_as_any(acme):
    browser = browser_of(ACME, "alice")
    authenticator = Authenticator()
    send(browser, ACME, authenticator.made(begin(browser, ACME), flags=UP | UV | AT | BE | BS))

    assert opens(authenticator, ACME, flags=UP | UV | BE | BS)
