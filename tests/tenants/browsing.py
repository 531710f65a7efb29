"""A browser's side of the two kinds of site."""

import re
from html.parser import HTMLParser

from tests.installation import PASSWORD

SITES = {"/t/acme/": "alice", "/t/globex/": "mallory", "/operator/": "oscar"}
COOKIES = {"/t/acme/": "acme", "/t/globex/": "globex", "/operator/": "operator"}


def log_in(browser, site, username=None, password=PASSWORD, **more):
    query = f"?next={more.pop('query')}" if "query" in more else ""
    return browser.post(f"{site}login/{query}", {"username": username or SITES[site], "password": password} | more)


def is_in(browser, site):
    answer = browser.get(site)
    assert answer.status_code in (200, 302, 403, 503)
    return answer.status_code == 200 and SITES[site] in answer.content.decode()


class Links(HTMLParser):
    def __init__(self, answer):
        super().__init__()
        self.found = []
        self.feed(answer.content.decode())

    def handle_starttag(self, tag, attributes):
        self.found += [value for name, value in attributes if name in ("href", "src", "action") and value]


def form(answer, slug):
    """A page and its headers without what must differ: the CSRF token, the slug, the request's id."""
    text = re.sub(r'(csrfmiddlewaretoken" value=")\w+', r"\1", answer.content.decode()).replace(slug, "SLUG")
    names = ("X-Request-ID", "Date", "Expires", "Content-Length")
    headers = {name: value.replace(slug, "SLUG") for name, value in answer.items() if name not in names}
    cookies = {
        name.replace(slug, "SLUG"): {
            key: str(value).replace(slug, "SLUG") for key, value in cookie.items() if key != "expires"
        }
        for name, cookie in answer.cookies.items()
    }
    return answer.status_code, text, headers, cookies
