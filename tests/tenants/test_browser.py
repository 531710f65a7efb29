"""The sites in a real browser, on a real server."""

import pytest
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.support.expected_conditions import staleness_of
from selenium.webdriver.support.ui import WebDriverWait

from tenants.embedded.service import which
from tests.installation import PASSWORD
from tests.serving import WebServer

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1200,900",
)  # fmt: skip
SITES = {
    "/t/acme/": ("alice", "Acme"),
    "/t/globex/": ("mallory", "Globex"),
    "/operator/": ("oscar", "Operator console"),
}


class Browser:
    def __init__(self, driver, url):
        self.driver = driver
        self.url = url

    def open(self, path):
        self.driver.get(self.url + path)
        return self.driver.find_element(By.CLASS_NAME, "plane-name").text

    def submit(self, button):
        page = self.driver.find_element(By.TAG_NAME, "html")
        button.click()
        # While pages change, the driver may answer with an error of its own instead of "stale".
        WebDriverWait(self.driver, 15, ignored_exceptions=[WebDriverException]).until(staleness_of(page))

    def log_in(self, site, username):
        self.open(site)
        self.driver.find_element(By.ID, "id_username").send_keys(username)
        self.driver.find_element(By.ID, "id_password").send_keys(PASSWORD)
        self.submit(self.driver.find_element(By.CSS_SELECTOR, "#login-form [type=submit]"))

    def log_out(self, site):
        self.open(site)
        self.submit(self.driver.find_element(By.CSS_SELECTOR, "#logout-form button"))

    def user(self, site):
        """Who is logged in there; ``None`` where the log-in form is shown."""
        self.open(site)
        names = self.driver.find_elements(By.CSS_SELECTOR, "#user-tools strong")
        return names[0].text if names else None

    def complaints(self):
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]


@pytest.fixture
def browser(installation, acme, globex, tmp_path, monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    options = webdriver.ChromeOptions()
    options.binary_location = which("chromium")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    service = webdriver.ChromeService(executable_path=which("chromedriver"), log_output=str(tmp_path / "driver.log"))
    with WebServer(installation) as web, webdriver.Chrome(options=options, service=service) as driver:
        yield Browser(driver, web.url)


def test_workspaces_and_console_stand_side_by_side_in_one_browser(browser):
    for site, (username, _) in SITES.items():
        browser.log_in(site, username)
    assert {site: (browser.user(site), browser.open(site)) for site in SITES} == {
        site: (username.upper(), name) for site, (username, name) in SITES.items()
    }

    browser.log_out("/t/acme/")

    assert [browser.user(site) for site in SITES] == [None, "MALLORY", "OSCAR"]
    assert browser.complaints() == []
