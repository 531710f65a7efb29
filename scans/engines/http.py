"""Visits a web site's pages and asks for what should not be there. Reads only; follows nothing off the site."""

import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from scans.engines import http_rules as rules
from scans.engines.base import EngineTarget, Event, FindingEvent, NotCovered, check_int
from scans.engines.http_checks import check_cookies, check_errors, check_forms, check_headers
from scans.engines.http_client import Endpoint
from scans.engines.http_files import check_files
from scans.engines.http_probes import (
    check_authentication,
    check_cors,
    check_listings,
    check_methods,
    check_redirects,
)
from scans.engines.http_site import Site
from scans.engines.net import lenient_context, sniff
from scans.engines.sweep import sweep

NAME = "http"
INTRUSIVENESS = "safe_active"
RULES = rules.RULES

CHECKS: tuple[Callable[[Site], Iterator[FindingEvent]], ...] = (
    check_headers,
    check_cookies,
    check_forms,
    check_errors,
    check_files,
    check_listings,
    check_redirects,
    check_cors,
    check_methods,
    check_authentication,
)

# The places of these come from the crawl, so that an unfinished crawl leaves them untested.
_CRAWLED = (
    *rules.HEADER_RULES.values(),
    *rules.COOKIE_RULES.values(),
    *rules.PAGE_RULES.values(),
    rules.LISTING,
    rules.REDIRECT,
    rules.CORS,
    rules.DEFAULT_CREDENTIALS,
    rules.BASIC_IN_CLEAR,
)


@dataclass(frozen=True)
class Options:
    max_pages: int = 30
    max_requests: int = 300
    seconds_per_request: int = 5
    seconds_per_port: int = 90
    parallel: int = 4

    def __post_init__(self) -> None:
        check_int("max_pages", self.max_pages, 1, 200)
        check_int("max_requests", self.max_requests, 10, 5000)
        check_int("seconds_per_request", self.seconds_per_request, 1, 30)
        check_int("seconds_per_port", self.seconds_per_port, 5, 3600)
        check_int("parallel", self.parallel, 1, 16)


def version() -> str:
    return f"python {platform.python_version()}"


def available() -> bool:
    return True


def run(target: EngineTarget, options: Options) -> Iterator[Event]:
    context = lenient_context()

    def probe(address: str, port: int) -> Iterator[FindingEvent | NotCovered]:
        greeting = sniff(target, address, port, options.seconds_per_request)
        if greeting.kind in ("closed", "other"):
            return
        scheme = "https" if greeting.kind == "tls" else "http"
        endpoint = Endpoint(target, address, port, scheme, options.seconds_per_request, context)
        site = Site(endpoint, options.max_requests, options.max_pages, options.seconds_per_port)
        site.crawl()
        if site.crawl_gap:
            site.miss(site.crawl_gap, *_CRAWLED)
        for check in CHECKS:
            yield from check(site)
        for rule_key, reason in site.gaps.items():
            yield NotCovered(rule_key, port, reason)

    return sweep(target, RULES, probe, options.parallel)
