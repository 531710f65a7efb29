"""A member's script: it asks for scans, and asks again with the same key when an answer is broken."""

import http.client
import json
import threading
import time
from random import Random

from django.contrib.auth import get_user_model

from scans.models import Scan, ScanProfile
from tenants.connections import close_tenant_connections
from tenants.context import tenant_context
from tenants.tokens import TenantRefreshToken
from tests.scans.rows import authorize, make_target

TRIES = 200
OPEN_SCANS = 4  # no more at a time of each client


class Client:
    def __init__(self, slug: str, username: str, port: int, target_port: int):
        self.slug, self.port = slug, port
        self.accepted: dict[str, str] = {}  # the scan by its key
        self.tries = 0
        self.faults: list[str] = []
        self.asks, self.has_answer = threading.Event(), threading.Event()
        self._stop = threading.Event()
        self._username = username
        with tenant_context(slug):
            user = get_user_model().objects.get(username=username)
            target = make_target(user, host="127.0.0.1", ports=[target_port])
            authorize(target, user)
            profile = ScanProfile.objects.get_or_create(name="ports", defaults={"engines": {"ports": {}}})[0]
            self.body = {"target": str(target.pk), "profile": str(profile.pk)}
        self.renew_token()

    def renew_token(self) -> None:
        with tenant_context(self.slug):
            user = get_user_model().objects.get(username=self._username)
            self._token = str(TenantRefreshToken.for_user(user).access_token)

    def start(self, seed: str) -> None:
        self.renew_token()
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, args=(Random(seed),), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(120)
        if self._thread.is_alive():
            self.faults.append(f"{self.slug}: a request is not answered")

    def open_scans(self) -> list[tuple[int, str]]:
        with tenant_context(self.slug):
            return list(Scan.objects.exclude(state__in=Scan.ENDED).values_list("number", "state"))

    def _run(self, random: Random) -> None:
        try:
            while not self._stop.wait(random.uniform(0.02, 0.3)):
                if len(self.open_scans()) < OPEN_SCANS:
                    self.ask_until_accepted(f"order-{len(self.accepted)}")
        except Exception as error:
            self.faults.append(f"{self.slug}: the client failed: {error!r}")
        finally:
            close_tenant_connections()

    def ask_until_accepted(self, key: str) -> None:
        last: object = None
        for _ in range(TRIES):
            self.tries += 1
            self.asks.set()
            try:
                status, scan = self.ask("POST", "/api/v1/scans/", self.body, {"Idempotency-Key": key})
            except (OSError, http.client.HTTPException, ValueError) as error:
                last = error
            else:
                if status == 202:
                    self.accepted[key] = scan["id"]
                    self.has_answer.set()
                    return
                last = f"{status} {scan}"
                if status < 500:
                    break
            time.sleep(0.1)
        self.faults.append(f"{self.slug}: {key} was not accepted: {last}")

    def ask(self, method: str, path: str, body: object = None, headers: dict | None = None) -> tuple[int, dict]:
        """Status and JSON of one request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            sent = {"Content-Type": "application/json", "Authorization": f"Bearer {self._token}", **(headers or {})}
            connection.request(method, path, None if body is None else json.dumps(body), sent)
            response = connection.getresponse()
            return response.status, json.loads(response.read() or "null")
        finally:
            connection.close()
