"""An internal portal that trusts everybody who can reach it."""

import ssl
import warnings
from base64 import b64encode
from pathlib import Path
from typing import BinaryIO

from scans.weak_targets.certificates import Authority, make_certificate, make_key, server_context
from scans.weak_targets.server import GOOD_HEADERS, Lifetime, LineServer, Reply, Request, SiteApp, WebServer

_ADMIN = "Basic " + b64encode(b"admin:admin").decode()
_DUMP = "-- MySQL dump 10.19\nCREATE TABLE staff (id int, name varchar(80));\nINSERT INTO staff VALUES (1,'Demo');\n"
_PAGES = {
    "/": '<h1>Intranet</h1><a href="/news">News</a> <a href="/admin/">Administration</a>',
    "/news": "<h1>News</h1><p>The canteen is closed on Friday.</p>",
}


def _portal(request: Request) -> Reply:
    if request.method == "OPTIONS":
        return Reply("", 204, headers={"Allow": "GET, HEAD, OPTIONS, PUT, DELETE"})
    if request.method not in ("GET", "HEAD"):
        return Reply("Method not allowed", 405)
    if request.path == "/admin/":
        if request.headers.get("Authorization") == _ADMIN:
            return Reply("<h1>Administration</h1>")
        return Reply("Log in", 401, headers={"WWW-Authenticate": 'Basic realm="Administration"'})
    if request.path == "/.git/HEAD":
        return Reply("ref: refs/heads/main\n", content_type="text/plain")
    if request.path == "/dump.sql":
        return Reply(_DUMP, content_type="application/sql")
    if request.path in _PAGES:
        return Reply(_PAGES[request.path])
    return Reply("Not found", 404)


def _api(request: Request) -> Reply:
    if request.method not in ("GET", "HEAD"):
        return Reply("Method not allowed", 405)
    if request.path == "/":
        return Reply('<h1>API</h1><a href="/api/profile">Profile</a>')
    if request.path == "/api/profile":
        origin = request.headers.get("Origin", "")
        shared = {"Access-Control-Allow-Origin": origin, "Access-Control-Allow-Credentials": "true"} if origin else {}
        return Reply('{"name": "Demo"}', content_type="application/json", headers=shared)
    return Reply("Not found", 404)


def _redis(reader: BinaryIO, writer: BinaryIO) -> None:
    for _ in range(100):
        line = reader.readline(1000)
        words = line.split()
        if not line or (words and words[0].lower() in (b"quit", b"host:", b"post")):
            return
        if words and words[0].lower() == b"ping":
            writer.write(b"+PONG\r\n")
        elif words and words[0].lower() == b"info":
            info = b"# Server\r\nredis_version:6.0.16\r\n"
            writer.write(b"$%d\r\n%s\r\n" % (len(info), info))
        else:
            writer.write(b"-ERR unknown command\r\n")


def _ancient_context(directory: Path, address: str) -> ssl.SSLContext:
    key = make_key(1024)
    context = server_context(directory, key, make_certificate(key, address, None))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the flaw is planted on purpose
        context.minimum_version = ssl.TLSVersion.TLSv1
    context.set_ciphers("ECDHE:!aNULL:!eNULL:@SECLEVEL=0")
    return context


def make_servers(
    address: str, ports: dict[str, int], directory: Path, authority: Authority, lifetime: Lifetime
) -> dict[str, WebServer | LineServer]:
    portal = SiteApp(_portal, {}, server="Apache/2.4.49 (Unix)")
    context = _ancient_context(directory, address)
    return {
        "http": WebServer((address, ports["http"]), portal, lifetime),
        "https": WebServer((address, ports["https"]), SiteApp(_api, GOOD_HEADERS), lifetime, context),
        "redis": LineServer((address, ports["redis"]), _redis, lifetime),
    }
