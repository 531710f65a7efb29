"""An installation with its processes, two tenants that ask for scans, and what becomes of them."""

import time
from contextlib import ExitStack

from scans.models import Finding, Occurrence, Scan, ScanEvent, ScanProfile, ScanRun, TaskQueue
from tenants.context import login_context, tenant_context
from tests.faults.accounting import violations
from tests.faults.client import Client
from tests.faults.processes import Processes, wait_until
from tests.faults.target import SlowTarget

WRITTEN = (Scan, ScanEvent, TaskQueue, ScanRun, Finding, Occurrence)
PEOPLE = {"acme": "alice", "globex": "mallory"}
ME = "/api/v1/me/"
EIGHT_THREADS = {"dispatchers": 0, "workers": 0, "BULKHEAD_THREADS": "8"}  # as many as these web servers have


def heard_by(client: Client, path: str = ME) -> tuple[int, str | None, float, float]:
    """Status, code, when it was asked and how long it took."""
    began_at = time.monotonic()
    status, body = client.ask("GET", path)
    return status, body.get("code"), began_at, time.monotonic() - began_at


class Service:
    def __init__(self, installation, redis):
        self.installation, self.redis = installation, redis
        self._stack = ExitStack()

    def __enter__(self) -> "Service":
        return self

    def __exit__(self, *error) -> None:
        self._stack.close()

    def start(self, *, seconds: float = 0.3, profile: dict | None = None, **options) -> None:
        """``seconds`` is how long the target waits before it speaks; the rest is for ``Processes``."""
        self.processes = self._stack.enter_context(Processes(self.installation, self.redis, **options))
        self.targets = {slug: self._stack.enter_context(SlowTarget(seconds)) for slug in PEOPLE}
        self.clients = {
            slug: Client(slug, username, self.processes.port, self.targets[slug].port)
            for slug, username in PEOPLE.items()
        }
        if profile:
            with tenant_context("acme"):
                ScanProfile.objects.filter(name="ports").update(engines=profile)

    def ask(self, slug: str = "acme", count: int = 1) -> None:
        client = self.clients[slug]
        for _ in range(count):
            client.ask_until_accepted(f"order-{len(client.accepted)}")
        assert client.faults == []

    def wait_for_end(self, seconds: float = 60) -> float:
        """How long it took until every scan had ended. A process that ends by itself is started again, and counted."""
        began_at = time.monotonic()

        def is_quiet() -> bool:
            self.processes.restart_what_ended()
            return not any(each.open_scans() for each in self.clients.values())

        assert wait_until(is_quiet, seconds), (
            f"{[each.open_scans() for each in self.clients.values()]}\n{self.processes.last_words()}"
        )
        return time.monotonic() - began_at

    def assert_all_once(self, slug: str = "acme", engines_killed: int = 0) -> None:
        """Every scan that was accepted ended once, and was recorded once."""
        assert wait_until(lambda: not self.processes.engines(), 5), "an engine is left"
        assert violations(self.clients[slug], self.targets[slug], engines_killed) == []

    def ended_too(self) -> str:
        ended = [each.partition("-")[0] for each in self.processes.ended_by_themselves]
        return f"; ended too, and was started again: {', '.join(ended)}" if ended else ""

    def states(self, slug: str = "acme") -> list[tuple[str, str]]:
        with login_context(slug):
            return list(Scan.objects.order_by("number").values_list("state", "reason"))

    def wait_for_engine(self, seconds: float = 30) -> int:
        """An engine that has asked its target."""
        assert wait_until(lambda: any(target.connections >= 2 for target in self.targets.values()), seconds)
        [engine] = wait_until(self.processes.engines, 5)
        return engine

    def written(self, slug: str = "acme") -> list:
        """Every row that a worker or dispatcher may write."""
        with login_context(slug):
            return [list(model.objects.order_by("pk").values_list()) for model in WRITTEN]

    def leases(self, slug: str = "acme") -> list[int]:
        with tenant_context(slug):
            return list(ScanEvent.objects.filter(state="running").order_by("pk").values_list("fence", flat=True))

    def dispatches(self, slug: str = "acme") -> list[int]:
        with tenant_context(slug):
            return list(TaskQueue.objects.order_by("pk").values_list("dispatches", flat=True))

    def seconds_until(self, condition, seconds: float = 60) -> float:
        began_at = time.monotonic()
        assert wait_until(condition, seconds), f"not within {seconds} s; {self.states()}"
        return time.monotonic() - began_at
