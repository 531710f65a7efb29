"""Support access in a real browser, with the console on a host of its own: another site than the members' one."""

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from tenants.embedded.service import which
from tests.serving import WebServer
from tests.tenants.supporting import REASON, page_of
from tests.tenants.test_browser import FLAGS, Browser


@pytest.fixture
def sites(installation, acme, tmp_path, monkeypatch):
    """The console and the workspaces, in one browser."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    options = webdriver.ChromeOptions()
    options.binary_location = which("chromium")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    service = webdriver.ChromeService(executable_path=which("chromedriver"), log_output=str(tmp_path / "driver.log"))
    web = WebServer(installation)
    web.environment |= {"BULKHEAD_OPERATOR_HOST": "localhost", "BULKHEAD_ALLOWED_HOSTS": "127.0.0.1"}
    web.environment |= {"BULKHEAD_PUBLIC_URL": web.url}
    with web, webdriver.Chrome(options=options, service=service) as driver:
        yield Browser(driver, web, f"http://localhost:{web.port}"), Browser(driver, web)


def find(site, selector):
    return site.driver.find_element(By.CSS_SELECTOR, selector)


def banners(site):
    return [each.text for each in site.driver.find_elements(By.CLASS_NAME, "support-banner")]


def test_an_operator_asks_an_owner_grants_the_operator_enters_everybody_sees_it_and_it_ends(sites):
    console, workspace = sites
    console.log_in("/operator/", "oscar")
    console.open(page_of())
    find(console, "#id_reason").send_keys(REASON)
    console.submit(find(console, "#support-request button"))
    assert "asked" in find(console, "#support-accesses").text

    workspace.log_in("/t/acme/", "alice")
    (notice,) = banners(workspace)
    assert "support:oscar asks" in notice
    workspace.submit(find(workspace, ".support-banner a"))
    Select(find(workspace, "#id_hours")).select_by_visible_text("2")
    workspace.submit(find(workspace, "#support-decision [value=grant]"))
    (banner,) = banners(workspace)
    assert "support:oscar" in banner and REASON in banner and "Granted by alice" in banner

    console.open(page_of())
    console.submit(find(console, "#support-enter button"))
    console.submit(find(console, "#support-entry button"))
    assert workspace.driver.current_url == f"{workspace.url}/t/acme/"
    assert workspace.user("/t/acme/") == "SUPPORT:OSCAR"
    assert banners(workspace) == [banner.removesuffix(" End it")]
    assert console.user("/operator/") == "OSCAR"

    console.open(page_of())
    console.submit(find(console, "#support-end button"))
    assert workspace.user("/t/acme/") is None
    workspace.log_in("/t/acme/", "alice")
    assert banners(workspace) == []
    assert console.complaints() == []
