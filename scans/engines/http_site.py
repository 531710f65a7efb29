"""One site (scheme, host, port, address): a bounded crawl, a request budget, and a memory of failures."""

import re
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from html import unescape
from urllib.parse import urljoin, urlsplit

from scans.engines.base import FindingEvent, Rule
from scans.engines.http_client import Endpoint, Response, exchange
from scans.engines.net import NoAnswerError

MAX_FAILURES_IN_A_ROW = 5
MAX_LINKS = 500

# Start tags only, each bounded, so that no page makes the search quadratic.
_TAG = re.compile(r"<(a|area|form|input|iframe|link|script|img)\b([^<>]{0,2000})>", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"""([a-zA-Z-]{1,30})\s{0,5}=\s{0,5}("[^"]{0,1000}"|'[^']{0,1000}'|[^\s"'>]{1,1000})""")
_CHANGES_STATE = re.compile(r"log-?out|sign-?out|delete|remove|unsubscribe|destroy|drop|reset", re.IGNORECASE)
_NOT_PAGES = (".png", ".jpg", ".jpeg", ".gif", ".svg", ".ico", ".css", ".woff", ".woff2", ".mp4", ".pdf", ".zip")


@dataclass(frozen=True)
class Page:
    path: str
    response: Response


@dataclass
class Site:
    """
    ``crawl_gap``: why the crawl did not see every page, empty when it did. ``gaps``: why a rule was not tested
    everywhere. A check that cannot ask somewhere notes a gap and goes on with the next place.
    """

    endpoint: Endpoint
    max_requests: int
    max_pages: int
    max_seconds: float
    pages: list[Page] = field(default_factory=list)
    links: set[str] = field(default_factory=set)
    crawl_gap: str = ""
    gaps: dict[str, str] = field(default_factory=dict)
    _requests: int = 0
    _failures: int = 0
    _started: float = field(default_factory=time.monotonic)

    def ask(
        self, path: str, *rules: Rule, method: str = "GET", headers: dict[str, str] | None = None
    ) -> Response | None:
        """``None``, and a gap for each of ``rules``, at a fault, without budget, and from an overloaded server."""
        try:
            response = self._fetch(path, method, headers or {})
        except NoAnswerError as error:
            reason = str(error)
        else:
            if not _is_overloaded(response):
                return response
            reason = f"{method} {path:.80} is answered {response.status}"
        self.miss(reason, *rules)
        return None

    def miss(self, reason: str, *rules: Rule) -> None:
        for rule in rules:
            self.gaps.setdefault(rule.key, reason)

    @cached_property
    def missing_page(self) -> Response:
        """The answer for a path that does not exist, whatever its status. Raises ``NoAnswerError``."""
        return self._fetch(f"/{secrets.token_hex(12)}", "GET", {})

    def _fetch(self, path: str, method: str, headers: dict[str, str]) -> Response:
        if self._failures >= MAX_FAILURES_IN_A_ROW:
            raise NoAnswerError(f"given up after {MAX_FAILURES_IN_A_ROW} failures in a row")
        if self._requests >= self.max_requests:
            raise NoAnswerError(f"the budget of {self.max_requests} requests is spent")
        if time.monotonic() - self._started > self.max_seconds:
            raise NoAnswerError(f"the budget of {self.max_seconds:g} s for this port is spent")
        self._requests += 1
        try:
            response = exchange(self.endpoint, method, path, headers)
        except NoAnswerError:
            self._failures += 1
            raise
        self._failures = 0
        return response

    def crawl(self) -> None:
        """Fills ``pages`` from ``/`` along links and redirects that stay on this scheme, host and port."""
        waiting, seen = ["/"], {"/"}
        while waiting:
            if len(self.pages) >= self.max_pages:
                self.crawl_gap = f"only the first {self.max_pages} pages were visited"
                return
            path = waiting.pop(0)
            try:
                response = self._fetch(path, "GET", {})
            except NoAnswerError as error:
                self.crawl_gap = str(error)
                continue
            if _is_overloaded(response):
                self.crawl_gap = f"GET {path:.80} is answered {response.status}"
            elif response.is_cut:
                self.crawl_gap = f"GET {path:.80} was not read to its end"
            self.pages.append(Page(path, response))
            for link in filter(_is_harmless, self._links_of(path, response)):
                self.links.add(link)
                if link not in seen and len(seen) < MAX_LINKS and _is_page(link):
                    seen.add(link)
                    waiting.append(link)

    def _links_of(self, path: str, response: Response) -> Iterator[str]:
        if 300 <= response.status < 400:
            yield from self._inside(path, response.header("location"))
        if response.is_html:
            for tag, attributes in tags(response.text):
                name = {"form": "action", "a": "href", "area": "href", "link": "href"}.get(tag, "src")
                yield from self._inside(path, attributes.get(name, ""))

    def _inside(self, base: str, link: str) -> Iterator[str]:
        """The path and query of a link to this very site; nothing for any other."""
        if not link:
            return
        try:
            parts = urlsplit(urljoin(self.url(base), link))
            port = parts.port or (443 if parts.scheme == "https" else 80)
            host = parts.hostname
        except ValueError:
            return
        if (parts.scheme, host, port) != (self.endpoint.scheme, self.endpoint.target.host, self.endpoint.port):
            return
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if len(path) <= 500 and path.isascii() and path.isprintable() and " " not in path and path[0] == "/":
            yield path

    def url(self, path: str) -> str:
        return f"{self.endpoint.scheme}://{self.endpoint.host}{path}"

    def finding(
        self,
        rule: Rule,
        path: str,
        evidence: str,
        *,
        place: str,
        parameter: str = "",
        method: str = "GET",
        confidence: str = "verified",
    ) -> FindingEvent:
        """``path`` loses its query: a place is where, not with what."""
        bare = path.partition("?")[0]
        scheme, port = self.endpoint.scheme, self.endpoint.port
        return FindingEvent(rule.key, scheme, port, method, bare, parameter, place, evidence[:2000], confidence)


def tags(html: str) -> Iterator[tuple[str, dict[str, str]]]:
    for match in _TAG.finditer(html):
        pairs = _ATTRIBUTE.findall(match[2])
        yield match[1].lower(), {name.lower(): unescape(value.strip("\"'")).strip() for name, value in pairs}


def _is_overloaded(response: Response) -> bool:
    """501 is an answer: the method is not implemented."""
    return response.status == 429 or (response.status >= 500 and response.status != 501)


def _is_harmless(path: str) -> bool:
    """GET should change nothing; where a link's name says that it does, it is not followed."""
    return not _CHANGES_STATE.search(path)


def _is_page(path: str) -> bool:
    return not path.partition("?")[0].lower().endswith(_NOT_PAGES)
