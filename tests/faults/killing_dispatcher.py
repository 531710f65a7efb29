"""``python -m tests.faults.killing_dispatcher before``: one that dies by SIGKILL as it hands over its first task."""

import os
import signal
import sys
from functools import wraps

import django


def at(moment: str) -> None:
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
    at(sys.argv[1])
    from django.core.management import call_command

    call_command("dispatch", once=True)
