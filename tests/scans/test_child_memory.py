"""An engine's child, and what it executes, hold nothing that its worker holds: read from their memory."""

import base64
import os
import secrets
import signal
import threading
from pathlib import Path

import pytest
from django.conf import settings

from scans.engines.runner import CHILD
from tenants.context import tenant_context
from tenants.registry import registry
from tests.config.redis_server import PASSWORD as REDIS_PASSWORD
from tests.config.redis_server import RedisWithAccounts
from tests.scans.engines import servers
from tests.scans.memory import descendants, found_in, open_files
from tests.scans.scanning import make_target, manage, request, start, wait_until

ROW = f"row-{secrets.token_hex(16)}"


@pytest.fixture
def stalled():
    """A server that accepts, and then says nothing until the test is over."""
    over = threading.Event()
    with servers.raw(lambda connection: over.wait(60)) as port:
        yield {"name": ROW, "address": servers.ADDRESS, "ports": {"http": port}, "ca_pem": ""}
        over.set()


@pytest.fixture
def redis_url(tmp_path):
    with RedisWithAccounts(tmp_path / "redis") as server:
        yield server.url_of("worker"), server.url_of("dispatch")


@pytest.fixture
def at_work(alice, stalled, redis_url, engine):
    """The pids of a work-horse, its engine's child and what that has executed, all but the first one stopped."""
    for_worker, for_dispatcher = redis_url
    with tenant_context("acme"):
        request(alice, make_target(alice, stalled), engine)
    manage("dispatch", "--once", REDIS_URL=for_dispatcher)
    worker = start("worker", REDIS_URL=for_worker)
    family = []
    try:
        family = wait_until(lambda: running(worker.pid, engine))
        for pid in family[1:]:
            os.kill(pid, signal.SIGSTOP)
        yield family
    finally:
        for pid in [worker.pid, *family]:
            os.kill(pid, signal.SIGKILL)
        worker.communicate()


def running(worker, engine):
    """Once what the engine runs as has a connection to its target; before that ``None``."""
    try:
        horse, *below = descendants(worker) or [0]
        children = [pid for pid in below if str(CHILD).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()]
        executed = [pid for pid in below if os.readlink(f"/proc/{pid}/exe").endswith("/nmap")]
        asking = (executed if engine == "nmap" else children)[-1:]
        is_asking = any(connections(pid) for pid in asking)
    except (FileNotFoundError, ProcessLookupError):  # one has ended by now: nmap says its version first
        return None
    return [horse, *children, *executed] if is_asking else None


def planted(installation, acme):
    """What a worker has in its memory while it runs a scan of acme."""
    runtime_key = settings.BULKHEAD_KEYS["runtime"].path.read_text().strip()
    record = registry.get(acme.id)
    needles = {
        "the runtime key": base64.b64decode(runtime_key),
        "acme's signing key": record.signing_keys[record.signing_number].encode(),
        "the password at Redis": REDIS_PASSWORD.encode(),
        "a row of acme's": ROW.encode(),
    }
    if installation.engine == "mysql":
        needles["the password of acme's database"] = str(record.runtime_database["PASSWORD"]).encode()
        needles["the password of control"] = str(settings.DATABASES["control"]["PASSWORD"]).encode()
    return needles


@pytest.mark.parametrize("engine", ["http", "nmap"])
def test_no_secret_row_or_connection_of_the_worker_is_in_its_engines_processes(installation, acme, at_work, engine):
    needles = planted(installation, acme)
    horse, *engines = at_work

    assert connections(horse)
    assert found_in(horse, needles) == set(needles)  # the reader finds what is there
    assert len(engines) == {"http": 1, "nmap": 2}[engine]
    for pid in engines:
        assert found_in(pid, needles | {"the fleet key": fleet_key()}) == set()
        assert not connections(pid) & connections(horse)
        assert not any(str(installation.home) in link for link in open_files(pid))


def connections(pid):
    return {link for link in open_files(pid) if link.startswith("socket:")}


def fleet_key():
    return base64.b64decode(settings.BULKHEAD_KEYS["fleet"].path.read_text().strip())
