"""A site with nothing to find: whatever a scanner reports of it is false."""

from pathlib import Path

from scans.weak_targets.certificates import Authority, make_certificate, make_key, server_context
from scans.weak_targets.server import GOOD_HEADERS, Lifetime, LineServer, Reply, Request, SiteApp, WebServer

_HEADERS = {**GOOD_HEADERS, "Strict-Transport-Security": "max-age=31536000; includeSubDomains"}
_FORM = '<form method="post" action="/login"><input name="password" type="password"></form>'
_SESSION = {"Set-Cookie": "sessionid=9a2c; Path=/; Secure; HttpOnly; SameSite=Lax"}


def _vault(request: Request) -> Reply:
    if request.method not in ("GET", "HEAD", "POST"):
        return Reply("Method not allowed", 405, headers={"Allow": "GET, HEAD, POST"})
    if request.path == "/":
        return Reply('<h1>Vault</h1><a href="/login">Log in</a>')
    if request.path == "/login":
        return Reply(_FORM, headers=_SESSION)
    return Reply("Not found", 404)


def make_servers(
    address: str, ports: dict[str, int], directory: Path, authority: Authority, lifetime: Lifetime
) -> dict[str, WebServer | LineServer]:
    key = make_key()
    context = server_context(directory, key, make_certificate(key, address, authority))
    return {"https": WebServer((address, ports["https"]), SiteApp(_vault, _HEADERS), lifetime, context)}
