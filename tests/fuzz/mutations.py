"""What no schema describes: requests that are broken on purpose, each made of one that is whole."""

import json
from random import Random
from typing import Any

# Raw JSON, in the place of one of a body's values.
VALUES = [
    r'"\u0000"', r'"a\u0000b"', r'"\ud800"', r'"\udc00\ud800"', r'"\u202e\ufeff"', '"' + "x" * 70_000 + '"', '""',
    "1" + "0" * 400, "1" + "0" * 5000, "-1", "1e999", "1e-999", "NaN", "-Infinity", "9223372036854775808", "0.1",
    "true", "null", "[]", "{}", "[[]]", "[" * 10 + "]" * 10, "[" * 500 + "]" * 500, '{"a":' * 12 + "1" + "}" * 12,
    '"\' OR 1=1 --"', '{"$gt": ""}', '"=cmd()"', '"../../etc/passwd"', '"2026-02-30T25:61:61Z"',
    '"0001-01-01T00:00:00Z"',
    '"9999-12-31T23:59:59-12:00"', '"00000000-0000-0000-0000-000000000000"', '"127.1"', '"[::1%25lo]"', '"{{7*7}}"',
]  # fmt: skip
BYTES = {
    "cut short": lambda body: body[:-1],
    "twice": lambda body: body * 2,
    "nothing": lambda body: b"",
    "UTF-16": lambda body: body.decode().encode("utf-16"),
    "a byte order mark": lambda body: b"\xef\xbb\xbf" + body,
    "not UTF-8": lambda body: body.replace(b'"', b'"\xff', 1),
    "a surrogate in UTF-8": lambda body: body.replace(b'"', b'"\xed\xa0\x80', 1),
    "a raw NUL": lambda body: body.replace(b'"', b'"\x00', 1),
    "a list of it": lambda body: b"[" + body + b"]",
    "the same member twice": lambda body: body.replace(b"{", b'{"name": 1, "name": 2, ', 1),
    "100,000 levels": lambda body: b"[" * 100_000,
    "too large": lambda body: body + b" " * 262_145,
    "a gzip header and no gzip": lambda body: b"\x1f\x8b\x08\x00" + body,
}
TYPES = [
    "text/plain", "application/xml", "application/x-www-form-urlencoded", "multipart/form-data",
    "multipart/form-data; boundary=x", "application/json; charset=utf-16", "application/json; charset=rot13", "*/*",
    "application/json; charset=utf-8; charset=utf-7", "application/merge-patch+json", "é", "application/json, a/b", "/",
    "application/json; x*=idna''%ff",
]  # fmt: skip
HEADERS = [
    {"Accept": "text/html"}, {"Accept": "*/*;q=é"}, {"Accept": "application/json;v=" + "9" * 4000}, {"Accept": ""},
    {"X-Tenant": "{other}"}, {"X-Forwarded-Host": "{other}.example"}, {"X-Request-ID": "{other} \t'\"<"},
    {"X-HTTP-Method-Override": "DELETE"}, {"Content-Encoding": "gzip"},
    {"Cookie": "sessionid_{other}=x; csrftoken=\"\\"},
    {"Range": "bytes=0-0,-1"}, {"If-None-Match": "*"}, {"If-Modified-Since": "é"}, {"Accept-Language": "é;q=é,{other}"},
    {"Referer": "http://{other}/"}, {"Origin": "null"}, {"X-Forwarded-For": "::1, {other}"}, {"Forwarded": "for=é;by="},
    {"Accept-Encoding": "gzip;q=é, br"}, {"Cookie": "é=\"\\777\"; ;;="},
]  # fmt: skip
QUERIES = [
    "limit=0", "limit=-1", "limit=1e9", "limit=99999999999999999999999", "limit=1&limit=2", "offset=%00",
    "offset=%EF%BC%91", "limit[]=1", "%00=%00", "%ff=%ff", "=", "&&&", "id=%27%20OR%201", "format=api",
    "format=xml", "tenant={other}",
    "a" * 3000, "ordering=-created_by__password", "search=%ED%A0%80", "target=null", "state=%00", "severity=",
    "scan=" + "f" * 500,
    "target__created_by__password__startswith=a", "fields=*", "_method=DELETE", "using={other}",
    "cursor=eyJhIjoxfQ%3D%3D",
]  # fmt: skip
METHODS = ["HEAD", "OPTIONS", "TRACE", "PROPFIND", "PUT", "PATCH", "DELETE", "POST", "GET", "BREW", "get"]
SEGMENTS = ["%00", "%ff", "%2e%2e", "%2F", "é", "x" * 2000, "{other}", "%", "..;", "0000"]


WITH_BODY = {"value": VALUES, "bytes": list(BYTES), "type": TYPES}
WITHOUT_BODY = {"header": HEADERS, "query": QUERIES, "method": METHODS, "segment": SEGMENTS}
NOT_DESCRIBED = ("method", "segment")  # they lead to another operation, or to none


def breakages(has_body: bool) -> list[tuple[str, Any]]:
    """Each in which a request can be broken."""
    ways = WITH_BODY | WITHOUT_BODY if has_body else WITHOUT_BODY
    return [(way, what) for way, all_of_it in ways.items() for what in all_of_it]


def broken(
    breakage: tuple[str, Any], chance: Random, prepared: dict[str, Any], body: dict | None, other: str
) -> dict[str, Any]:
    """The request, broken so; ``chance`` says where."""
    way, what = breakage
    change: dict[str, Any] = {}
    if way == "value":
        change["data"] = _with_raw_value(chance, body or {}, what)
    elif way == "bytes":
        change["data"] = BYTES[what](json.dumps(body).encode())
    elif way == "type":
        change["headers"] = prepared["headers"] | {"Content-Type": what}
    elif way == "header":
        change["headers"] = prepared["headers"] | {name: each.format(other=other) for name, each in what.items()}
    elif way == "query":
        change["url"] = prepared["url"].partition("?")[0] + "?" + what.format(other=other)
    elif way == "method":
        change["method"] = what
    else:
        change["url"] = _with_segment(chance, prepared["url"], what.format(other=other))
    headers = change.get("headers", prepared["headers"])
    change["headers"] = {name: each.encode() for name, each in headers.items()}  # requests would have latin-1
    return prepared | change


def _with_raw_value(chance: Random, body: dict, value: str) -> bytes:
    members = {json.dumps(name): json.dumps(value) for name, value in body.items()} or {'"a"': "1"}
    members[chance.choice(sorted(members))] = value
    return ("{" + ", ".join(f"{name}: {value}" for name, value in members.items()) + "}").encode()


def _with_segment(chance: Random, url: str, segment: str) -> str:
    """Behind ``/api/v1/``: what is in front of it is no operation's."""
    base, mark, path = url.partition("/api/v1/")
    segments = path.partition("?")[0].split("/")
    segments[chance.randrange(len(segments))] = segment
    return base + mark + "/".join(segments)
