"""
``python -m tests.scans.killing_worker POINT``: a worker that is killed, with its child, at a point of its first scan.

SIGKILL runs no handler and no finally: what the points show is what a power cut or the kernel's memory killer leaves.
"""

import os
import signal
import sys
from functools import wraps
from itertools import count

import django

django.setup()

import django_rq  # noqa: E402

from scans import jobs  # noqa: E402
from scans.engines.base import FindingEvent, Progress  # noqa: E402
from scans.leases import Lease  # noqa: E402
from tenants.workers import TenantWorker  # noqa: E402


def kill():
    """The child first stops its worker from ever hearing of its end."""
    os.kill(os.getppid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def pause():
    os.kill(os.getpid(), signal.SIGSTOP)


def before(owner, name, nth=1):
    function, calls = getattr(owner, name), count(1)

    @wraps(function)
    def acting(*args, **kwargs):
        if next(calls) == nth:
            kill()
        return function(*args, **kwargs)

    setattr(owner, name, acting)


def after(owner, name):
    function = getattr(owner, name)

    @wraps(function)
    def killing(*args, **kwargs):
        function(*args, **kwargs)
        kill()

    setattr(owner, name, killing)


def at_event(nth, kind, act):
    """Before the nth event of this kind reaches the code that records it: in no transaction."""
    run_engine, calls = jobs.run_engine, count(1)

    @wraps(run_engine)
    def acting(*args, **kwargs):
        for event in run_engine(*args, **kwargs):
            if isinstance(event, kind) and next(calls) == nth:
                act()
            yield event

    jobs.run_engine = acting


POINTS = {
    "before the lease": lambda: before(jobs, "take_lease"),
    "after the lease": lambda: after(jobs, "take_lease"),
    "mid-engine": lambda: at_event(2, Progress, kill),
    "between two findings": lambda: before(jobs, "record_finding", nth=2),
    "before the release": lambda: before(Lease, "finish"),
}
PAUSES = {"paused between two findings": lambda: at_event(2, FindingEvent, pause)}

if __name__ == "__main__":
    (POINTS | PAUSES)[sys.argv[1]]()
    TenantWorker([django_rq.get_queue("default")], connection=django_rq.get_connection("default")).work(burst=True)
