"""What has to be asked for: listings, redirects, CORS, methods, well-known credentials. Nothing is changed."""

import re
import secrets
from base64 import b64encode
from collections.abc import Iterator
from itertools import islice
from urllib.parse import parse_qsl, quote, urlencode, urljoin, urlsplit

from scans.engines import http_rules as rules
from scans.engines.base import FindingEvent, Rule
from scans.engines.http_client import Response
from scans.engines.http_site import Site

ELSEWHERE = "elsewhere.invalid"  # a reserved name: nobody can own it, and nothing connects to it
CREDENTIALS = (("admin", "admin"), ("admin", "password"), ("root", "root"), ("test", "test"), ("guest", "guest"))
MAX_REALMS = 3
MAX_PLACES = 40

_DIRECTORIES = ("/uploads/", "/files/", "/backup/", "/backups/", "/images/", "/static/", "/media/", "/logs/", "/tmp/")  # noqa: S108
_LISTING = re.compile(r"<title>\s{0,20}(?:Index of /|Directory listing for /|Listing directory)", re.IGNORECASE)
_REDIRECTORS = ("/redirect", "/go", "/out", "/login")
_REDIRECT_PARAMETERS = (
    "next",
    "url",
    "redirect",
    "redirect_uri",
    "return",
    "returnTo",
    "goto",
    "dest",
    "to",
    "continue",
)
_APIS = ("/api/", "/api/v1/", "/graphql")
_ADMIN_PATHS = ("/admin/", "/admin", "/manager/html", "/private/")
_WRITE_METHODS = {"PUT", "DELETE", "PROPFIND", "MKCOL", "MOVE", "COPY"}


def check_listings(site: Site) -> Iterator[FindingEvent]:
    folders = {path.partition("?")[0].rpartition("/")[0] + "/" for path in site.links}
    places = sorted({"/", *_DIRECTORIES, *folders})
    for path in _bounded(site, places, rules.LISTING):
        response = site.ask(path, rules.LISTING)
        match = _LISTING.search(response.text) if response else None
        if match:
            yield site.finding(rules.LISTING, path, f"The page says: {match[0]}", place="body")


def check_redirects(site: Site) -> Iterator[FindingEvent]:
    """All parameters in one request; only what redirects elsewhere is asked again, one by one."""
    destination = f"https://{ELSEWHERE}/"
    parameters: dict[str, set[str]] = {path: set(_REDIRECT_PARAMETERS) for path in _REDIRECTORS}
    for link in site.links:
        path, _, query = link.partition("?")
        names = {name[:50] for name, _ in islice(parse_qsl(query), 20)}
        parameters.setdefault(path, set(_REDIRECT_PARAMETERS)).update(names)
    for path in _bounded(site, sorted(parameters), rules.REDIRECT):
        tried = sorted(parameters[path])
        response = site.ask(_with_query(path, dict.fromkeys(tried, destination)), rules.REDIRECT)
        if not _leads_elsewhere(response):
            continue
        for name in tried:
            response = site.ask(_with_query(path, {name: destination}), rules.REDIRECT)
            if response and _leads_elsewhere(response):
                evidence = f"{name}={destination} is answered {response.status}, Location: {destination}"
                yield site.finding(rules.REDIRECT, path, evidence, place="query", parameter=name)


def _with_query(path: str, parameters: dict[str, str]) -> str:
    return f"{path}?{urlencode(parameters, quote_via=quote, safe='')}"


def _leads_elsewhere(response: Response | None) -> bool:
    if response is None or not 300 <= response.status < 400:
        return False
    try:
        return urlsplit(urljoin("http://here.invalid/", response.header("location"))).hostname == ELSEWHERE
    except ValueError:
        return False


def check_cors(site: Site) -> Iterator[FindingEvent]:
    origin = f"https://{ELSEWHERE}"
    places = sorted({*_APIS, *(page.path for page in site.pages)})
    for path in _bounded(site, places, rules.CORS):
        response = site.ask(path, rules.CORS, headers={"Origin": origin})
        if response is None:
            continue
        allowed = response.header("access-control-allow-origin")
        if allowed == origin and response.header("access-control-allow-credentials").lower() == "true":
            evidence = f"Origin: {origin} is answered with Access-Control-Allow-Origin: {origin} and credentials: true"
            yield site.finding(rules.CORS, path, evidence, place="header", parameter="origin")


def check_methods(site: Site) -> Iterator[FindingEvent]:
    """PUT and DELETE are read from what OPTIONS offers: trying them would change the target."""
    token = secrets.token_hex(8)
    response = site.ask("/", rules.TRACE, method="TRACE", headers={"X-Bulkhead-Probe": token})
    if response and response.status == 200 and token.encode() in response.body:
        yield site.finding(
            rules.TRACE, "/", "TRACE sends back the request's own headers", place="method", method="TRACE"
        )
    response = site.ask("/", rules.WRITE_METHODS, method="OPTIONS")
    if response is None or response.status >= 400:
        return
    offered = {name.strip().upper() for name in response.header("allow").split(",")[:50]}
    offered |= {name.strip().upper() for name in response.header("public").split(",")[:50]}
    risky = sorted(offered & _WRITE_METHODS)
    if risky:
        yield site.finding(
            rules.WRITE_METHODS,
            "/",
            f"OPTIONS / offers {', '.join(risky)}",
            place="method",
            method="OPTIONS",
            confidence="inferred",
        )


def check_authentication(site: Site) -> Iterator[FindingEvent]:
    """A realm is judged where it was met first; its other pages share its passwords."""
    realms: dict[str, str] = {}
    for page in site.pages:
        if _asks_basic(page.response):
            realms.setdefault(_realm(page.response), page.path)
    for path in _ADMIN_PATHS:
        response = site.ask(path, rules.DEFAULT_CREDENTIALS, rules.BASIC_IN_CLEAR)
        if response and _asks_basic(response):
            realms.setdefault(_realm(response), path)
    for realm, path in realms.items():
        if site.endpoint.scheme == "http":
            evidence = f"GET {path} over http asks for Basic credentials (realm {realm:.80})"
            yield site.finding(rules.BASIC_IN_CLEAR, path, evidence, place="header")
    for path in list(realms.values())[:MAX_REALMS]:
        yield from _try_credentials(site, path)
    if len(realms) > MAX_REALMS:
        site.miss(f"only {MAX_REALMS} of {len(realms)} realms were tried", rules.DEFAULT_CREDENTIALS)


def _try_credentials(site: Site, path: str) -> Iterator[FindingEvent]:
    """A wrong password first: where that is admitted too, nothing is protected and nothing was guessed."""
    if _is_admitted(site, path, "admin", secrets.token_hex(8)):
        return
    for user, password in CREDENTIALS:
        if _is_admitted(site, path, user, password):
            evidence = f"GET {path} admits user {user} with the password that everybody tries first"
            yield site.finding(rules.DEFAULT_CREDENTIALS, path, evidence, place="header", parameter=user)


def _is_admitted(site: Site, path: str, user: str, password: str) -> bool:
    value = b64encode(f"{user}:{password}".encode()).decode()
    response = site.ask(path, rules.DEFAULT_CREDENTIALS, headers={"Authorization": f"Basic {value}"})
    return response is not None and response.status < 400


def _asks_basic(response: Response) -> bool:
    return response.status == 401 and any(
        value.lower().startswith("basic") for value in response.all_headers("www-authenticate")
    )


def _realm(response: Response) -> str:
    match = re.search(r'realm="?([^"]{0,100})', response.header("www-authenticate"))
    return match[1] if match else ""


def _bounded(site: Site, places: list[str], rule: Rule) -> list[str]:
    if len(places) > MAX_PLACES:
        site.miss(f"only {MAX_PLACES} of {len(places)} places were asked", rule)
    return places[:MAX_PLACES]
