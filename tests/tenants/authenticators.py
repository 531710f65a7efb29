"""An authenticator of our own, which does as it is told: each part of what it says can be made another."""

import hashlib
import json
import re
import secrets
import struct
from html import unescape

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from django.test import Client
from webauthn.helpers import base64url_to_bytes, bytes_to_base64url, encode_cbor

from tests.installation import PASSWORD

ORIGIN, RP_ID = "http://localhost:8000", "localhost"  # as settings have it where nothing is set
UP, UV, BE, BS, AT, ED = 1, 4, 8, 16, 64, 128


def number(value, size=None):
    return value.to_bytes(size or (value.bit_length() + 7) // 8, "big")


class ES256:
    def __init__(self):
        self.key = ec.generate_private_key(ec.SECP256R1())

    def public(self):
        point = self.key.public_key().public_numbers()
        return {1: 2, 3: -7, -1: 1, -2: number(point.x, 32), -3: number(point.y, 32)}

    def sign(self, data):
        return self.key.sign(data, ec.ECDSA(hashes.SHA256()))


class EdDSA(ES256):
    def __init__(self):
        self.key = ed25519.Ed25519PrivateKey.generate()

    def public(self):
        return {1: 1, 3: -8, -1: 6, -2: self.key.public_key().public_bytes_raw()}

    def sign(self, data):
        return self.key.sign(data)


class RS256(ES256):
    def __init__(self, bits=2048):
        self.key = rsa.generate_private_key(65537, bits)

    def public(self):
        numbers = self.key.public_key().public_numbers()
        return {1: 3, 3: -257, -1: number(numbers.n), -2: number(numbers.e)}

    def sign(self, data):
        return self.key.sign(data, padding.PKCS1v15(), hashes.SHA256())


class Authenticator:
    """With one passkey. ``made`` and ``shown`` are what a page sends; their arguments replace what it would say."""

    def __init__(self, key=None, counts=True):
        self.key, self.counts, self.count = key or ES256(), counts, 0
        self.id, self.handle = secrets.token_bytes(32), b""

    def _client_data(self, kind, options, **changes):
        said = {"type": kind, "challenge": options["challenge"], "origin": ORIGIN, "crossOrigin": False}
        return json.dumps({name: value for name, value in (said | changes).items() if value is not None}).encode()

    def _data(self, rp_id, flags, count, more=b""):
        if count is None:
            self.count += self.counts
            count = self.count
        return hashlib.sha256(rp_id.encode()).digest() + struct.pack(">BI", flags, count) + more

    def _answer(self, **response):
        identifier = bytes_to_base64url(self.id)
        response = {name: bytes_to_base64url(value) for name, value in response.items() if value is not None}
        return {"id": identifier, "rawId": identifier, "type": "public-key", "response": response}

    def made(self, options, *, client=None, rp_id=RP_ID, flags=UP | UV | AT, count=None, fmt="none", **more):
        """``more``: ``public`` and ``statement``, as CBOR has them."""
        public, statement = more.get("public", self.key.public()), more.get("statement")
        self.handle = base64url_to_bytes(options["user"]["id"])
        attested = bytes(16) + struct.pack(">H", len(self.id)) + self.id + encode_cbor(public)
        data = self._data(rp_id, flags, count, attested if flags & AT else b"")
        client_data = self._client_data("webauthn.create", options, **(client or {}))
        if fmt == "packed" and statement is None:
            signature = self.key.sign(data + hashlib.sha256(client_data).digest())
            statement = {"alg": self.key.public()[3], "sig": signature}
        attestation = encode_cbor({"fmt": fmt, "attStmt": statement or {}, "authData": data})
        return self._answer(clientDataJSON=client_data, attestationObject=attestation)

    def shown(self, options, *, client=None, rp_id=RP_ID, flags=UP | UV, count=None, more=b"", **changes):
        """``changes``: of the response's own fields, bytes or ``None``."""
        data = self._data(rp_id, flags, count, more)
        client_data = self._client_data("webauthn.get", options, **(client or {}))
        signature = self.key.sign(data + hashlib.sha256(client_data).digest())
        response = {
            "clientDataJSON": client_data, "authenticatorData": data, "signature": signature, "userHandle": self.handle,
        }  # fmt: skip
        return self._answer(**response | changes)


# A browser's side of the pages.


def page(browser, site, step=None, **fields):
    path = f"{site}passkeys/"
    return browser.post(path, {"step": step} | fields) if step else browser.get(path)


def begin(browser, site, name="my key", password=PASSWORD, **fields):
    """What the page hands to the browser, or ``None`` if it does not."""
    shown = page(browser, site, "begin", name=name, password=password, **fields).content.decode()
    found = re.search(r'<script id="passkey-options" type="application/json">(.*?)</script>', shown)
    return found and json.loads(unescape(found[1]))


def send(browser, site, answer):
    return page(browser, site, "register", answer=answer if isinstance(answer, str) else json.dumps(answer))


def register(browser, site, authenticator=None, name="my key", **fields):
    authenticator = authenticator or Authenticator()
    answer = send(browser, site, authenticator.made(begin(browser, site, name, **fields)))
    assert 'id="made"' in answer.content.decode()
    return authenticator


def options_for(browser, site):
    """As a page of its would ask for them: it has a form, and so a cookie for the form's token."""
    browser.get(f"{site}login/")
    return browser.get(f"{site}login/passkey/").json()


def show(browser, site, answer, **more):
    text = answer if isinstance(answer, str) else json.dumps(answer)
    return browser.post(f"{site}login/", {"passkey": text, "next": ""} | more)


def log_in(authenticator, site, browser=None, **changes):
    browser = browser or Client()
    return show(browser, site, authenticator.shown(options_for(browser, site), **changes))


def opens(authenticator, site, **changes):
    status = log_in(authenticator, site, **changes).status_code
    assert status in (200, 302)
    return status == 302
