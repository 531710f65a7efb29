"""Passkeys in a real browser: registered, logged in with, removed; with an authenticator that Chromium plays."""

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.virtual_authenticator import VirtualAuthenticatorOptions
from selenium.webdriver.support.ui import WebDriverWait

from tests.installation import PASSWORD
from tests.tenants.test_browser import Browser, browser  # noqa: F401  a fixture

REFUSED = "This passkey opens nothing here"
SITES = {"/t/acme/": "alice", "/operator/": "oscar"}


@pytest.fixture
def people(browser):  # noqa: F811
    """The browser at the address that members know, with an authenticator that says yes when it is asked."""
    options = VirtualAuthenticatorOptions(
        protocol=VirtualAuthenticatorOptions.Protocol.CTAP2,
        transport=VirtualAuthenticatorOptions.Transport.INTERNAL,
        has_resident_key=True,
        has_user_verification=True,
        is_user_consenting=True,
        is_user_verified=True,
    )
    browser.driver.add_virtual_authenticator(options)
    return Browser(browser.driver, browser.web, browser.web.environment["BULKHEAD_PUBLIC_URL"])


def find(browser, selector):  # noqa: F811
    return browser.driver.find_element(By.CSS_SELECTOR, selector)


def register(browser, site, name):  # noqa: F811
    browser.open(f"{site}passkeys/")
    find(browser, "#begin_name").send_keys(name)
    find(browser, "#begin_password").send_keys(PASSWORD)
    browser.submit(find(browser, "#begin [type=submit]"))
    assert not find(browser, "#passkey-elsewhere").is_displayed()
    browser.submit(find(browser, "#passkey-register [type=submit]"))
    assert name in find(browser, "#made").text


def log_in(browser, site):  # noqa: F811
    browser.open(f"{site}login/")
    browser.submit(find(browser, "#passkey-log-in [type=submit]"))


def remove(browser, site):  # noqa: F811
    browser.open(f"{site}passkeys/")
    find(browser, "#remove_password").send_keys(PASSWORD)
    browser.submit(find(browser, "#remove [type=submit]"))
    assert browser.driver.find_elements(By.ID, "passkeys") == []


@pytest.mark.parametrize("site", SITES)
def test_a_passkey_is_registered_opens_its_own_site_alone_and_nothing_once_it_is_removed(people, site):
    username, others = SITES[site], next(each for each in SITES if each != site)
    people.log_in(site, username)
    register(people, site, "this machine")
    people.log_out(site)
    assert people.user(site) is None

    log_in(people, others)
    assert REFUSED in people.driver.page_source and people.user(others) is None
    for _ in range(2):
        log_in(people, site)
        assert people.user(site) == username.upper()
        people.log_out(site)
    log_in(people, site)
    remove(people, site)
    people.log_out(site)
    log_in(people, site)
    assert REFUSED in people.driver.page_source and people.user(site) is None
    assert {each.rp_id for each in people.driver.get_credentials()} == {"localhost"} and people.complaints() == []


def test_a_browser_that_shows_no_passkey_or_is_elsewhere_says_so_and_takes_the_password(people):
    people.open("/t/acme/login/")
    assert find(people, "#passkey-log-in").is_displayed() and not find(people, "#passkey-failed").is_displayed()
    people.driver.set_user_verified(False)
    find(people, "#passkey-log-in [type=submit]").click()
    WebDriverWait(people.driver, 30).until(lambda driver: find(people, "#passkey-failed").is_displayed())

    elsewhere = Browser(people.driver, people.web)
    elsewhere.open("/t/acme/login/")
    assert not find(elsewhere, "#passkey-log-in").is_displayed()
    elsewhere.log_in("/t/acme/", "alice")
    assert elsewhere.user("/t/acme/") == "ALICE"
