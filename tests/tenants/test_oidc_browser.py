"""Logging in by a provider in a real browser: the provider is another origin, which pages of ours send no form to."""

from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests.tenants.oidc.flow import configure
from tests.tenants.oidc.hostile_provider import HostileProvider
from tests.tenants.test_browser import browser  # noqa: F401  a fixture


class SendsBack(HostileProvider):
    """Knows who it is without asking."""

    def answer(self, path):
        return self.send_back if path.startswith("/authorize?") else super().answer(path)

    def send_back(self, handler):
        asked = {name: value for name, (value,) in parse_qs(urlsplit(handler.path).query).items()}
        self.nonce = asked["nonce"]
        back = urlencode({"code": "c", "state": asked["state"]})
        handler.say(b"", 302, Location=f"{asked['redirect_uri']}?{back}")


@pytest.fixture
def provider(acme, settings, monkeypatch):
    settings.BULKHEAD_ALLOW_PRIVATE_PROVIDERS = True
    monkeypatch.setenv("BULKHEAD_ALLOW_PRIVATE_PROVIDERS", "1")  # the server's, which begins after this
    with SendsBack() as provider:
        configure(provider)
        yield provider


def test_a_browser_goes_to_the_provider_and_comes_back_logged_in(provider, browser):  # noqa: F811
    browser.open("/t/acme/login/")
    browser.driver.find_element(By.CSS_SELECTOR, "#provider-form [type=submit]").click()
    WebDriverWait(browser.driver, 60).until(lambda driver: driver.current_url == f"{browser.url}/t/acme/")

    assert browser.user("/t/acme/") == "ANN@ACME.EXAMPLE"
    assert browser.complaints() == []
