"""A person's side of a second factor: the page, and an authenticator app."""

import re

import pyotp
from django.test import Client

from tests.installation import PASSWORD
from tests.tenants.browsing import log_in

STEP = 30


class Clock:
    """The second factor's own, which stands still: a slow machine uses no code up by being late."""

    def __init__(self, at=1_800_000_000):
        self.at = at

    def time(self):
        return self.at

    def advance(self, steps=1):
        self.at += steps * STEP

    def code(self, secret, steps=0):
        return pyotp.TOTP(secret).generate_otp(self.at // STEP + steps)


def browser_of(site, username, **more):
    browser = Client()
    assert log_in(browser, site, username, **more).status_code == 302
    return browser


def post(browser, site, step, **fields):
    return browser.post(f"{site}second-factor/", {"step": step} | fields)


def begin(browser, site):
    page = post(browser, site, "begin", password=PASSWORD).content.decode()
    return re.search(r'id="secret">(\w+)<', page)[1]


def enrol(browser, site, clock):
    """The secret, and the recovery codes. The code that confirmed is used up, and time goes on."""
    secret = begin(browser, site)
    page = post(browser, site, "confirm", code=clock.code(secret)).content.decode()
    clock.advance()
    return secret, re.findall(r"<li><code>([\w-]+)</code>", page)
