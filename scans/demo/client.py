"""A member's side of the REST API: what a customer's own script would do."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from scans.demo.processes import SIGN_OF_LIFE_SECONDS


class Refused(Exception):
    def __init__(self, status: int, body: Any):
        super().__init__(f"{status} {body}")
        self.status = status
        self.body = body


@dataclass
class Client:
    base: str
    token: str = field(default="", repr=False)

    def log_in(self, tenant: str, username: str, password: str) -> None:
        pair = self.post("token/", {"tenant": tenant, "username": username, "password": password})
        self.token = pair["access"]

    def get(self, path: str) -> Any:
        return json.loads(self._send("GET", path))

    def text(self, path: str) -> str:
        return self._send("GET", path).decode()

    def post(self, path: str, body: dict[str, Any]) -> Any:
        return json.loads(self._send("POST", path, json.dumps(body).encode()))

    def all(self, path: str) -> list[dict[str, Any]]:
        """Every page of a list."""
        rows: list[dict[str, Any]] = []
        while True:
            page = self.get(f"{path}{'&' if '?' in path else '?'}limit=200&offset={len(rows)}")
            rows += page["results"]
            if page["next"] is None:
                return rows

    def _send(self, method: str, path: str, body: bytes | None = None) -> bytes:
        headers = {"Content-Type": "application/json"} | (
            {"Authorization": f"Bearer {self.token}"} if self.token else {}
        )
        request = urllib.request.Request(f"{self.base}/api/v1/{path}", body, headers, method=method)  # noqa: S310  http
        try:
            with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
                return response.read()
        except urllib.error.HTTPError as error:
            with error:
                raise Refused(error.code, json.loads(error.read() or b"{}")) from None


def is_serving(base: str) -> bool:
    try:
        with urllib.request.urlopen(f"{base}/readyz", timeout=1) as response:  # noqa: S310
            return response.status == 200
    except OSError:
        return False


def wait_until_serving(base: str, seconds: int, say: Callable[[str], None], require_alive: Callable[[], None]) -> None:
    """By the clock and not by the number of tries: one that listens, and does not answer yet, makes a try long."""
    started_at = said_at = time.monotonic()
    while not is_serving(base):
        require_alive()
        now = time.monotonic()
        if now - started_at > seconds:
            raise TimeoutError(f"{base} does not answer after {seconds} s")
        if now - said_at > SIGN_OF_LIFE_SECONDS:
            said_at = now
            say(f"    ... the web server starts ({now - started_at:.0f} s)")
        time.sleep(0.1)
