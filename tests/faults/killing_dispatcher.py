"""
``python -m tests.faults.killing_dispatcher before``: one that dies by SIGKILL as it hands over its first task; or,
``inside``, that is stopped inside the transaction of its first claim, which the server may let idle for 1 s here. What
it claims and does not send is sent again as soon as in ``shortened``.
"""

import os
import signal
import sys
from functools import wraps

import django

from tests.faults.shortened import FACTOR


def shorten() -> None:
    from scans import leases
    from tenants.backends.mysql import base

    leases.REDISPATCH_SECONDS //= FACTOR
    base.IDLE_TRANSACTION_TIMEOUT //= FACTOR


def stop_inside() -> None:
    from scans import leases

    has_room_to_send = leases.has_room_to_send

    def stopping():
        leases.has_room_to_send = has_room_to_send
        os.kill(os.getpid(), signal.SIGSTOP)
        return has_room_to_send()

    leases.has_room_to_send = stopping


def kill_at(moment: str) -> None:
    from tenants.jobs import TenantQueue

    enqueue_job = TenantQueue.enqueue_job

    @wraps(enqueue_job)
    def killing(*args, **kwargs):
        if moment == "after":
            enqueue_job(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)

    TenantQueue.enqueue_job = killing


if __name__ == "__main__":
    django.setup()
    shorten()
    stop_inside() if sys.argv[1] == "inside" else kill_at(sys.argv[1])
    from django.core.management import call_command

    call_command("dispatch", once=True)
