"""What the pages that the crawl has seen tell by themselves: headers, cookies, forms, error pages."""

import re
from collections.abc import Callable, Iterator
from urllib.parse import urljoin, urlsplit

from scans.engines import http_rules as rules
from scans.engines.base import FindingEvent, Rule
from scans.engines.http_client import Response
from scans.engines.http_site import Page, Site, tags
from scans.engines.net import NoAnswerError

_SESSION_COOKIE = re.compile(r"sess|sid$|^sid|auth|token|jwt|login|remember", re.IGNORECASE)
_CSRF_COOKIE = re.compile(r"csrf|xsrf", re.IGNORECASE)
_HAS_VERSION = re.compile(r"/v?\d|\d+\.\d")
_ERROR_DETAILS = re.compile(
    r"Traceback \(most recent call last\)"
    r"|You're seeing this error because you have <code>DEBUG = True"
    r"|Werkzeug Debugger"
    r"|<b>(?:Fatal error|Warning|Parse error)</b>:.{1,300}? on line <b>\d+"
    r"|\bat [\w.$]{1,200}\([\w$]{1,80}\.java:\d+\)"
    r"|You have an error in your SQL syntax",
    re.DOTALL,
)


def check_headers(site: Site) -> Iterator[FindingEvent]:
    """One finding per header and site, at ``/``: a missing header is a setting, not a page's fault."""
    answered = [page for page in site.pages if page.response.status < 400]
    html = [page for page in answered if page.response.is_html and page.response.status == 200]
    if site.endpoint.scheme == "https":
        yield from _missing(site, rules.HSTS, answered, _has_hsts)
    yield from _missing(site, rules.CSP, html, lambda r: bool(r.header("content-security-policy")))
    yield from _missing(site, rules.NOSNIFF, html, lambda r: r.header("x-content-type-options").lower() == "nosniff")
    yield from _missing(site, rules.FRAMING, html, _refuses_frames)
    yield from _missing(site, rules.REFERRER, html, lambda r: bool(r.header("referrer-policy")))
    for name in ("server", "x-powered-by", "x-aspnet-version"):
        values = {value for page in site.pages for value in page.response.all_headers(name)}
        told = sorted(value for value in values if _HAS_VERSION.search(value))
        if told:
            yield site.finding(
                rules.VERSION, "/", f"{name}: {told[0]:.200}", place="header", parameter=name, confidence="observed"
            )


def _missing(site: Site, rule: Rule, pages: list[Page], is_good: Callable[[Response], bool]) -> Iterator[FindingEvent]:
    bad = [page.path for page in pages if not is_good(page.response)]
    if bad:
        evidence = f"Missing on {len(bad)} of {len(pages)} pages seen: {' '.join(bad[:10])}"
        yield site.finding(rule, "/", evidence, place="header")


def _has_hsts(response: Response) -> bool:
    match = re.search(r'max-age\s{0,5}=\s{0,5}"?(\d{1,12})', response.header("strict-transport-security"), re.I)
    return match is not None and int(match[1]) > 0


def _refuses_frames(response: Response) -> bool:
    if response.header("x-frame-options").strip().lower() in ("deny", "sameorigin"):
        return True
    return any("frame-ancestors" in value.lower() for value in response.all_headers("content-security-policy"))


def check_cookies(site: Site) -> Iterator[FindingEvent]:
    """A cookie belongs to the site, so its place is ``/`` whichever page set it."""
    for page in site.pages:
        for line in page.response.all_headers("set-cookie"):
            first, *rest = line.split(";")
            name, _, value = first.strip().partition("=")
            attributes = {item.strip().partition("=")[0].lower(): item.partition("=")[2].strip() for item in rest}
            if not name or not value or attributes.get("max-age") == "0":
                continue
            yield from _judge_cookie(site, page.path, name[:100], attributes)


def _judge_cookie(site: Site, path: str, name: str, attributes: dict[str, str]) -> Iterator[FindingEvent]:
    shown = "; ".join([f"{name}=...", *attributes])
    is_session = _SESSION_COOKIE.search(name) is not None and _CSRF_COOKIE.search(name) is None
    faults = []
    if "secure" not in attributes and site.endpoint.scheme == "https":
        faults.append(rules.COOKIE_SECURE)
    if "httponly" not in attributes and is_session:
        faults.append(rules.COOKIE_HTTPONLY)
    if "samesite" not in attributes and is_session:
        faults.append(rules.COOKIE_SAMESITE)
    for rule in faults:
        yield site.finding(rule, "/", f"GET {path} sets {shown}", place="cookie", parameter=name)


def check_forms(site: Site) -> Iterator[FindingEvent]:
    for page in site.pages:
        if not page.response.is_html:
            continue
        action = ""
        for tag, attributes in tags(page.response.text):
            if tag == "form":
                action = attributes.get("action", "")
            elif tag == "input" and attributes.get("type", "").lower() == "password":
                destination = _destination(site.url(page.path), action)
                if site.endpoint.scheme == "http" or urlsplit(destination).scheme == "http":
                    evidence = f"A password field on {site.url(page.path)} is sent to {destination}"
                    yield site.finding(
                        rules.PASSWORD_FORM, page.path, evidence, place="form", parameter=attributes.get("name", "")
                    )


def _destination(page: str, action: str) -> str:
    try:
        destination = urljoin(page, action)
        urlsplit(destination)
    except ValueError:
        return page
    return destination


def check_errors(site: Site) -> Iterator[FindingEvent]:
    """On the pages seen, and on one that does not exist."""
    for page in site.pages:
        yield from _judge_error(site, page.path, page.response)
    try:
        yield from _judge_error(site, "/", site.missing_page)
    except NoAnswerError as error:
        site.miss(str(error), rules.ERROR_DETAILS)


def _judge_error(site: Site, path: str, response: Response) -> Iterator[FindingEvent]:
    match = _ERROR_DETAILS.search(response.text)
    if match:
        evidence = f"Answered {response.status} with: {match[0]:.300}"
        yield site.finding(rules.ERROR_DETAILS, path, evidence, place="body")
