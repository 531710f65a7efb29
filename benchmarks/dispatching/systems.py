"""What is compared: processes that wait, and a way to ask them for a job. All run it in a process of its own."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from django.conf import settings
from django.db import transaction
from redis import Redis
from rq import Queue

from benchmarks.dispatching.starts import note
from benchmarks.isolation.rows.models import Outbox
from scans.models import ScanProfile, Target, TaskQueue
from scans.services import request_scan
from tenants.accounts.models import User
from tenants.context import tenant_context

WORKERS = 4
SETTLED = 0.5  # until nothing is under way that would be stopped with a lock on a tenant's database
redis = Redis.from_url(os.environ["REDIS_URL"])


class System:
    """Processes that are stopped while another system is measured."""

    def __init__(self, stack: ExitStack, *commands: tuple[str, ...]):
        self.processes = [_start(stack, *command) for command in commands]

    def set_running(self, is_running: bool) -> None:
        for process in self.processes:
            process.send_signal(signal.SIGCONT if is_running else signal.SIGSTOP)

    def __enter__(self) -> "System":
        self.set_running(True)
        return self

    def __exit__(self, *error) -> None:
        time.sleep(SETTLED)
        self.set_running(False)

    def ask(self, slug: str) -> tuple[str, float]:
        """The message, and when what asks for it was committed."""
        raise NotImplementedError


class Product(System):
    ended = "ended"

    def __init__(self, stack: ExitStack, workers: int = WORKERS):
        module = "benchmarks.dispatching.processes"
        super().__init__(stack, (module, "dispatch"), *[(module, "worker")] * workers)

    def ask(self, slug):
        at = []
        with tenant_context(slug), transaction.atomic():
            transaction.on_commit(lambda: at.append(time.time()))  # before those that wake anybody
            scan = request_scan(
                target=Target.objects.get(), profile=ScanProfile.objects.get(name="standard"), user=User.objects.get()
            )
            message = str(TaskQueue.objects.get(task_id=scan.number).message_id)
        return message, at[0]


class Stock(System):
    """RQ as it comes: a worker forks for each job."""

    ended = "started"

    def __init__(self, stack: ExitStack, name: str, *dispatcher: tuple[str, ...], workers: int = WORKERS):
        self.queue = Queue(name, connection=redis)
        super().__init__(stack, *dispatcher, *[("benchmarks.dispatching.processes", "stock", name)] * workers)


class Direct(Stock):
    """Whoever asks puts the job into the queue, once its row is committed."""

    def __init__(self, stack: ExitStack, workers: int = WORKERS):
        super().__init__(stack, "direct", workers=workers)

    def ask(self, slug):
        at = []
        with tenant_context(slug), transaction.atomic():
            row = Outbox.objects.create(message="", is_sent=True)
            transaction.on_commit(lambda: at.append(time.time()))
            transaction.on_commit(lambda: self.queue.enqueue(note, str(row.pk)))
        return str(row.pk), at[0]


class Sweep(Stock):
    """Whoever asks writes a row; a dispatcher looks for it."""

    def __init__(self, stack: ExitStack, library: str):
        self._turn = stack.enter_context(Path(os.environ["BENCHMARK_STARTS"] + library).open("w"))  # noqa: SIM115  the stack closes it
        super().__init__(stack, library, ("benchmarks.dispatching.sweeping", library))

    def set_running(self, is_running):
        """Between two sweeps: else it might have a lock."""
        fcntl.flock(self._turn, fcntl.LOCK_UN if is_running else fcntl.LOCK_EX)

    def ask(self, slug):
        at = []
        with tenant_context(slug), transaction.atomic():
            row = Outbox(is_sent=False)
            row.message = str(row.pk)
            row.save(force_insert=True)
            transaction.on_commit(lambda: at.append(time.time()))
        return row.message, at[0]


def _start(stack: ExitStack, module: str, *arguments: str) -> subprocess.Popen:
    plain = {"DJANGO_SETTINGS_MODULE": "benchmarks.isolation.plain_settings"} if "sweeping" in module else {}
    command = [sys.executable, "-m", module, *arguments]
    log = (settings.BULKHEAD_HOME / f"{'-'.join(arguments)}.log").open("ab")
    process = stack.enter_context(
        subprocess.Popen(
            ["/usr/bin/setpriv", "--pdeathsig", "KILL", *command], env=os.environ | plain, stdout=log, stderr=log
        )
    )
    stack.callback(process.kill)
    return process


def what_to_scan() -> dict:
    profile = ScanProfile.objects.get(name="standard")
    return {"target": Target.objects.get(), "profile": profile, "user": User.objects.get()}
