"""The sites in a real browser, on a real server."""

from pathlib import Path

import pytest
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.support.expected_conditions import staleness_of
from selenium.webdriver.support.ui import WebDriverWait

from tenants.context import tenant_context
from tenants.embedded.service import which
from tests.installation import PASSWORD
from tests.scans.rows import authorize, make_finding, make_run, make_scan, make_target
from tests.serving import WebServer
from tests.tenants.mailing import NEW, change, empty_mailbox, reset_code

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
    def __init__(self, driver, web, url=None):
        """``url``: another name of the server's, for what answers on a host of its own."""
        self.driver = driver
        self.url = url or web.url
        self.web = web

    def open(self, path):
        self.driver.get(self.url + path)
        return self.driver.find_element(By.CLASS_NAME, "plane-name").text

    def submit(self, button):
        page = self.driver.find_element(By.TAG_NAME, "html")
        button.click()
        # While pages change, the driver may answer with an error of its own instead of "stale".
        WebDriverWait(self.driver, 15, ignored_exceptions=[WebDriverException]).until(staleness_of(page))

    def log_in(self, site, username, password=PASSWORD):
        self.open(site)
        self.driver.find_element(By.ID, "id_username").send_keys(username)
        self.driver.find_element(By.ID, "id_password").send_keys(password)
        self.submit(self.driver.find_element(By.CSS_SELECTOR, "#login-form [type=submit]"))

    def log_out(self, site):
        self.open(site)
        self.submit(self.driver.find_element(By.CSS_SELECTOR, "#logout-form button"))

    def user(self, site):
        """Who is logged in there; ``None`` where the log-in form is shown."""
        self.open(site)
        names = self.driver.find_elements(By.CSS_SELECTOR, "#user-tools strong")
        return names[0].text if names else None

    def log(self):
        return Path(self.web.log.name).read_text()

    def complaints(self):
        """Of the browser since it was last asked: what it refused to load or run is among them."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]

    def pages(self, site):
        """The site's own pages that its first page and its lists lead to."""
        found, todo = [], [site]
        while todo and len(found) < 60:
            path = todo.pop(0)
            found.append(path)
            self.driver.get(self.url + path)
            for link in self.driver.find_elements(By.CSS_SELECTOR, "#content a, #user-tools a"):
                to = (link.get_attribute("href") or "").removeprefix(self.url).partition("?")[0].partition("#")[0]
                if to.startswith(site) and to not in (*found, *todo):
                    todo.append(to)
        return found


@pytest.fixture
def browser(installation, acme, globex, tmp_path, monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "--access-logfile -")
    options = webdriver.ChromeOptions()
    options.binary_location = which("chromium")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    service = webdriver.ChromeService(executable_path=which("chromedriver"), log_output=str(tmp_path / "driver.log"))
    web = WebServer(installation)
    web.environment["BULKHEAD_PUBLIC_URL"] = f"http://localhost:{web.port}"
    with web, webdriver.Chrome(options=options, service=service) as driver:
        yield Browser(driver, web)


def test_workspaces_and_console_stand_side_by_side_in_one_browser(browser):
    for site, (username, _) in SITES.items():
        browser.log_in(site, username)
    assert {site: (browser.user(site), browser.open(site)) for site in SITES} == {
        site: (username.upper(), name) for site, (username, name) in SITES.items()
    }

    browser.log_out("/t/acme/")

    assert [browser.user(site) for site in SITES] == [None, "MALLORY", "OSCAR"]
    assert browser.complaints() == []


@pytest.fixture
def scanned(acme, alice):
    with tenant_context(acme):
        target = make_target(alice)
        authorize(target, alice)
        scan = make_scan(target, alice, state="succeeded")
        make_finding(make_run(scan), "Server: nginx")
    return scan


def test_no_page_of_a_site_asks_for_what_its_policy_forbids(browser, scanned):
    seen = {}
    for site, (username, _) in SITES.items():
        browser.open(f"{site}login/")
        browser.log_in(site, username)
        seen[site] = browser.pages(site)
    kinds = ("/report.html", "/change/", "/history/", "/add/", "/password_change/", "/scans/finding/")

    assert browser.complaints() == []
    assert [kind for kind in kinds if not any(page.endswith(kind) for page in seen["/t/acme/"])] == []
    assert any("/tenants/tenant/" in page for page in seen["/operator/"])
    assert any(page.endswith("/operator/load/") for page in seen["/operator/"])


def test_the_page_of_the_api_shows_it_and_asks_for_nothing_that_its_policy_forbids(browser):
    browser.driver.get(f"{browser.url}/api/docs/")
    shown = WebDriverWait(browser.driver, 30).until(
        lambda driver: [each.text for each in driver.find_elements(By.CSS_SELECTOR, ".opblock-summary-path")]
    )

    assert any("findings" in path for path in shown)
    assert browser.complaints() == []


INJECTED = """
    window.ran = [];
    const script = document.createElement("script");
    script.textContent = "window.ran.push('script')";
    document.body.append(script);
    const other = document.createElement("script");
    other.src = "data:text/javascript,window.ran.push('data')";
    const image = document.createElement("div");
    image.innerHTML = `<button onclick="window.ran.push('handler')">x</button>`;
    document.body.append(image);
    image.firstChild.click();
    document.body.append(other);
"""


def test_a_script_that_got_into_a_page_does_not_run(browser, scanned):
    def ran():
        return browser.driver.execute_script("return window.ran")

    def wait(condition):
        WebDriverWait(browser.driver, 15).until(lambda driver: condition())

    browser.driver.get("data:text/html,<body></body>")
    browser.driver.execute_script(INJECTED)
    wait(lambda: sorted(ran()) == ["data", "handler", "script"])
    browser.log_in("/t/acme/", "alice")
    report = f"/t/acme/scans/scan/{scanned.pk}/report.html"
    for path in ("/t/acme/", "/t/acme/scans/target/", "/t/globex/login/", "/operator/login/", report, "/api/docs/"):
        browser.driver.get(browser.url + path)
        refused = browser.complaints()
        assert refused == [], path
        browser.driver.execute_script(INJECTED)
        wait(lambda found=refused: found.extend(browser.complaints()) or len(found) >= 3)
        assert all("Content Security Policy" in each or "sandboxed" in each for each in refused), path
        assert ran() == [], path


def test_no_page_stands_in_a_frame_of_another_site(browser):
    def framed(address):
        browser.driver.get(f"data:text/html,<iframe src='{address}' onload='document.title=1'></iframe>")
        WebDriverWait(browser.driver, 15).until(lambda driver: driver.title == "1")
        browser.driver.switch_to.frame(0)
        return browser.driver.find_element(By.TAG_NAME, "html").text

    assert framed("data:text/html,ok") == "ok"
    for path in ("/t/acme/login/", "/operator/login/", "/api/docs/", "/healthz"):
        assert framed(browser.url + path) == "", path


def test_what_pages_keep_in_a_browser_is_no_data_of_anybodys(browser, scanned):
    browser.log_in("/t/acme/", "alice")
    for path in ("/t/acme/", "/t/acme/scans/target/", f"/t/acme/scans/scan/{scanned.pk}/change/", "/api/docs/"):
        browser.driver.get(browser.url + path)
        kept = browser.driver.execute_script("return {...localStorage, ...sessionStorage}")

        # How the pages look: light or dark, and which filters are folded.
        assert set(kept) <= {"theme", "django.admin.filtersState"}, path
        assert not any("shop" in each or "acme" in each.lower() for each in kept.values()), path
        assert browser.driver.execute_script("return document.cookie") == "", path


def test_a_link_from_a_mail_fills_the_form_in_and_its_secret_is_in_no_log_and_in_no_address(browser):
    change("alice", email="alice@acme.example")
    code = reset_code()
    browser.open(f"/t/acme/password/set/#{code}")
    field = browser.driver.find_element(By.ID, "id_code")

    assert (field.get_attribute("value"), field.is_displayed()) == (code, False)
    assert browser.driver.current_url == f"{browser.url}/t/acme/password/set/"
    for name in ("id_password1", "id_password2"):
        browser.driver.find_element(By.ID, name).send_keys(NEW)
    browser.submit(browser.driver.find_element(By.CSS_SELECTOR, "#login-form [type=submit]"))

    assert "Your password is set" in browser.driver.page_source and browser.complaints() == []
    log = browser.log()
    assert "GET /t/acme/password/set/ " in log and "POST /t/acme/password/set/ " in log
    assert code[33:] not in log + browser.driver.page_source
    browser.log_in("/t/acme/", "alice", NEW)
    assert browser.user("/t/acme/") == "ALICE"
    empty_mailbox()
