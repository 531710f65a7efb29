"""What tests of scans share: a weak target that runs, its authorisation, a scan, and real workers to run it."""

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.utils import timezone

from scans.dispatch import run_dispatcher
from scans.models import Authorization, Scan, ScanProfile, Target, TaskQueue
from scans.services import request_scan
from tenants.connections import close_tenant_connections
from tenants.context import tenant_context

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def weak_target(name, directory, *options):
    """The running target as its ready line describes it: address, ports by service, ca_pem."""
    argv = [
        sys.executable,
        "-m",
        "scans.weak_targets",
        name,
        "--directory",
        str(directory),
        "--port-base",
        "0",
        *options,
    ]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield json.loads(process.stdout.readline()) | {"process": process}
        finally:
            process.kill()


def make_target(user, ready, **fields):
    """Inside its tenant: an authorised target for a running weak one."""
    target = Target.objects.create(
        name=ready["name"],
        host=ready["address"],
        ports=sorted(ready["ports"].values()),
        ca_pem=ready["ca_pem"],
        created_by=user,
        **fields,
    )
    authorize(user, target)
    return target


def authorize(user, target, **fields):
    return Authorization.objects.create(
        target=target,
        statement="It is ours.",
        created_by=user,
        **{"expires_at": timezone.now() + timedelta(days=1)} | fields,
    )


def make_profile(*engines):
    return ScanProfile.objects.create(name="-".join(engines), engines={engine: {} for engine in engines})


def request(user, target, *engines):
    profile = ScanProfile.objects.filter(name="-".join(engines)).first() or make_profile(*engines)
    return request_scan(target=target, profile=profile, user=user)


def environment(**extra):
    """For a process of this test's installation."""
    control = settings.DATABASES["control"]
    url = f"sqlite:///{control['NAME']}"
    if control["ENGINE"].endswith("mysql"):
        url = f"mysql://{control['USER']}:{control['PASSWORD']!s}@{control['HOST']}:{control['PORT']}/{control['NAME']}"
    return os.environ | {
        "BULKHEAD_HOME": str(settings.BULKHEAD_HOME),
        "BULKHEAD_RUNTIME_KEY_FILE": str(settings.BULKHEAD_KEYS["runtime"].path),
        "BULKHEAD_FLEET_KEY_FILE": str(settings.BULKHEAD_KEYS["fleet"].path),
        "DATABASE_URL": url,
        "REDIS_URL": settings.RQ_QUEUES["default"]["URL"],
        "PYTHONWARNINGS": "default",
        **extra,
    }


def start(*argv, **extra):
    """A ``manage.py`` process in a group of its own. End it with ``end``."""
    return subprocess.Popen(
        [sys.executable, "manage.py", *argv],
        cwd=ROOT,
        env=environment(**extra),
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def manage(*argv, timeout=60, **extra):
    done = subprocess.run(
        [sys.executable, "manage.py", *argv],
        cwd=ROOT,
        env=environment(**extra),
        timeout=timeout,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def dispatch_and_work():
    """One dispatcher's sweep and one worker, each a real process, until nothing is left to do."""
    return manage("dispatch", "--once") + manage("worker", "--burst")


@contextmanager
def dispatching():
    """A dispatcher in a thread, so that what it stands on can be replaced."""
    stop = threading.Event()

    def work():
        try:
            run_dispatcher(stop.is_set)
        finally:
            close_tenant_connections()

    dispatcher = threading.Thread(target=work)
    dispatcher.start()
    try:
        yield
    finally:
        stop.set()
        dispatcher.join(60)


def wait_until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError(f"Not within {seconds} s: {condition}")


def make_due(slug):
    """What the passing of time would do: every open task may be taken over now."""
    with tenant_context(slug):
        past = timezone.now() - timedelta(seconds=1)
        TaskQueue.objects.filter(handled_at=None).update(available_at=past)
        TaskQueue.objects.filter(handled_at=None).exclude(lease_until=None).update(lease_until=past)


def state_of(slug, scan):
    with tenant_context(slug):
        return Scan.objects.values_list("state", "reason").get(pk=scan.pk)
