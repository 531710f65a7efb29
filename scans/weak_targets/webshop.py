"""A shop that was put on the network in a hurry."""

import io
import ssl
import zipfile
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO
from urllib.parse import parse_qs

from scans.weak_targets.certificates import Authority, make_certificate, make_key, server_context
from scans.weak_targets.server import GOOD_HEADERS, Lifetime, LineServer, Reply, Request, SiteApp, WebServer

_ENV = "# shop settings\nDEBUG=0\nDATABASE_URL=mysql://shop:demo-only@db/shop\nPAYMENT_KEY=demo-only-0000\n"
_TRACE = (
    "<pre>Traceback (most recent call last):\n"
    '  File "/srv/shop/views.py", line 41, in product\n'
    "    return PRODUCTS[slug]\nKeyError</pre>"
)
_PAGES = {
    "/": '<h1>Web shop</h1><a href="/login">Log in</a> <a href="/products">Products</a> <a href="/go?next=/">Home</a>',
    "/products": '<h1>Products</h1><img src="/uploads/anchor.png" alt="An anchor">',
    "/login": '<form method="post" action="/login"><input name="user"><input name="password" type="password"></form>',
    "/uploads/": '<title>Index of /uploads/</title><a href="/uploads/anchor.png">anchor.png</a>',
}
_SESSION = {"Set-Cookie": "sessionid=4f1d; Path=/"}


def _backup() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("shop/README", "A demo file.")
    return file.getvalue()


def _shop(request: Request) -> Reply:
    if request.method == "TRACE":
        return Reply(f"TRACE {request.path} HTTP/1.1\r\n{request.raw_head}", content_type="message/http")
    if request.method not in ("GET", "HEAD", "POST"):
        return Reply("Method not allowed", 405, headers={"Allow": "GET, HEAD, POST"})
    if request.path == "/go":
        return Reply("", 302, headers={"Location": parse_qs(request.query).get("next", ["/"])[0]})
    if request.path == "/.env":
        return Reply(_ENV, content_type="text/plain")
    if request.path == "/backup.zip":
        return Reply(_backup(), content_type="application/zip")
    if request.path in _PAGES:
        return Reply(_PAGES[request.path], headers=_SESSION)
    return Reply(_TRACE, 404)


def _checkout(request: Request) -> Reply:
    if request.method not in ("GET", "HEAD", "POST"):
        return Reply("Method not allowed", 405, headers={"Allow": "GET, HEAD, POST"})
    if request.path != "/":
        return Reply("Not found", 404)
    return Reply("<h1>Check-out</h1>", headers={"Set-Cookie": "basket=17; Path=/; HttpOnly; SameSite=Lax"})


def _telnet(reader: BinaryIO, writer: BinaryIO) -> None:
    writer.write(bytes([255, 251, 1, 255, 251, 3]) + b"\r\nshop maintenance\r\nlogin: ")
    reader.readline(200)
    writer.write(b"Password: ")
    reader.readline(200)
    writer.write(b"\r\nLogin incorrect\r\n")


def _old_context(directory: Path, authority: Authority) -> ssl.SSLContext:
    key = make_key(2048)
    certificate = make_certificate(key, "shop.example", authority, shift=timedelta(days=-30))
    context = server_context(directory, key, certificate)
    context.set_ciphers("ECDHE+AESGCM:AES128-GCM-SHA256")  # the second is RSA key exchange
    return context


def make_servers(
    address: str, ports: dict[str, int], directory: Path, authority: Authority, lifetime: Lifetime
) -> dict[str, WebServer | LineServer]:
    secure = SiteApp(_checkout, {**GOOD_HEADERS, "Strict-Transport-Security": "max-age=31536000"})
    context = _old_context(directory, authority)
    return {
        "http": WebServer((address, ports["http"]), SiteApp(_shop), lifetime),
        "https": WebServer((address, ports["https"]), secure, lifetime, context),
        "telnet": LineServer((address, ports["telnet"]), _telnet, lifetime),
    }
